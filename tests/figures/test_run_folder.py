"""The reader of a run folder: numbers come back as they were written, and every fault is one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ledger import LedgerRow, ledger_csv
from prunebench.bench.evaluation.results import Results
from prunebench.bench.guideline.guideline import guideline_of
from prunebench.figures.run_folder import RunFolder
from tests.made_up_sweep import made_up

LEDGER = [
    LedgerRow("power", "a", "stop", phase, 100.0, 0.0, 0.0, tokens, 1e9, 2e6)  # type: ignore[arg-type]
    for phase, tokens in (("launch", 0.0), ("check", 12.5), ("resume", 0.0))
]
TIMINGS = (
    "task,problem,method,launch_seconds,check_seconds,resume_seconds\n"
    "power,a,stop,1.5,0.25,nan\npower,b,stop,1.5,0.75,nan\n"
)


@pytest.fixture
def folder(results: Results, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    results.write(path / "results.json")
    (path / "ledger.csv").write_text(ledger_csv(LEDGER))
    (path / "timings.csv").write_text(TIMINGS)
    return path


def test_every_part_comes_back_as_it_was_written(folder: Path, results: Results) -> None:
    run = RunFolder(folder)
    assert run.results.model_dump_json() == results.model_dump_json()
    assert run.ledger == LEDGER
    assert [timing.check_seconds for timing in run.timings] == [0.25, 0.75]
    assert all(math.isnan(timing.resume_seconds) for timing in run.timings)
    assert run.task == "all"


def test_results_of_another_schema_version_are_refused_by_name(folder: Path) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 3}))
    with pytest.raises(UserError, match=r"results\.json: schema version 3 is not that of this version \(2\)"):
        _ = RunFolder(folder).results


@pytest.mark.parametrize(
    ("name", "content", "part", "message"),
    [
        ("results.json", "no JSON", "results", "not JSON"),
        ("results.json", None, "results", "no such file; make it with"),
        ("ledger.csv", None, "ledger", "no such file"),
        ("ledger.csv", "a,b\n1,2\n", "ledger", "its columns are not those of this version"),
        ("ledger.csv", ledger_csv(LEDGER).replace("resume", "rest"), "ledger", r"ledger\.csv, line 4: .*phase: Input"),
        (
            "timings.csv",
            TIMINGS + "power,c\n",
            "timings",
            r"timings\.csv, line 4: .*method: Input should be a valid st",
        ),
        ("timings.csv", TIMINGS.replace("0.75", "soon"), "timings", r"timings\.csv, line 3: .*check_seconds: Inp"),
    ],
)
def test_a_fault_is_one_sentence(folder: Path, name: str, content: str | None, part: str, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        getattr(RunFolder(folder), part)


def test_other_folders_are_found_inside_or_beside_the_run_and_a_given_one_wins(folder: Path) -> None:
    run = RunFolder(folder)
    with pytest.raises(UserError, match=r"the rollouts that it would be made from are not here \(.*run/rollouts\)"):
        run.folder_of("sweep")
    (folder / "rollouts").mkdir()
    with pytest.raises(UserError, match=r"prunebench sweep --store \S+/run/rollouts --out \S+/sweep$"):
        run.folder_of("sweep")
    with pytest.raises(UserError, match=r"no ablations in .*docs/ablations\.md"):
        run.folder_of("ablations")
    beside, inside, named = folder.parent / "sweep", folder / "sweep", folder.parent / "mine"
    for place in (beside, inside, named):
        place.mkdir()
        assert RunFolder(folder, {"sweep": named} if place == named else {}).folder_of("sweep") == place
    with pytest.raises(UserError, match="no such folder"):
        RunFolder(folder, {"sweep": folder / "absent"}).folder_of("sweep")


def test_the_guideline_that_is_shown_is_the_one_that_gains_most(folder: Path) -> None:
    ours = {"model_hash": Results.read(folder / "results.json").hashes["model"]}
    (folder / "sweep").mkdir()
    for name, slope in (("entropy", 0.05), ("length", 0.2), ("margin", 0.1)):
        guideline_of(made_up(slope=slope).model_copy(update=ours), "stop").model_copy(update={"method": name}).save(
            folder / "sweep" / f"guideline-{name}.json"
        )
    gains = {name: found.gain(found.best_form).mean for name, found in RunFolder(folder).guidelines.items()}
    best = max(("entropy", "margin"), key=lambda name: gains[name])
    assert RunFolder(folder).guideline.method == best and set(gains) == {"entropy", "length", "margin"}
    foreign = guideline_of(made_up(), "stop")
    foreign.save(folder / "sweep" / "guideline-stop.json")
    with pytest.raises(UserError, match=r"sweep: a sweep of another model \(m\); name that of this run"):
        _ = RunFolder(folder).guideline
