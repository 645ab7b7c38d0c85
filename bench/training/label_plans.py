"""How many problems, prefixes and continuations methods learn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelPlan:
    """How many problems, prefixes and continuations, per task.

    ``train_prefixes``: how many prefixes of every training problem are labelled at L/2, L and 2L.
    ``validation_problems`` and ``validation_paths`` are sampled and labelled, those of ``test`` sampled; of these
    the first ``test_labelled`` problems get labels, for the prefixes of the first paths of a comparison. None: as many
    as the comparison has. ``record``: whether the signals are stored as well; they can be had again by
    reading the paths.
    """

    train_problems: int = 100
    train_paths: int = 32
    train_prefixes: tuple[int, int, int] = (4, 8, 4)
    train_continuations: int = 16
    correct_at_least: int = 4
    correct_at_most: int = 28
    validation_continuations: int = 16
    test_continuations: int = 32
    validation_problems: int | None = None
    validation_paths: int | None = None
    test_problems: int | None = None
    test_paths: int | None = None
    test_labelled: int | None = None
    batch: int = 16
    record: bool = True


RECIPES = {
    "small": LabelPlan(
        train_problems=40,
        train_paths=16,
        train_prefixes=(2, 6, 2),
        train_continuations=8,
        correct_at_least=1,
        correct_at_most=15,
        validation_continuations=8,
        test_continuations=8,
    ),
    "cpu": LabelPlan(record=False),
    "embedded": LabelPlan(validation_problems=12, test_continuations=16, record=False),
    "gpu": LabelPlan(
        train_problems=40,
        train_prefixes=(2, 6, 2),
        test_problems=25,
        test_paths=256,
        test_labelled=12,
        batch=64,
        record=False,
    ),
    "cpu-base": LabelPlan(
        train_problems=24,
        train_prefixes=(2, 4, 2),
        train_continuations=8,
        correct_at_least=1,
        correct_at_most=31,
        validation_problems=6,
        validation_continuations=4,
        test_continuations=4,
        record=False,
    ),
    "real": LabelPlan(
        train_problems=50,
        train_paths=16,
        train_prefixes=(2, 4, 2),
        train_continuations=8,
        correct_at_least=1,
        correct_at_most=15,
        validation_problems=12,
        validation_paths=32,
        validation_continuations=4,
        test_labelled=15,
        test_continuations=8,
        record=False,
    ),
    "toy": LabelPlan(
        train_problems=1,
        train_paths=4,
        train_prefixes=(1, 1, 1),
        train_continuations=2,
        correct_at_least=0,
        correct_at_most=4,
        validation_continuations=2,
        test_continuations=2,
        batch=1,
    ),
    "paper": LabelPlan(train_prefixes=(32, 32, 32), train_continuations=32, validation_continuations=32),
}
