"""What is asked of a reasoner that makes both kinds of errors, uncertain and confident ones; it needs no labels.

``python -m prunebench.bench.reasoner.kinds --model FOLDER --work FOLDER`` measures it on any weights, shipped or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import NOTHING, LocalEngine
from prunebench.bench.policies.votes import Majority
from prunebench.bench.progress import SILENT, Progress, Spoken
from prunebench.bench.reasoner.open_errors import Detectors, error_dataset, told
from prunebench.bench.reasoner.requirement import Line
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.methods.confidence.entropy import Entropy
from prunebench.methods.confidence.margin import Margin
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.pool import PrefixDataset
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import Instance
from prunebench.tasks.synthetic_task import GROUPS, SYNTHETIC_TASKS, SyntheticTask

SIGNALS = {"entropy": Entropy(), "margin": Margin(), "perplexity": Perplexity()}
KINDS = ("synthetic", "synthetic-100")
TRAIN_PROBLEMS, TRAIN_PATHS = 100, 32
"""Of a family, for the detectors of one kind of errors."""


@dataclass(frozen=True)
class OneKind:
    """Rollouts, by family, of problems of whose errors of reading the share ``confident`` is confident."""

    confident: float
    train: dict[str, list[StoredProblem]]
    validation: dict[str, list[StoredProblem]]


def lines_of(
    engine: LocalEngine, kind: OneKind, position: int, instances: Mapping[str, Instance]
) -> Iterator[list[Line]]:
    """What is asked of one kind of errors, family by family; its detectors are fitted on its own training problems.

    Of confident errors the next token says nothing, neither way: a method that ranks them upside down is told by its
    sign.
    """

    def errors(family: str, problems: Sequence[StoredProblem]) -> PrefixDataset:
        return error_dataset(engine, family, problems, position, instances)

    detectors = Detectors.fitted(engine, {family: errors(family, problems) for family, problems in kind.train.items()})
    share = f"{kind.confident:.0%} confident"
    for family, problems in kind.validation.items():
        found = errors(family, problems)
        signals = {name: told(found, method.score) for name, method in SIGNALS.items()}
        if kind.confident:
            lines = [
                Line(f"{share}: AUROC of {name}, either way", None, 0.62, max(value, 1 - value))
                for name, value in signals.items()
            ]
        else:
            lines = [Line(f"{share}: AUROC of entropy", 0.70, None, signals["entropy"])]
        records = [record_of(engine, stored, position, None) for stored in problems]
        majorities = [Majority().elect(record.answer_class).correctness(record.gold_class) for record in records]
        yield [
            *lines,
            Line(f"{share}: best AUROC of probes", 0.75, None, max(detectors.probes(engine, found).values())),
            Line(f"{share}: AUROC of a text classifier", None, 0.62, told(found, detectors.words.score)),
            Line(f"{share}: maj@{len(problems[0].paths)}, %", None, 85, 100 * float(np.mean(majorities))),
        ]


def instances(tasks: Iterable[SyntheticTask], split: str, seed: int, limit: int) -> dict[str, Instance]:
    """The synthetic problems behind the ids of a split."""
    by_id: dict[str, Instance] = {}
    for task in tasks:
        by_id.update({instance.identity: instance for instance in islice(task.instances(split, seed), limit)})
    return by_id


def sampled_kinds(
    engine: LocalEngine, folder: Path, config: RunConfig, progress: Progress = SILENT
) -> tuple[list[OneKind], dict[str, Instance]]:
    """Paths of problems with uncertain and with confident errors only, and the problems behind their ids.

    Of training problems the paths end behind the checkpoint: detectors read no further.
    """
    kinds, known = [], dict[str, Instance]()
    short = replace(config.sampling, max_new_tokens=config.prefix_tokens + 1)
    plans = {"train": (TRAIN_PROBLEMS, TRAIN_PATHS, short), "validation": (config.problems, config.n, config.sampling)}
    for group in KINDS:
        found: dict[str, dict[str, list[StoredProblem]]] = {split: {} for split in plans}
        for family in FAMILIES:
            task = SYNTHETIC_TASKS[f"{group}/{family}"]
            for split, (count, paths, sampling) in plans.items():
                store = sample_rollouts(
                    engine,
                    problems_of([task], split, count, config.seed),
                    folder / group / split / family,
                    n=paths,
                    sampling=sampling,
                    seed=config.seed,
                    recording=NOTHING,
                    progress=progress,
                )
                found[split][family] = list(store.read())
                known |= instances([task], split, config.seed, count or 0)
        kinds.append(OneKind(GROUPS[group][1], found["train"], found["validation"]))
    return kinds, known


if __name__ == "__main__":
    import argparse

    import torch

    from prunebench.bench.config import preset
    from prunebench.bench.engines.load import load_local

    parser = argparse.ArgumentParser(description="What is asked of both kinds of errors; the same command resumes.")
    parser.add_argument("--model", required=True, help="A shipped reasoner, or a folder of weights.")
    parser.add_argument("--work", type=Path, required=True, help="Where the paths are kept.")
    parser.add_argument("--problems", type=int, default=24, help="Validation problems of a family.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = preset("demo").model_copy(update={"problems": options.problems})
    reasoner = load_local(options.model, "cpu", rows_in_flight=512)
    spoken = Spoken(lambda sentence: print(sentence, flush=True))
    both, behind = sampled_kinds(reasoner, options.work / reasoner.digest, asked, spoken)
    for kind in both:
        for name, lines in zip(kind.validation, lines_of(reasoner, kind, asked.prefix_tokens, behind), strict=True):
            for line in lines:
                print(f"{name:10} {line.name}: {line.value:.3g} {'met' if line.met else 'NOT MET'}", flush=True)
