"""Scoring by several processes: the tables of one, whatever happens in between."""

from __future__ import annotations

import shutil

import pytest

from prunebench.bench.cli.at_hand import EMBEDDED
from prunebench.bench.config import preset
from prunebench.bench.engines.load import load_engine
from prunebench.bench.errors import CrashError
from prunebench.bench.evaluation.comparison import run_comparison
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.replay_store import FILE
from prunebench.bench.evaluation.reproduce import differences
from prunebench.bench.plugins import load_plugin
from prunebench.bench.progress import uncounted
from prunebench.bench.training.at_hand import shipped_labels
from prunebench.methods.registry import PRUNERS

PLUGIN = """
from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Signal, Source
from prunebench.methods.registry import pruner


@pruner
@dataclass
class LateStates(Pruner):
    name = "late-states"
    source = Source.INTERNAL
    requires = frozenset({Signal.STATES})
    paper = "a test"

    def score(self, pool):
        if pool.problem == CRASHES:
            return pool.nothing
        return np.array([float(path[-1].mean()) for path in pool.states(2)])
"""
METHODS = ("late-states", "stop", "dynasor", "mean-rank(step,entropy)", "slim-sc", "potential", "random")


class Watch:
    """How far it is; it may end the run there."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.done, self._stop_at = 0, stop_at

    def stretch(self, name, total=None):
        return self.scored if name.startswith("scoring") else uncounted

    def scored(self, steps):
        self.done += steps
        if self._stop_at is not None and self.done >= self._stop_at:
            raise KeyboardInterrupt

    def tokens(self):
        return uncounted

    def say(self, sentence):
        pass


@pytest.fixture(scope="module")
def engine():
    return load_engine("embedded", "cpu")


@pytest.fixture(scope="module")
def scored(engine, tmp_path_factory):
    """Compares in a folder of that name, over the same rollouts."""
    base = tmp_path_factory.mktemp("scored")
    plugin = base / "late_states.py"
    config = preset("demo", problems=2, n=8, k=2, methods=METHODS, draws=2)

    def run(name: str, processes: int, watch: Watch | None = None, crashes="", methods=METHODS):
        plugin.write_text(f"CRASHES = {crashes!r}\n{PLUGIN}")
        load_plugin(plugin)
        rollouts = base / "alone" / "rollouts"
        if rollouts.exists() and not (base / name).exists():
            shutil.copytree(rollouts, base / name / "rollouts")
        inputs = Inputs(EMBEDDED.learned, tuple(shipped_labels("embedded")), plugins=(plugin,))
        asked = config.model_copy(update={"methods": methods})
        out = base / name
        return run_comparison(engine, asked, out, inputs, processes=processes, progress=watch or Watch()), out

    PRUNERS.names()
    with pytest.MonkeyPatch.context() as patch:  # what is registered here is forgotten afterwards
        for table in ("_entries", "_homes"):
            patch.setattr(PRUNERS, table, dict(getattr(PRUNERS, table)))
        yield run


def replays_in(out):
    """The lines that hold them."""
    return (out / FILE).read_bytes().split(b"\n")


@pytest.fixture(scope="module")
def alone(scored):
    return scored("alone", 1)


def test_two_processes_write_what_one_writes_and_say_how_far_they_are(alone, scored):
    watch = Watch()
    together, out = scored("together", 2, watch)
    assert differences(alone[0], together) == []
    assert watch.done == len(together.problems) * 2 * len({row.method for row in together.rows})
    for name in ("decisions.parquet", "ledger.csv"):
        assert (out / name).read_bytes() == (alone[1] / name).read_bytes()


def test_what_was_interrupted_goes_on_from_there(alone, scored):
    with pytest.raises(KeyboardInterrupt):
        scored("stopped", 2, Watch(stop_at=24))
    kept = replays_in(alone[1].parent / "stopped")
    again, out = scored("stopped", 2)
    assert differences(alone[0], again) == []
    whole = replays_in(out)
    assert whole[: len(kept)] == kept
    assert 0 < len(kept) < len(whole) == len(replays_in(alone[1]))


def test_a_plugin_that_crashes_is_the_sentence_of_one_process(scored, alone):
    crashes = alone[0].problems["synthetic/power"][1]
    sentences = []
    for processes in (1, 2):
        with pytest.raises(CrashError, match="method 'late-states' failed on") as error:
            scored(f"crashed-{processes}", processes, crashes=crashes, methods=("late-states", "entropy"))
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]
