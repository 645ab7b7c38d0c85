from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.conftest import refused
from tests.figures.test_gallery import forgotten  # noqa: F401


def test_figures_need_a_run_of_this_version(prunebench, tmp_path):
    assert "run/results.json: no such file; make it with: prunebench" in refused(prunebench("figures", "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps({"schema_version": 7}))
    assert "schema version 7 is not that of this version (2)" in refused(prunebench("figures", "run"))
    assert not (tmp_path / "run" / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("frontiers",), "unknown figure 'frontiers': did you mean 'frontier'"),
        (
            ("retention", "--data", "sweep=nowhere"),
            "nowhere: no such folder; the rollouts that it would be made from are not",
        ),
        (("ablations",), "no ablations in runs/demo/ablations or runs/ablations; it comes from labelled"),
        (("ablations", "--data", "ablation=x"), "--data ablation=x: nothing is called 'ablation'; known are sweep, "),
        (("ablations", "--data", "x"), "--data x: write NAME=FOLDER, as in --data sweep=runs/sweep"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_sentence(prunebench, tmp_path, arguments, message):
    assert message in refused(prunebench("figures", "runs/demo", *arguments, "--out", "out"))
    assert not (tmp_path / "out").exists()


def test_one_figure_by_name_is_three_files(prunebench, tmp_path):
    code, out, _ = prunebench("figures", "runs/demo", "taxonomy", "--out", "out")
    assert code == 0
    assert "taxonomy.png, taxonomy.svg, taxonomy.csv" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "taxonomy.csv", "taxonomy.png", "taxonomy.svg",
    ]  # fmt: skip


def test_several_runs_are_reported_side_by_side_and_take_no_sweep(prunebench):
    assert "run/results.json: no such file" in refused(prunebench("report", "run", "other"))
    sentence = refused(prunebench("report", "run", "other", "--data", "sweep=x"))
    assert "--data: the tables of several runs show their comparisons only; leave it out" in sentence
    docs = Path(__file__).parents[3] / "docs"
    code, out, err = prunebench("report", docs / "embedded", docs / "base", "--out", "new/folder")
    assert code == 0 and "side_by_side.md" in out, err


@pytest.mark.parametrize("command", ["versus", "rebuild"])
def test_a_run_without_its_decisions_is_told_before_anything_is_read(prunebench, command, tmp_path, monkeypatch):
    monkeypatch.setattr("prunebench.bench.evaluation.rebuild.load_engine", None)
    shutil.copy(Path(__file__).parents[3] / "docs" / "embedded" / "results.json", tmp_path)
    said = refused(prunebench(command, tmp_path, "--store", "anything"))
    assert "holds tables, but no decisions.parquet" in said and "makes it: prunebench compare --config embedded" in said


def test_one_method_alone_is_held_against_nothing(prunebench):
    run = Path(__file__).parents[3] / "docs" / "embedded"
    assert "stop: name the methods that it is held against" in refused(prunebench("versus", run, "stop"))
    assert "'stopp': did you mean 'stop'" in refused(prunebench("versus", run, "stopp"))
    assert "otv: named twice" in refused(prunebench("versus", run, "stop", "otv", "otv"))


@pytest.mark.usefixtures("forgotten")
def test_a_figure_of_ones_own_is_drawn_by_name(prunebench, tmp_path):
    (tmp_path / "sizes.py").write_text(
        "from matplotlib.figure import Figure\nfrom prunebench.figures.registry import Drawing, figure\n\n"
        "@figure('sizes', 'Nothing much.', needs='nothing')\ndef draw(run):\n    return Drawing(Figure(), 'a\\n')\n"
    )
    code, out, _ = prunebench("figures", "runs/demo", "sizes", "--plugin", "sizes.py", "--out", "out")
    assert code == 0 and "sizes.png, sizes.svg, sizes.csv" in out


def test_what_a_run_cannot_answer_is_refused_before_anything_is_read(prunebench, monkeypatch):
    monkeypatch.setattr("prunebench.bench.evaluation.rebuild.reopened", None)
    real = Path(__file__).parents[3] / "docs" / "real"
    assert "entropy: named twice" in refused(prunebench("versus", real, "entropy", "margin", "entropy"))
    assert "entropy is held against itself" in refused(prunebench("versus", real, "entropy", "entropy"))
    said = refused(prunebench("versus", real))
    assert "no methods were chosen on validation problems; name those to compare: none, random, length" in said
    said = refused(prunebench("versus", real, "stop", "entropy"))
    assert "'stop' took no part; there are none, random" in said and "did you mean" not in said
    assert "did you mean 'entropy' or" in refused(prunebench("versus", real, "entropie", "none"))


@pytest.mark.parametrize("command", ["versus", "rebuild"])
def test_paths_of_another_comparison_are_told(prunebench, command, tmp_path):
    docs = Path(__file__).parents[3] / "docs"
    shutil.copy(docs / "aime" / "results.json", tmp_path)
    for file in ("decisions.parquet", "paths.parquet"):
        shutil.copy(docs / "real" / file, tmp_path)
    names = ["agreement", "none"] if command == "versus" else ["--out", "o"]
    assert "paths.parquet: not the paths of" in refused(prunebench(command, tmp_path, *names))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("compare", "--keep", "4"),
            "No such option: --keep (Possible options: --help, --k); see prunebench compare --help",
        ),
        (("guideline", "--budget", "4k"), "Missing option '--prefix'; see prunebench guideline --help"),
        (("demoo",), "No such command 'demoo'. Did you mean 'demo'?; see prunebench --help"),
    ],
)
def test_what_no_command_takes_is_one_sentence_too(prunebench, arguments, sentence):
    assert refused(prunebench(*arguments)) == f"prunebench: {sentence}"


def test_decisions_that_are_not_those_of_the_results_are_told(prunebench, tmp_path):
    docs = Path(__file__).parents[3] / "docs" / "aime"
    for file in ("results.json", "paths.parquet"):
        shutil.copy(docs / file, tmp_path)
    table = pq.read_table(docs / "decisions.parquet")
    methods, kept = table["method"].to_pylist(), table["kept"].to_pylist()
    best = iter([keep for keep, method in zip(kept, methods, strict=True) if method == "oracle"])
    kept = [next(best) if method == "agreement" else keep for keep, method in zip(kept, methods, strict=True)]
    column = table.schema.field("kept")
    changed = table.set_column(table.schema.get_field_index("kept"), column, pa.array(kept, column.type))
    pq.write_table(changed, tmp_path / "decisions.parquet")
    said = refused(prunebench("versus", tmp_path, "agreement", "none"))
    assert "decisions.parquet: agreement minus none on" in said and "by results.json: the files are not of one" in said


def test_where_results_cannot_go_is_told(prunebench, tmp_path):
    docs = Path(__file__).parents[3] / "docs"
    (tmp_path / "file").write_text("mine")
    assert "--out file: this is a file; name a folder" in refused(
        prunebench("figures", docs / "real", "forest", "--out", "file")
    )
    assert (tmp_path / "file").read_text() == "mine"
    assert "name a folder" in refused(prunebench("report", docs / "real", docs / "base", "--out", "x.html"))
    assert f"{docs / 'base'}: named twice" in refused(prunebench("report", docs / "base", docs / "base"))
    (tmp_path / "there").mkdir()
    shutil.copy(docs / "base" / "results.json", tmp_path / "there")
    said = refused(prunebench("rebuild", docs / "real", "--out", "there"))
    assert "--out there: holds another comparison" in said
    assert (tmp_path / "there" / "results.json").read_bytes() == (docs / "base" / "results.json").read_bytes()
    assert "--paper: the paper has no numbers for forest" in refused(
        prunebench("figures", docs / "real", "forest", "--paper")
    )
