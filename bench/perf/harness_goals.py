"""What the house around a model costs: replay and its statistics, a comparison, grading, the command line."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.tables.main import Setting, main_rows
from prunebench.bench.perf.clock import REPEATS, median_seconds, seconds_of
from prunebench.bench.perf.speed import Growth, Speed
from prunebench.bench.policies import Ratio
from prunebench.bench.processes import process_pool
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.controls.none import NoPruning
from prunebench.methods.controls.random_choice import RandomChoice
from prunebench.methods.pool import Pool
from prunebench.tasks.answer_types import answer_type_of


@dataclass
class FixedScores(Pruner):
    """Scores that are a fixed function of path and ``number``: what a replay costs does not depend on them."""

    name = "fixed-scores"
    source = Source.INTERNAL
    requires = frozenset()
    paper = "-"

    number: int = 0

    def score(self, pool: Pool) -> Scores:
        scores: Scores = np.sin(pool.paths * (self.number + 1.0) + int(pool.problem))
        return scores


def replayed(problems: int, methods: int = 30, gammas: int = 8) -> tuple[float, float]:
    """Seconds of grading, charging and testing ``methods`` at ``gammas`` retention ratios, and the peak in MB.

    64 made-up paths per problem; the statistics of every table, with 10,000 sign patterns per method.
    """
    records = [_made_up(number) for number in range(problems)]
    pruners: dict[str, Pruner] = {f"fixed-{number}": FixedScores(number) for number in range(methods)}
    pruners |= {"random": RandomChoice(), "none": NoPruning()}
    started = time.perf_counter()
    for gamma in np.geomspace(1 / 32, 1, gammas):
        policy = Ratio(float(gamma))
        candidates = {name: Candidate(name, pruner, policy) for name, pruner in pruners.items()}
        replays = replay_methods(records, candidates)
        table = main_rows(records, replays, candidates, Setting("made up", 40, 0, policy, _SIZE))
        assert len(table.rows) == len(candidates)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_SIZE = Arithmetic(1_000_000, 4, 128, 4096)


def replay(speed: Speed, _engine: Engine) -> None:
    """In a process of its own, whose memory is this alone."""
    runs = {problems: _elsewhere(replayed, problems) for problems in (50, 100, 200)}
    speed.values["replay_seconds"], speed.values["replay_peak_mb"] = runs[200]
    speed.growth["replay_seconds"] = [Growth("problems", tuple(runs), tuple(seconds for seconds, _ in runs.values()))]


_FEW, _MORE = 1, 2
"""Problems of every task."""


def comparing(speed: Speed, _engine: Engine) -> None:
    """All methods and equal cost on the stored rollouts of the larger reasoner: a line through few problems and more,
    read off at all of them."""
    store = REASONERS["embedded-base"].rollouts
    if not store.is_dir():
        speed.absent["compare_base_minutes"] = f"no rollouts of embedded-base in {store}"
        return
    seconds = [seconds_of(partial(_compared, store, problems)) for problems in (_FEW, _MORE)]
    stored = RolloutStore.open(store).problems()
    tasks = len({task for task, _ in stored})
    speed.values["compare_base_minutes"] = extrapolated((_FEW * tasks, _MORE * tasks), seconds, len(stored)) / 60


def _compared(store: Path, problems: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        setting = ("--n", "64", "--k", "8", "--prefix", "120", "--set", f"problems={problems}")
        _called(("compare", "--store", str(store), "--methods", "all", *setting, "--out", f"{out}/base"))


def extrapolated(sizes: tuple[int, int], seconds: Sequence[float], size: int) -> float:
    """What the line through two measurements says of ``size``."""
    slope = (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])
    return seconds[0] + slope * (size - sizes[0])


def _elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    with process_pool(1) as pool:
        return pool.submit(work, *arguments).result()


def _made_up(number: int, paths: int = 64, position: int = 40) -> ProblemRecord:
    random = np.random.default_rng(number)
    lengths = random.integers(position // 2, 8 * position, paths)
    held = np.minimum(lengths, position)
    rate = random.beta(0.5, 0.5)
    correct = (random.random(paths) < rate).astype(np.float64)
    classes = np.where(correct == 1, 0, random.integers(-1, 6, paths))
    halves = np.clip(rate + 0.2 * random.standard_normal((2, paths)), 0, 1)
    pool = Pool(
        problem=str(number), task="made up", position=position, prompt="", prompt_ids=np.arange(20),
        paths=np.arange(paths), lengths=held, finished=lengths <= position, answer_class=np.full(paths, -1),
        signals={Signal.OUTCOME: correct, Signal.POTENTIAL: halves.mean(0)},
    )  # fmt: skip
    return ProblemRecord("made up", str(number), pool, lengths, correct, classes, 0, halves, None, 1.0)


def help_and_list(speed: Speed, _engine: Engine) -> None:
    """Help and list, each in a new process: the slower of the two."""
    commands = (["--help"], ["list", "methods"])
    speed.values["help_seconds"] = max(median_seconds(partial(_called, words)) for words in commands)


def _called(words: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "prunebench.bench.cli", *words], check=True, stdout=subprocess.DEVNULL)


def grading(speed: Speed, _engine: Engine) -> None:
    """Answers that normalisation or a comparison of numbers decides, no two alike."""
    answers = answer_type_of("math")

    def seconds(count: int) -> float:
        begin = next(_numbers) * 1_000_000
        pairs = [(f"{begin + i}.0" if i % 2 else f"\\boxed{{0{begin + i}}}", str(begin + i)) for i in range(count)]
        return seconds_of(lambda: [answers.grade(*pair) for pair in pairs])

    speed.growth["grades_per_second"] = [Growth.measured("answers", (500, 1000, 2000, 4000), seconds)]
    speed.values["grades_per_second"] = 2000 / statistics.median(seconds(2000) for _ in range(REPEATS))


_numbers = iter(range(1, 1_000_000))
