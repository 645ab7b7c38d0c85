"""The gallery: all that a run allows is drawn, and the rest is left out with its reason."""

from __future__ import annotations

import csv
import re
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from PIL import Image

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ledger import LedgerRow, ledger_csv
from prunebench.bench.evaluation.potential_curve import MeasuredPath, Motivation
from prunebench.bench.evaluation.results import CalibrationRow, Representative, Results
from prunebench.bench.guideline.guideline import guideline_of
from prunebench.figures.gallery import draw_figures, figures_markdown
from prunebench.figures.registry import FIGURES, figures
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.thumbnails import WIDTH_PIXELS, draw_thumbnails
from prunebench.methods import entries
from prunebench.tasks.python_files import module_of
from tests.counted import Counted
from tests.made_up_sweep import made_up

PAGE = (Path(__file__).parents[2] / "docs" / "figures.md").read_text()
THUMBNAILS = Path(__file__).parents[2] / "docs" / "thumbnails"


@pytest.fixture
def run(results: Results, tmp_path: Path) -> RunFolder:
    folder = tmp_path / "run"
    folder.mkdir()
    bins = [(0.0, 0.5, 3, 0.2, 0.25), (0.5, 1.0, 5, 0.8, 0.6)]
    results.model_copy(
        update={
            "calibration": [CalibrationRow(task="all", method="stop", truth="outcome", ece=0.14, brier=0.2, bins=bins)],
            "representatives": [Representative(quadrant="IV", method="stop", validation_auroc=0.7, candidates=2)],
        }
    ).write(folder / "results.json")
    methods = {row.method for row in results.rows}
    rows = [
        LedgerRow("power", "a", method, phase, 100.0, 0.0, 0.0, 0.0, 1e9, 2e6)  # type: ignore[arg-type]
        for method in sorted(methods)
        for phase in ("launch", "check", "resume")
    ]
    (folder / "rollouts").mkdir()
    (folder / "ledger.csv").write_text(ledger_csv(rows))
    lines = "".join(f"power,a,{method},1.5,0.25,nan\n" for method in sorted(methods))
    (folder / "timings.csv").write_text("task,problem,method,launch_seconds,check_seconds,resume_seconds\n" + lines)
    return RunFolder(folder)


def test_the_documentation_has_the_catalogue_as_it_is() -> None:
    assert figures_markdown(THUMBNAILS) in PAGE
    drawn = {path.stem for path in THUMBNAILS.glob("*.png")}
    assert drawn <= {figure.name for figure in figures()} and len(drawn) > 12
    assert all(Image.open(path).width == WIDTH_PIXELS for path in THUMBNAILS.glob("*.png"))


def test_a_thumbnail_is_drawn_from_the_first_run_that_allows_the_figure(run: RunFolder, tmp_path: Path) -> None:
    nowhere = RunFolder(tmp_path / "nowhere")
    left_out = draw_thumbnails([nowhere, run], tmp_path / "small")
    assert {"forest", "frontier", "taxonomy"} <= {path.stem for path in (tmp_path / "small").iterdir()}
    assert "forest" not in left_out and "make it with: prunebench sweep" in left_out["law"]
    assert Image.open(tmp_path / "small" / "forest.png").width == WIDTH_PIXELS


def test_all_that_the_run_allows_is_drawn_and_the_rest_has_a_reason(run: RunFolder, tmp_path: Path) -> None:
    ticks: list[int] = []
    gallery = draw_figures(run, tmp_path / "out", progress=Counted(ticks.append))
    assert len(ticks) == len(figures())
    drawn = [figure.name for figure in figures() if figure.name not in gallery.left_out]
    from_run = {
        "taxonomy",
        "main_table",
        "quadrant_table",
        "forest",
        "frontier",
        "overhead",
        "score_quality",
        "reliability",
    }
    assert set(drawn) == from_run
    expected = {f"{name}.{suffix}" for name in drawn for suffix in ("png", "svg", "csv")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert {path.name for path in gallery.written} == expected
    assert all("docs/ablations.md" in gallery.left_out.pop(name) for name in ("ablations", "learning_curves"))
    assert all("make it with: prunebench" in reason for reason in gallery.left_out.values())


def test_the_same_run_gives_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    names = ["frontier", "taxonomy", "overhead"]
    first, second = (draw_figures(run, tmp_path / name, names, paper=True).written for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_published_numbers_are_told_apart_in_the_data(run: RunFolder, tmp_path: Path) -> None:
    for paper, sources in ((False, {"measured"}), (True, {"measured", "STOP paper (arXiv 2604.16029)"})):
        draw_figures(run, tmp_path, ["overhead"], paper=paper)
        lines = csv.DictReader((tmp_path / "overhead.csv").read_text().splitlines())
        assert {line["source"] for line in lines} == sources


def test_a_sweep_beside_the_run_gives_its_four_figures(run: RunFolder, tmp_path: Path) -> None:
    names = ["budget", "retention", "law", "guideline_table"]
    with pytest.raises(UserError, match="make it with: prunebench sweep"):
        draw_figures(run, tmp_path / "out", names)
    beside = tmp_path / "sweep"
    beside.mkdir()
    made_up().write(beside)
    with pytest.raises(UserError, match=r"a sweep of another model .m.; name that of this run: --data sweep=FOLDER"):
        draw_figures(run, tmp_path / "out", ["budget"])
    ours = made_up().model_copy(update={"model_hash": run.results.hashes["model"]})
    ours.write(beside)
    with pytest.raises(UserError, match="no guideline there"):
        draw_figures(run, tmp_path / "out", ["law"])
    guideline_of(ours, "stop").save(beside / "guideline-stop.json")
    with_sweep = RunFolder(run.path)
    written = draw_figures(with_sweep, tmp_path / "out", names).written
    assert [path.name for path in written if path.suffix == ".csv"] == [f"{name}.csv" for name in names]
    assert (tmp_path / "out" / "retention.csv").read_text().splitlines()[1].startswith("stop,")


def test_measured_potentials_beside_the_run_give_the_motivation(run: RunFolder, tmp_path: Path) -> None:
    paths = [
        MeasuredPath(
            task="power", problem=problem, path=path, correct=correct, potential=[0.5, float(correct)],
            finished=[False, True],
        )
        for problem in ("a", "b", "c")
        for path, correct in enumerate((True, False))
    ]  # fmt: skip
    measured = Motivation(
        command="", model="embedded", model_hash="", sampling={}, lengths=[20, 40], continuations=4, paths=paths
    )
    (tmp_path / "motivation").mkdir()
    measured.write(tmp_path / "motivation")
    draw_figures(run, tmp_path / "out", ["motivation"])
    lines = list(csv.DictReader((tmp_path / "out" / "motivation.csv").read_text().splitlines()))
    assert [(line["length"], line["potential_if_right"]) for line in lines] == [("20", "0.5"), ("40", "1")]


def test_a_figure_asked_for_by_name_must_be_there_and_possible(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown figure 'froest': did you mean 'forest'"):
        draw_figures(run, tmp_path / "out", ["taxonomy", "froest"])
    with pytest.raises(UserError, match="it comes from labelled prefixes of its own"):
        draw_figures(run, tmp_path / "out", ["forest", "ablations"])
    assert not (tmp_path / "out").exists()  # nor what could have been drawn


def test_what_needs_no_run_is_drawn_without_one(tmp_path: Path) -> None:
    nowhere = RunFolder(tmp_path / "nowhere")
    assert len(draw_figures(nowhere, tmp_path / "out", ["taxonomy"]).written) == 3
    with pytest.raises(UserError, match=r"nowhere/results\.json: no such file"):
        draw_figures(nowhere, tmp_path / "out")


OWN = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)[0]
"""The figure that the page draws."""


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten afterwards."""
    FIGURES.names()
    for field in ("_entries", "_homes"):
        monkeypatch.setattr(FIGURES, field, dict(getattr(FIGURES, field)))
    monkeypatch.setattr(FIGURES, "_points", None)


@pytest.mark.usefixtures("forgotten")
def test_a_single_file_adds_a_figure(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "gains.py").write_text(OWN)
    module_of(tmp_path / "gains.py")
    assert [figure.name for figure in figures()][-2:] == ["attention", "gains"]
    assert "|  | `gains` | What each method gains over keeping all paths. | a run |  |" in figures_markdown()
    written = draw_figures(run, tmp_path / "out", ["gains"]).written
    assert [path.name for path in written] == ["gains.png", "gains.svg", "gains.csv"]
    assert written[-1].read_text().splitlines()[0] == "method,delta"
    assert "gains.png" in {path.name for path in draw_figures(run, tmp_path / "all").written}
    (tmp_path / "again.py").write_text(OWN.replace("gains", "frontier"))
    with pytest.raises(ValueError, match=r"figure 'frontier' is taken by prunebench\.figures\.frontier\.draw"):
        module_of(tmp_path / "again.py")


@pytest.mark.usefixtures("forgotten")
def test_a_package_adds_a_figure_that_is_loaded_when_it_is_asked_for(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_package_of_figures.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("gains", "a_package_of_figures:draw", "prunebench.figures")
    monkeypatch.setattr(entries, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    assert FIGURES.names()[-1] == "gains" and "a_package_of_figures" not in sys.modules
    assert len(draw_figures(run, tmp_path / "out", ["gains"]).written) == 3
