"""Comparisons of rollouts that are there, through the command line: imported, own, and once more."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prunebench.bench.evaluation.results import Results
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.rollouts.stored_config import config_of
from tests.bench.conftest import refused


@pytest.fixture
def imported(prunebench, source, tmp_path):
    code, out, err = prunebench("import", "plain", source, "--out", tmp_path / "store")
    assert (code, err.count("prunebench:")) == (0, 0)
    assert "imported 3 problems with 24 paths" in out
    return tmp_path / "store"


def test_imported_rollouts_are_compared_without_a_model(prunebench, imported, tmp_path):
    code, out, _ = prunebench("compare", "--store", imported, "--prefix", 4, "--k", 2, "--out", tmp_path / "out")
    assert code == 0
    results = Results.read(tmp_path / "out" / "results.json")
    rows = {row.method: row for row in results.rows}
    # 5, 2 and 8 of 8 are right
    assert rows["none"]["avg_at_k"].mean == pytest.approx(100 * 15 / 24)
    # votes: 7 wins q0, 1 wins q1, 4 wins q2
    assert rows["none"]["maj_at_k"].mean == pytest.approx(200 / 3)
    assert rows["esc"]["avg_at_k"].mean > 0
    assert rows["adaptive-consistency"]["tokens"].mean <= rows["none"]["tokens"].mean
    assert {"slim-sc", "length", "oracle", "random"} <= set(rows)
    assert "needs the signal 'entropy', which mine/q0 does not hold" in results.left_out["entropy"]
    assert "learns from continuations" in results.left_out["stop"]
    assert "name one: --judge prm=" in results.left_out["prm"]
    assert (rows["none"].n, rows["length"].k, rows["length"].prefix_tokens) == (8, 2, 4)
    assert {row.method for row in results.equal_cost} >= {"none", "esc", "adaptive-consistency"}
    for file in ("ledger.csv", "timings.csv", "equal_cost_table.md", "vote_table.csv", "main_table.tex"):
        assert (tmp_path / "out" / file).exists()
    assert "left out: entropy" in out


def test_a_method_that_is_asked_for_and_cannot_run_is_refused(prunebench, imported):
    assert "learns from continuations" in refused(prunebench("compare", "--store", imported, "--methods", "stop"))


def test_fewer_paths_than_stored_give_a_draw_spread(prunebench, imported, tmp_path):
    code, _, _ = prunebench("compare", "--store", imported, "--n", 2, "--k", 1, "--prefix", 4, "--out", tmp_path / "o")
    assert code == 0
    rows = {row.method: row for row in Results.read(tmp_path / "o" / "results.json").rows}
    assert rows["none"].n == 2 and rows["none"]["draw_spread"].mean > 0
    assert rows["none"]["avg_at_k"].mean == pytest.approx(100 * (2 + 1 + 2) / 6), "the first two of every problem"


def test_defaults_come_from_the_store(imported):
    config = config_of(imported)
    # words of a path: i + 4, and the four pieces of \boxed{answer} with the space in front of it
    mean = np.mean([path.length for stored in RolloutStore.open(imported).read() for path in stored.paths])
    assert (config.n, config.k, config.problems, config.tasks) == (8, 1, 3, ("mine",))
    assert config.prefix_tokens == int(mean / 2), "they begin alike"


def test_the_recorded_checkpoint_is_the_default_and_every_choice_is_told(prunebench, imported, tmp_path):
    manifest = imported / "manifest.json"
    content = json.loads(manifest.read_text())
    for recorded, chosen, told in (
        (5, 5, "L = 5 tokens: the checkpoint that the store was recorded for (another one: --prefix)"),
        (
            500,
            6,
            "L = 6 words: half of the mean path, as every path ends before the 500 that were recorded for; earlier",
        ),
        (0, 6, "half of the mean path, as the store records none; earlier most paths of a problem are the same"),
    ):
        manifest.write_text(json.dumps(content | {"recording": {"launch_tokens": recorded}}))
        out = tmp_path / f"{recorded}"
        code, said, _ = prunebench("compare", "--store", imported, "--methods", "length,none", "--out", out)
        assert code == 0 and told in said
        assert "N = 8 paths: what every problem has (another one: --n)" in said
        assert "k = 1: an eighth of N (another one: --k)" in said
        results = Results.read(out / "results.json")
        assert results.rows[0].prefix_tokens == chosen
        notes = " ".join(note.text for note in results.notes)
        assert "tokens are words here" in notes
    given = ("--prefix", 3, "--n", 4, "--k", 2)
    _, said, _ = prunebench("compare", "--store", imported, "--methods", "length,none", *given, "--out", tmp_path / "o")
    assert "another one:" not in said


def test_one_short_problem_is_left_out_and_does_not_lower_n_for_all(prunebench, source, tmp_path):
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:11], *lines[16:]]))  # of q1 the first three
    prunebench("import", "plain", source, "--out", tmp_path / "store")
    compare = ("compare", "--store", tmp_path / "store", "--prefix", 4, "--methods", "length,none", "--out")
    code, said, _ = prunebench(*compare, tmp_path / "o")
    results = Results.read(tmp_path / "o" / "results.json")
    left_out = "left out, with fewer than 8 paths: mine/q1 (3)"
    assert code == 0 and results.rows[0].n == 8 and results.problems == {"mine": ["q0", "q2"]}
    assert "N = 8 paths: with it the most paths take part" in said and f"{left_out}; --n 3 takes all" in said
    assert left_out in [note.text for note in results.notes]
    prunebench(*compare, tmp_path / "p", "--n", 3)
    assert Results.read(tmp_path / "p" / "results.json").problems == {"mine": ["q0", "q1", "q2"]}


def test_paths_beyond_n_are_told(prunebench, source, tmp_path):
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:5], *lines[8:13], *lines[16:]]))  # five, five and eight paths
    prunebench("import", "plain", source, "--out", tmp_path / "store")
    compare = ("compare", "--store", tmp_path / "store", "--prefix", 4, "--methods", "length,none", "--out", "o")
    told = "N = 5 paths: with it the most paths take part; of 1 problems with more (at most 8) the first 5"
    assert told in prunebench(*compare)[1]


def test_a_store_that_cannot_serve_is_refused(prunebench, imported, tmp_path):
    def refusal(*options):
        return refused(prunebench("compare", "--store", imported, *options))

    assert "n = 9, but no problem has more than 8 paths" in refusal("--n", 9)
    assert "prefix_tokens = 500, but the longest path has" in refusal("--prefix", 500)
    assert "holds no task 'yours'; it has mine" in refusal("--task", "yours")
    assert "k = 9 paths cannot be kept of n = 8" in refusal("--k", 9)
    assert "--set temperature: the rollouts of --store were sampled already" in refusal("--set", "temperature=0.5")
    assert "write a number of tokens, such as 16384, 16k or 1M" in refusal("--set", "budget=much")
    assert "no manifest.json" in refused(prunebench("compare", "--store", tmp_path / "nothing"))
    assert "imported rollouts; their model is not at hand" in refused(prunebench("label", imported))


def test_another_comparison_in_the_same_folder_is_refused_and_nothing_of_an_earlier_one_stays(
    prunebench, imported, source, tmp_path
):
    compare = ("compare", "--store", imported, "--methods", "length,none", "--out", tmp_path / "o")
    prunebench(*compare, "--prefix", 4, "--k", 2)
    before = (tmp_path / "o" / "results.json").read_bytes()
    said = refused(prunebench(*compare, "--prefix", 5, "--k", 1))
    assert "o holds another comparison (k = 2, not 1; prefix_tokens = 4, not 5): choose another --out" in said
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:16]))
    prunebench("import", "plain", source, "--out", tmp_path / "fewer")
    elsewhere = ("compare", "--store", tmp_path / "fewer", "--methods", "length,none", "--set", "problems=3")
    said = refused(prunebench(*elsewhere, "--prefix", 4, "--k", 2, "--out", tmp_path / "o"))
    assert f"rollouts of {imported}" in said
    assert (tmp_path / "o" / "results.json").read_bytes() == before
    prunebench("report", tmp_path / "o")
    prunebench("figures", tmp_path / "o", "forest")
    (tmp_path / "o" / "figures" / "mine.txt").write_text("mine")
    code, said, _ = prunebench(*compare, "--prefix", 4, "--k", 2)
    assert code == 0 and (tmp_path / "o" / "report.html").exists() and "removed" not in said and ".drawn" not in said
    code, said, _ = prunebench(*compare, "--prefix", 4, "--k", 2, "--methods", "none,random")
    assert code == 0 and "removed, being of the earlier result: report.html, figures" in said
    assert [path.name for path in (tmp_path / "o" / "figures").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "o" / "report.html").exists()


def test_rollouts_in_the_place_of_something_else_are_told_what_takes_them(prunebench, imported, tmp_path):
    compared = f"prunebench compare --store {imported}"
    assert f"these are rollouts; compare them first: {compared} --out runs/NAME" in refused(
        prunebench("report", imported)
    )
    said = refused(prunebench("advise", "--task", imported))
    assert compared in said and f"prunebench sweep --store {imported}" in said
    assert f"did you mean {imported}?" in refused(prunebench("compare", "--store", tmp_path))


def test_a_misspelt_method_is_told_before_anything_is_read(prunebench, imported, monkeypatch):
    prunebench("compare", "--store", imported, "--prefix", 4, "--methods", "length,none", "--out", "o")
    monkeypatch.setattr("prunebench.bench.evaluation.rebuild.reopened", None)
    said = refused(prunebench("versus", "o", "lenght", "none"))
    assert "o: unknown method 'lenght': did you mean 'length'?" in said
    assert "nope/results.json: no such file; name the folder of a comparison" in refused(prunebench("versus", "nope"))


def test_a_budget_may_be_written_in_thousands(prunebench, imported, tmp_path):
    prunebench("compare", "--store", imported, "--prefix", 4, "--set", "budget=0.05k", "--out", tmp_path / "o")
    assert {row.budget for row in Results.read(tmp_path / "o" / "results.json").equal_cost} == {51.2}


def test_a_result_is_reproduced_and_a_changed_one_is_not(prunebench, imported, tmp_path):
    prunebench("compare", "--store", imported, "--prefix", 4, "--out", tmp_path / "o")
    path = tmp_path / "o" / "results.json"
    code, out, _ = prunebench("rebuild", "--sampling", tmp_path / "o", "--out", tmp_path / "again")
    assert code == 0
    assert "reproduced: every number equals" in out
    content = json.loads(path.read_text())
    content["rows"][0]["metrics"]["avg_at_k"]["mean"] += 1
    path.write_text(json.dumps(content))
    code, out, _ = prunebench("rebuild", "--sampling", tmp_path / "o", "--out", tmp_path / "again")
    assert code == 1
    assert "NOT reproduced: 1 differences" in out
    assert "no such file" in refused(prunebench("rebuild", "--sampling", tmp_path / "none"))


def test_results_say_what_they_were_made_of(prunebench, imported, tmp_path):
    prunebench("compare", "--store", imported, "--prefix", 4, "--out", tmp_path / "o")
    results = Results.read(tmp_path / "o" / "results.json")
    assert set(results.hashes) >= {"model", "rollouts", "learned", "judges", "plugins", "labels", "config", "code"}
    assert set(results.environment) >= {"git", "code", "platform", "cores", "threads", "device"}
    assert results.setup["store"] == str(imported)
    assert results.splits == {"train": [], "validation": []}


def test_two_runs_give_the_same_bytes_but_for_measured_seconds(prunebench, imported, tmp_path, monkeypatch):
    for name in ("one", "two"):
        prunebench("compare", "--store", imported, "--prefix", 4, "--out", tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir() if path.name != "timings.csv")
    timed = {"results.json", "main_table.csv", "main_table.md", "main_table.tex"}
    assert timed <= set(files)
    replays = [
        [
            {**json.loads(line), "seconds": None}
            for line in (tmp_path / name / "replays.jsonl").read_text().split("\n")
            if line
        ]
        for name in ("one", "two")
    ]
    assert replays[0] == replays[1]
    for file in set(files) - timed - {"replays.jsonl", ".drawn"}:  # the mark holds the hash of results.json
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_matrices_are_replayed(prunebench, tmp_path):
    problem = {"gold_answer": "7", "probe_freq": 500, "each_branch": [[["7"], 600 + i, "7"] for i in range(4)]}
    (tmp_path / "aime.json").write_text(json.dumps([problem]))
    code, out, _ = prunebench("study", "matrix", tmp_path / "aime.json", "--set", "paths=4", "--set", "shuffles=3")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "self-consistency" in line]
    assert line.split() == ["aime", "self-consistency", "100.00", "2,406", "603"]
    assert "is not known; choose" in refused(
        prunebench("study", "matrix", tmp_path, "--set", "paths=4", "--set", "grading=guess")
    )


def test_a_check_before_the_paths_part_is_said_to_choose_by_chance(prunebench, imported, tmp_path):
    compare = ("compare", "--store", imported, "--prefix", 3, "--k", 2, "--methods", "slim-sc,length,none")
    code, said, _ = prunebench(*compare, "--out", tmp_path / "o")
    said = " ".join(said.split())
    assert code == 0 and "after 3 tokens the 8 paths of a problem have 1.0 different prefixes, no more than are" in said
    assert "chosen by the order of the paths, since it ties all of them in every problem: length" in said
