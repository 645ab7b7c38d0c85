"""The whole way from tasks to a recommendation: train, sample, sweep, recommend. Every step resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.guideline.recommendation import Recommendation, recommend
from prunebench.bench.guideline.sweep import GAMMAS, Grid, playable_of, sweep_by_name
from prunebench.bench.progress import SILENT, Progress, left_out_lines
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.sampling import problems_of, sample_split, tasks_of
from prunebench.bench.training.cards import learned_problems
from prunebench.bench.training.label_plans import LabelPlan
from prunebench.bench.training.learn import learn, nothing_to_learn_from
from prunebench.bench.training.loading import Judges, entry_of
from prunebench.tasks.near_duplicates import near_duplicates, note

SMALLEST_GAMMA = 1 / 8


@dataclass(frozen=True)
class Advised:
    """A recommendation, the folder of what was trained for it, and the methods that were swept."""

    recommendation: Recommendation
    learned: Path
    methods: Sequence[str]


def advice(
    engine: Engine,
    config: RunConfig,
    plan: LabelPlan,
    taught: Sequence[str],
    untaught: Sequence[str],
    out: Path,
    *,
    shipped: Path | None = None,
    budget: float | None = None,
    processes: int = 1,
    command: str = "",
    progress: Progress = SILENT,
    look: FirstLook | None = None,
) -> Advised:
    """Train ``taught``, sample the test problems, sweep all methods at one budget and less, and recommend.

    ``shipped`` holds what others have learned for this model. Without a ``budget`` it is what keeping all of a quarter
    of the paths costs. ``progress`` is told when there are too few problems to learn from, and when some nearly repeat
    what others have learned. ``look``: at the first problem of every split, see :class:`FirstLook`.
    """
    judges = Judges({}, engine.device, shipped=engine.name in SYNTHETIC)
    learned = out / "training"
    playable, left_out = playable_of({name: entry_of(name) for name in [*taught, *untaught]})
    for line in left_out_lines(left_out):
        progress.say(line)
    taught, untaught = ([name for name in names if name in playable] for names in (taught, untaught))
    reason = nothing_to_learn_from(config) if taught else None
    if reason is not None:
        progress.say(f"{reason}; not trained: {', '.join(taught)}")
        taught = ()
    if taught:
        learned = learn(
            engine, config, plan, taught, out / "training",
            judges=judges, processes=processes, progress=progress, look=look,
        )  # fmt: skip
    if shipped is None:
        learned.mkdir(parents=True, exist_ok=True)  # empty, it says that nothing was learned for this model
    elif alike := _alike(config, shipped):
        progress.say(alike)
    store = sample_split(engine, config, out / "rollouts", processes=processes, progress=progress, look=look)
    lengths = [length for paths in store.lengths().values() for length in paths]
    whole = float(np.mean(lengths)) * max(1, config.n // 4) if budget is None else budget
    gammas = tuple(gamma for gamma in GAMMAS if gamma >= SMALLEST_GAMMA)
    grid = Grid((config.prefix_tokens,), (whole / 4, whole / 2, whole), gammas, seed=config.seed)
    sweep = sweep_by_name(
        engine,
        out / "rollouts",
        [*taught, *untaught],
        (learned, shipped) if shipped else learned,
        config.prefix_tokens,
        grid,
        out / "sweep",
        judges=judges,
        command=command,
        progress=progress,
    )
    recommendation = recommend(sweep, whole, command)
    recommendation.save(out / "recommendation.json", indent=1)
    return Advised(recommendation, learned, sweep.methods)


def _alike(config: RunConfig, learned: Path) -> str | None:
    """The sentence about evaluated problems that nearly repeat one in ``learned``."""
    chosen = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    evaluated = {problem.id: problem.prompt for _, problem in chosen}
    return note(near_duplicates(evaluated, learned_problems(learned)), len(evaluated))
