"""The whole job on the shipped reasoner, small: rollouts, scores, table."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prunebench.bench.cli.at_hand import EMBEDDED
from prunebench.bench.config import preset
from prunebench.bench.engines.base import Request
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.comparison import run_comparison
from prunebench.bench.evaluation.decisions import FILE as DECISIONS
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.paths_file import FILE as PATHS
from prunebench.bench.evaluation.rebuild import rebuilt, reopened
from prunebench.bench.evaluation.reproduce import differences
from prunebench.bench.evaluation.results import Results
from prunebench.bench.evaluation.tables.versus import versus
from prunebench.bench.policies import CheckRecord, TopK
from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.bench.progress import uncounted
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.sampling import problems_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.at_hand import shipped_labels
from prunebench.bench.training.cards import Card
from prunebench.bench.training.loading import load_method
from prunebench.methods.registry import PRUNERS
from prunebench.tasks import catalogue

TASKS = ("synthetic/power", "synthetic/program")


@pytest.fixture(scope="module")
def reasoner():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def config():
    return preset("demo", tasks=TASKS, problems=2, n=32, k=4)


@pytest.fixture(scope="module")
def run(reasoner, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison")
    results = run_comparison(reasoner, config, out, Inputs(EMBEDDED.learned, tuple(shipped_labels("embedded"))))
    shutil.copytree(out, as_written(out))  # other tests compare anew in the same folder
    return out, results


def as_written(out):
    return out.with_name(f"{out.name}-as-written")


def some(config):
    """Two methods are enough to see what becomes of labels."""
    return config.model_copy(update={"methods": ("entropy", "potential")})


class Counted:
    """What was really done."""

    def __init__(self):
        self.done: dict[str, int] = {}

    def stretch(self, name, total=None):
        return lambda count: self.done.update({name.split()[0]: self.done.get(name.split()[0], 0) + count})

    def tokens(self):
        return uncounted


def test_every_method_has_a_row_on_every_task_and_on_all(run):
    _, results = run
    assert results.left_out == {}
    assert {(row.task, row.method) for row in results.rows} == {
        (task, method) for task in (*TASKS, "all") for method in [*PRUNERS.names(), *PROCEDURES]
    }
    for row in results.rows:
        assert 0 <= row["avg_at_k"].mean <= 100
        assert row.n == 32
        assert row.n_problems == (4 if row.task == "all" else 2)
        assert row.finished == "rank"
        if row.method in PROCEDURES:
            assert 1 <= row.k <= 32, "they keep as many as their policy says"
            continue
        assert row.k == (32 if row.method == "none" else 4)
        assert not math.isnan(row["avg_at_k_expected"].mean), "the shipped labels cover the shipped seed"


def test_the_controls_bracket_every_method(run):
    _, results = run
    rows = {row.method: row for row in results.rows if row.task == "all"}
    assert rows["oracle"]["avg_at_k"].mean == max(row["avg_at_k"].mean for row in rows.values())
    assert rows["none"]["avg_at_k"].mean == rows["none"]["avg_at_n"].mean
    assert rows["none"]["reduction"].mean == 0
    assert abs(rows["random"]["avg_at_k"].mean - rows["none"]["avg_at_k"].mean) < 2.5, (
        "the mean of 200 draws of 4 of 32"
    )
    free = [name for name in rows if name in PRUNERS.names() and PRUNERS.get(name).extra_cost == "none"]
    assert all(rows[name]["reduction"].mean > 50 for name in free if name != "none")
    assert all(rows[name]["tokens"].mean < rows["none"]["tokens"].mean for name in PROCEDURES)


def test_what_a_method_says_that_it_costs_is_what_is_charged(run):
    out, _ = run
    charged = Counter()
    for row in csv.DictReader((out / "ledger.csv").open()):
        if row["phase"] == "check":
            charged[row["method"]] += sum(
                float(row[name]) for name in ("reencoded_tokens", "probe_tokens", "check_tokens")
            )
            charged[row["method"]] += float(row["flops"])
    said = {name: entry.extra_cost for name, entry in PRUNERS.items()}
    said |= {name: procedure.extra_cost for name, procedure in PROCEDURES.items()}
    free = {name for name, words in said.items() if words.startswith(("none", "whole paths"))}
    assert {name for name in said if charged[name] == 0} == free


def test_each_quadrant_has_a_representative_chosen_on_validation(run):
    _, results = run
    chosen = {one.quadrant: one for one in results.representatives}
    assert set(chosen) == {"I", "II", "III", "IV", "mixed"}
    assert chosen["IV"].candidates == sum(PRUNERS.get(name).quadrant().value == "IV" for name in PRUNERS.names())
    cards = [Card.read(path) for path in (EMBEDDED.learned).glob("*.json")]
    rivals = [card.validation_auroc for card in cards if PRUNERS.get(card.method).quadrant().value == "II"]
    assert chosen["II"].validation_auroc == max(rivals)


def test_a_funnel_stands_in_the_table_at_equal_cost(run, reasoner, config):
    out, _ = run
    funnel = config.model_copy(update={"methods": ("entropy", "stop"), "policy": "funnel:32@20,16@40,8@60"})
    results = run_comparison(reasoner, funnel, out, Inputs(EMBEDDED.learned))
    rows = {row.method: row for row in results.equal_cost}
    for name in ("entropy", "stop"):
        assert rows[name].cost <= rows[name].budget and rows[name].n > rows["none"].n == 8
        assert rows[name].policy.startswith(f"funnel:{rows[name].n}@20,")
    kept = {row.method: row.k for row in results.rows if row.task == "all"}
    assert kept["entropy"] == kept["stop"] == 4


def test_the_same_results_are_not_made_again(run, reasoner, config):
    out, results = run
    results.write(out / "results.json")
    watch = Counted()
    again = run_comparison(
        reasoner, config, out, Inputs(EMBEDDED.learned, tuple(shipped_labels("embedded"))), progress=watch
    )
    assert watch.done == {"sampling": 4 * 32}, "read, not scored"
    assert again == Results.read(out / "results.json")


def test_other_methods_use_the_same_samples(run, reasoner, config):
    out, results = run
    watch = Counted()
    again = run_comparison(
        reasoner,
        config.model_copy(update={"methods": ("entropy",)}),
        out,
        Inputs(EMBEDDED.learned, tuple(shipped_labels("embedded"))),
        progress=watch,
    )
    assert watch.done["scoring"] == 3 * 4, "none, random and entropy"
    seconds = [
        {row.task: row["check_seconds"] for row in run.rows if row.method == "entropy"} for run in (results, again)
    ]
    assert seconds[0] == seconds[1], "its replays were held"
    old = {row.task: row["avg_at_k"].mean for row in results.rows if row.method == "entropy"}
    assert {row.task: row["avg_at_k"].mean for row in again.rows if row.method == "entropy"} == old
    assert again.hashes["rollouts"] == results.hashes["rollouts"]


def test_without_labels_the_potential_control_is_refused_where_it_was_asked_for(run, reasoner, config):
    out, _ = run
    reason = "potential has no row: 55 of 55 prefixes have no Monte Carlo label; make them with: prunebench label "
    with pytest.raises(UserError, match=f"{reason}.*rollouts --prefix 40 --out runs/labels, and name them: --labels"):
        run_comparison(reasoner, some(config), out, Inputs(EMBEDDED.learned))
    entropy = config.model_copy(update={"methods": ("entropy",)})
    results = run_comparison(reasoner, entropy, out, Inputs(EMBEDDED.learned))
    assert all(math.isnan(row["avg_at_k_expected"].mean) for row in results.rows)


def labels_without(folder, missing, problems):
    """The shipped labels of ``problems`` but for the first ``missing`` of them."""
    shipped = [LabelStore.open(path) for path in shipped_labels("embedded")]
    manifest = {key: value for key, value in shipped[0].manifest.items() if key not in ("kind", "schema_version")}
    found = [label for store in shipped for label in store if label.problem in problems]
    store = LabelStore.create_or_open(folder, manifest)
    with store.shards:
        store.append(found[missing:])
    return found[:missing]


def test_a_few_missing_labels_are_sampled_on_the_spot(run, reasoner, config, tmp_path):
    out, results = run
    problems = {problem for ids in results.problems.values() for problem in ids}
    (missing,) = labels_without(tmp_path / "few", 1, problems)
    again = run_comparison(reasoner, some(config), out, Inputs(EMBEDDED.learned, (tmp_path / "few",)))
    assert again.left_out == {}
    made = LabelStore.open(out / "labels")
    assert list(made) == [missing], "the same label as the shipped one"
    assert {(r.task, r.method): r["avg_at_k"].mean for r in again.rows} == {
        (r.task, r.method): r["avg_at_k"].mean
        for r in results.rows
        if r.method in ("none", "random", "entropy", "potential")
    }


def test_many_missing_labels_are_counted(run, reasoner, config, tmp_path):
    out, results = run
    problems = {problem for ids in results.problems.values() for problem in ids}
    labels_without(tmp_path / "many", 9, problems)
    with pytest.raises(UserError, match="potential has no row: 9 of "):
        run_comparison(reasoner, some(config), out, Inputs(EMBEDDED.learned, (tmp_path / "many",)))


def test_a_method_that_is_asked_for_must_run(run, reasoner, config, tmp_path):
    out, _ = run
    with pytest.raises(UserError, match="prunebench train stop"):
        run_comparison(reasoner, config.model_copy(update={"methods": ("stop",)}), out, Inputs(tmp_path))


def test_a_prefix_beyond_the_context_is_refused_before_sampling(reasoner, tmp_path):
    config = preset("demo", prefix_tokens=1024, max_new_tokens=2000)
    with pytest.raises(UserError, match="prefix_tokens = 1024: the context of embedded is 1024 tokens"):
        run_comparison(reasoner, config, tmp_path / "out", Inputs(EMBEDDED.learned))
    assert not (tmp_path / "out").exists()


def test_training_problems_are_refused(reasoner, tmp_path):
    card = load_method("linear-probe", EMBEDDED.learned, reasoner.digest, 40).card
    problems = problems_of(catalogue.expand(("synthetic",)), "validation", 2, 0)
    assert {problem.id for _, problem in problems} & set(card.validation_problems)
    config = preset("demo", tasks=("synthetic/power",), split="validation", problems=2, n=8, max_new_tokens=60)
    with pytest.raises(UserError, match="trained or tuned on 2 of these problems"):
        run_comparison(reasoner, config, tmp_path, Inputs(EMBEDDED.learned))
    ensemble = config.model_copy(update={"methods": ("mean-rank(linear-probe,entropy)",)})
    with pytest.raises(UserError, match="'linear-probe' was trained or tuned on 2 of these problems"):
        run_comparison(reasoner, ensemble, tmp_path, Inputs(EMBEDDED.learned))


def test_a_problem_that_nearly_repeats_a_training_problem_is_reported(run, reasoner, config, tmp_path):
    out, results = run
    evaluated = next(RolloutStore.open(out / "rollouts").read(hidden=False))
    learned = tmp_path / "learned"
    shutil.copytree(EMBEDDED.learned, learned)
    card = Card.read(learned / "stop.json")
    line = {"problem": card.train_problems[0], "prompt": evaluated.prompt}
    (learned / "problems.jsonl").write_text(json.dumps(line) + "\n")
    again = run_comparison(reasoner, some(config).model_copy(update={"methods": ("stop",)}), out, Inputs(learned))
    (note,) = [note for note in again.notes if "nearly repeat" in note.text]
    assert (
        f"1 of 4 evaluated problems nearly repeat a training problem; the closest by wording: {evaluated.problem}"
        in note.text
    )
    assert not any("nearly repeat" in note.text for note in results.notes), "none of the shipped ones"


def test_shipped_inputs_are_named_by_their_place_in_the_package(run, monkeypatch):
    _, results = run
    monkeypatch.chdir(EMBEDDED.home.parents[1])
    assert Inputs(Path("bench/reasoner/learned")).described()["learned"] == "shipped:reasoner/learned"
    assert results.setup["learned"] == "shipped:reasoner/learned"
    assert str(EMBEDDED.home) not in results.model_dump_json()
    assert Inputs.of(results.setup) == Inputs(EMBEDDED.learned, tuple(shipped_labels("embedded")))
    assert Inputs.of(Inputs(Path("mine"), store=Path("/there")).described()) == Inputs(
        Path("mine"), store=Path("/there")
    )


def test_online_pruning_keeps_what_replay_keeps(run, reasoner, config):
    """Launch to the checkpoint, score the live caches with STOP, resume the best: the stored paths come out."""
    out, _ = run
    stop = load_method("stop", EMBEDDED.learned, reasoner.digest, config.prefix_tokens).pruner
    stored = list(RolloutStore.open(out / "rollouts").read())
    requests = [Request(f"{s.task}/{s.problem}", s.prompt_ids, tuple(range(config.n))) for s in stored]
    kept = []

    def decided():
        live_pools = reasoner.launch(requests, config.sampling, config.seed, config.recording, config.prefix_tokens)
        for live, whole in zip(live_pools, stored, strict=True):
            replayed = pool_of(reasoner, whole, config.prefix_tokens)
            online = replace(replayed, generator=live)
            for path, prefix in zip(live.paths, replayed.token_ids, strict=True):
                assert path.token_ids.tolist() == prefix.tolist()
            np.testing.assert_allclose(stop.score(online), stop.score(replayed), atol=1e-5)
            record = CheckRecord(config.prefix_tokens, stop.score(online), online.finished, online.answer_class)
            kept.append(TopK(config.k).decide([record]).keep)
            yield live, kept[-1]

    for rollout, whole, keep in zip(reasoner.resume(decided()), stored, kept, strict=True):
        wanted = [whole.paths[row] for row in np.flatnonzero(keep)]
        assert [path.token_ids.tolist() for path in rollout.paths] == [path.token_ids.tolist() for path in wanted]


def test_an_ensemble_of_a_method_that_reads_every_state_takes_part_at_equal_cost(run, reasoner, config):
    out, _ = run
    ensemble = config.model_copy(update={"methods": ("mean-rank(step,entropy)",)})
    results = run_comparison(reasoner, ensemble, out, Inputs(EMBEDDED.learned))
    assert "mean-rank(step,entropy)" in {row.method for row in results.equal_cost}


@pytest.fixture
def written(run, tmp_path):
    """The run folder with its results, to be changed."""
    out, results = run
    folder = shutil.copytree(as_written(out), tmp_path / "run")
    results.write(folder / "results.json")
    return folder


def test_the_tables_are_rebuilt_from_what_was_written_down_without_a_model(run, written, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the model was run")

    for name in ("sample", "launch", "reread", "kv", "probe", "next_logprobs", "behind"):
        monkeypatch.setattr(TransformersEngine, name, refuse)
    opened = reopened(written)
    before, after = opened.results, rebuilt(opened)
    assert differences(run[1], before) == []
    assert differences(before, after) == []
    assert {row.method for row in after.rows} >= {
        "stop",
        "esc",
        "dynasor",
        "random",
        "potential",
        "speculative-rejection",
    }
    assert [row["check_seconds"] for row in after.rows] == [row["check_seconds"] for row in before.rows]


def held(run, pairs):
    return versus(run.records, run.replays, run.candidates, run.setting, pairs)


def test_labels_count_whether_potential_takes_part_or_not_and_what_was_rebuilt_is_a_run(
    run, reasoner, config, tmp_path
):
    out, _ = run
    labels, made, again = tuple(shipped_labels("embedded")), tmp_path / "made", tmp_path / "again"
    shutil.copytree(out / "rollouts", made / "rollouts")
    quick = config.model_copy(update={"methods": ("entropy", "margin"), "draws": 0})
    before = run_comparison(reasoner, quick, made, Inputs(EMBEDDED.learned, labels))
    assert not math.isnan(before.rows[0]["avg_at_k_expected"].mean)
    after = rebuilt(reopened(made), again)
    assert differences(before, after) == []
    after.write(again / "results.json")
    assert differences(before, rebuilt(reopened(again))) == []
    pair = [("entropy", "margin")]
    assert repr(held(reopened(again), pair)) == repr(held(reopened(made), pair)), "also what is not defined"
    for file in ("ledger.csv", "timings.csv", DECISIONS):
        assert (again / file).read_bytes() == (made / file).read_bytes()
    after.model_copy(update={"setup": after.setup | {"labels": []}}).write(again / "results.json")
    (again / PATHS).unlink()  # which tells the labels itself
    with pytest.raises(UserError, match=r"not the labels that .*again was made with"):
        reopened(again)


def test_a_score_that_was_changed_changes_the_tables(written):
    table = pq.read_table(written / DECISIONS)
    stop = pc.equal(table["method"], "stop")
    column = table.schema.get_field_index("kept")
    pq.write_table(table.set_column(column, "kept", pc.xor(table["kept"], stop)), written / DECISIONS)
    opened = reopened(written)
    found = differences(opened.results, rebuilt(opened))
    assert any(one.startswith("rows: all stop: avg_at_k was") for one in found)
    assert {one.split()[2].rstrip(":") for one in found if one.startswith("rows: all ") and "p_holm" not in one} == {
        "stop"
    }


def test_decisions_and_rollouts_have_to_belong_to_the_results(run, written, tmp_path):
    table = pq.read_table(written / DECISIONS)
    pq.write_table(table.filter(pc.not_equal(table["method"], "esc")), written / DECISIONS)
    with pytest.raises(UserError, match=r"what esc did with the paths of synthetic/power/.* is not there"):
        reopened(written)
    other = RolloutStore.create_or_open(tmp_path / "other", dict(RolloutStore.open(written / "rollouts").manifest))
    with other.shards:
        other.append([next(iter(RolloutStore.open(written / "rollouts").read()))])
    with pytest.raises(UserError, match=r"not the rollouts of .*; name them with --store"):
        reopened(written, tmp_path / "other")


def test_a_method_held_against_none_and_random_has_the_differences_of_the_table(run, written):
    _, results = run
    rows = {(row.task, row.method): row for row in results.rows}
    again = reopened(written)
    found = held(again, [("stop", "none"), ("stop", "random")])
    assert [(row.task, row.other) for row in found[-2:]] == [("all", "none"), ("all", "random")]
    assert len(found) == 6
    for row in found:
        expected = rows[row.task, "stop"]
        if row.other == "none":
            assert row.avg.mean == pytest.approx(expected["delta"].mean)
            assert row.maj.mean == pytest.approx(expected["maj_delta"].mean)
            assert math.isnan(row.avg.low) and math.isnan(expected["delta"].low), "of so few problems"
            assert row.p == expected["p_value"].mean <= row.p_holm
        else:
            assert row.maj.mean == pytest.approx(expected["maj_delta_random"].mean)
    with pytest.raises(UserError, match="method 'nobody' has no row in this comparison; it has length, none"):
        held(again, [("stop", "nobody")])
    with pytest.raises(UserError, match="stop is held against itself"):
        held(again, [("stop", "none"), ("stop", "stop")])


def test_without_draws_there_is_no_table_at_equal_cost(run, reasoner, config, tmp_path):
    out, _ = run
    shutil.copytree(out / "rollouts", tmp_path / "rollouts")
    quick = config.model_copy(update={"methods": ("entropy",), "draws": 0})
    results = run_comparison(reasoner, quick, tmp_path, Inputs(EMBEDDED.learned))
    assert results.equal_cost == []
    assert {row.method for row in results.rows} == {"none", "random", "entropy"}
    assert not any("equal cost" in note.text for note in results.notes)
