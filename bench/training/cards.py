"""What stands beside a learned file: how its configuration was chosen, and which problems it has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.methods.base import Pruner
from prunebench.methods.pool import LabelledPool
from prunebench.tasks.errors import first_line

PROBLEMS = "problems.jsonl"
"""Beside the cards: the prompts of the problems that they name."""


@dataclass(frozen=True)
class Card:
    """What stands beside a learned file: how the configuration was chosen, and what it was learned from.

    ``prefixes`` counts by length what it was learned (or tuned) from; ``code`` is that of the method, and ``key`` says
    all that a training depends on. Cards of earlier versions lack the three.
    """

    method: str
    configuration: dict[str, Any]
    validation_auroc: float
    candidates: list[dict[str, Any]]
    model_hash: str
    sampling_digest: str
    prefix_tokens: Annotated[list[int], Field(min_length=1)]
    train_data: str
    train_problems: list[str]
    validation_problems: list[str]
    train_seconds: float
    seed: int
    imported: str = ""
    """The folder of a checkpoint that was trained elsewhere, on problems that nobody names."""
    prefixes: dict[int, int] = field(default_factory=dict)
    checkpoint: int = 0
    code: str = ""
    key: str = ""
    members: list[dict[str, Any]] = field(default_factory=list)
    """Of every seed that the configuration was trained with, in the order of the files: ``seed``, ``validation_auroc``.

    ``validation_auroc`` of the card is their mean. Empty for what is not drawn, and for cards of earlier versions.
    """
    epoch_problems: list[str] = field(default_factory=list)
    """Those of the validation problems that chose the epoch; the others chose configuration and method."""
    origin: dict[str, str] = field(default_factory=dict)
    """The folder of ``data`` and the ``model`` that it was trained with, for the command that trains it again."""

    @property
    def tuned_at(self) -> int:
        """The prefix length at which the configuration was chosen; of L/2, L and 2L the middle one."""
        return self.checkpoint or sorted(self.prefix_tokens)[len(self.prefix_tokens) // 2]

    @classmethod
    def read(cls, path: Path) -> Card:
        """Raises UserError for a card that is damaged or of another version."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            fault = first_line(error)
            if isinstance(error, ValidationError):
                fault = ": ".join([*map(str, error.errors()[0]["loc"]), error.errors()[0]["msg"]])
            raise UserError(f"{path}: not a card of this version ({fault}); train again") from error

    def content(self) -> dict[str, Any]:
        """All but where it came from, which changes nothing."""
        return asdict(replace(self, origin={}))

    def write(self, path: Path) -> None:
        write_atomically(path, (json.dumps(self.__dict__, indent=1, sort_keys=True) + "\n").encode())


def describe(pruner: Pruner) -> str:
    """Hyper-parameters in one line."""
    return describe_configuration(pruner.hyperparameters())


def describe_configuration(configuration: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in configuration.items()) or "defaults"


def learned_problems(folder: Path) -> dict[str, str]:
    """The prompts of all problems that methods in ``folder`` were trained or tuned on, by id; empty if unknown."""
    path = folder / PROBLEMS
    if not path.exists():
        return {}
    prompts = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); delete it and train") from error
    for number, line in enumerate(filter(None, lines), 1):
        try:
            problem = json.loads(line)
            prompts[str(problem["problem"])] = str(problem["prompt"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: no problem and prompt ({first_line(error)}); delete it and train"
            ) from error
    return prompts


def remember_problems(folder: Path, pools: Iterable[LabelledPool]) -> None:
    """Keep the prompts beside the cards: whether another problem nearly repeats one cannot be told by its id."""
    prompts = {**learned_problems(folder), **{labelled.pool.problem: labelled.pool.prompt for labelled in pools}}
    lines = [json.dumps({"problem": problem, "prompt": prompts[problem]}) for problem in sorted(prompts)]
    write_atomically(folder / PROBLEMS, ("\n".join(lines) + "\n").encode())


def refuse_leak(cards: Mapping[str, Card | None], problems: Sequence[str]) -> None:
    """Raises UserError when a method was trained or tuned on a problem that it is now evaluated on."""
    for name, card in cards.items():
        if card is None:
            continue
        seen = {*card.train_problems, *card.validation_problems} & set(problems)
        if seen:
            raise UserError(
                f"method '{name}' was trained or tuned on {len(seen)} of these problems "
                f"({', '.join(sorted(seen)[:3])}); evaluate on another split"
            )
