"""The process reward model, fine-tuned to say how the prefixes of this very generator end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import (
    JudgeMissingError,
    LearnablePruner,
    NotFittedError,
    Scores,
    Setting,
    Signal,
    Source,
    UsesJudge,
)
from prunebench.methods.judges.checkpoint import Checkpoint
from prunebench.methods.judges.step_grader import StepGrader, separator_head
from prunebench.methods.judges.steps import Reading, StepTokenizer
from prunebench.methods.learned.fitting import Schedule, fingerprint, fit_module
from prunebench.methods.learned.stop import of_like_width
from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class PrmRetrain(UsesJudge, LearnablePruner):
    """``prm`` of the separator form with all weights fine-tuned on the Monte Carlo labels (arXiv 2604.16029).

    The judge reads problem and prefix with a separator behind every step, as in :class:`methods.judges.prm.Prm`. Only
    the last separator, the end of the prefix, is graded: the score is softmax[1] of the head on its state, a
    probability of success (higher = keep, as in the source). Loss: soft cross-entropy against the success rate s,
    -s log p - (1 - s) log(1 - p). AdamW on float32 weights; the epoch is chosen on validation problems by
    within-problem ranking, and ``patience`` epochs without a better one end the training.

    What is saved is the whole judge: tensors ``model.*`` and ``score.*``, and its configuration as JSON. Loaded, it
    needs no more than the tokenizer of the checkpoint that it started from.
    """

    role = "prm"
    name = "prm-retrain"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TEXT})
    paper = "arXiv 2604.16029 (judge: 2506.22058)"
    pointwise = True
    probability = True
    extra_cost = "a judge reads every distinct prefix anew"

    model: str = "embedded"
    learning_rate: float = 1e-4
    epochs: int = 6
    batch: int = 32
    patience: int = 2
    step_end: str = "\n\n"
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """A large judge wants the smallest step, the shipped one a larger one."""
        return [cls(learning_rate=rate) for rate in (2e-5, 1e-4, 5e-4)]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        """Raises ValueError for a judge of another form than ``separator``."""
        tokenizer = self._tokenizer()
        grader = self._start(tokenizer)
        lesson = _Lesson(grader, _readings(tokenizer, train), train.success)
        judged = [tokenizer.distinct(labelled.pool) for labelled in validation]
        texts = [labelled.pool.text for labelled in validation]
        read = [*lesson.readings, *(reading for readings in judged for reading in readings.values())]
        data = fingerprint(train, validation, *(np.array(reading.ids) for reading in read))
        grader.module.requires_grad_(True)
        self.history_: list[dict[str, float]] = fit_module(
            grader.module,
            lesson.losses,
            len(lesson.readings),
            lambda: [_success(grader, *pair) for pair in zip(judged, texts, strict=True)],
            validation,
            Schedule(self.learning_rate, self.epochs, self.batch, self.patience, self.seed),
            {"method": self.name, **self.hyperparameters(), "data": data},
            self.resume_in_,
        )
        grader.module.requires_grad_(False)
        self.grader_ = grader
        return self

    def score(self, pool: Pool) -> Scores:
        grader = self._fitted()
        texts = pool.text
        readings = self._tokenizer().distinct(pool)
        grader.charge(pool, readings)
        return _success(grader, readings, texts)

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        grader = self._fitted()
        tensors = {name: tensor.cpu().contiguous() for name, tensor in sorted(grader.module.state_dict().items())}
        save_file(tensors, str(path), metadata={"config": json.dumps(grader.module.model.config.to_dict())})

    def load(self, path: Path) -> Self:
        """Raises ValueError for tensors that are not those of the saved configuration."""
        import torch
        from safetensors import safe_open
        from transformers import AutoConfig, AutoModel

        with safe_open(str(path), framework="pt") as file:
            settings = json.loads((file.metadata() or {}).get("config", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if "score.0.weight" not in tensors or "model_type" not in settings:
            raise ValueError(f"{path}: holds no judge; train it again with: prunebench train {self.name}")
        with torch.random.fork_rng():
            config = AutoConfig.for_model(settings.pop("model_type"), **settings)
            body = AutoModel.from_config(config, dtype=torch.float32)
        grader = StepGrader(body, separator_head(tensors.__getitem__))
        try:
            grader.module.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{path}: its tensors are not those of its configuration ({error})") from error
        self.grader_ = grader
        grader.module.requires_grad_(False)
        return self

    def _fitted(self) -> StepGrader:
        if not hasattr(self, "grader_"):
            raise NotFittedError(self.name)
        return self.grader_

    def _tokenizer(self) -> StepTokenizer:
        if not hasattr(self, "source_"):
            raise JudgeMissingError(self.name)
        if getattr(self, "read_from_", None) != (self.source_, self.step_end):
            self.tokenizer_ = StepTokenizer(Checkpoint(self.source_, weights=False), "separator", self.step_end)
            self.read_from_ = (self.source_, self.step_end)
        return self.tokenizer_

    def _start(self, tokenizer: StepTokenizer) -> StepGrader:
        checkpoint = Checkpoint(self.source_)
        if checkpoint.form != "separator":
            raise ValueError(
                f"{self.name} starts from a judge of the form 'separator', and {self.source_} is of the form "
                f"'{checkpoint.form}'; name another one: prunebench train {self.name} --judge {self.name}=FOLDER_OR_ID"
            )
        return StepGrader.of(checkpoint, tokenizer, self.device_, exact=True)


def _readings(tokenizer: StepTokenizer, dataset: PrefixDataset) -> list[Reading]:
    """The end-graded readings of all prefixes, in pool order."""
    readings = []
    for labelled in dataset:
        distinct = tokenizer.distinct(labelled.pool)
        readings += [_at_the_end(distinct[text]) for text in labelled.pool.text]
    return readings


def _at_the_end(reading: Reading) -> Reading:
    return Reading(reading.ids, reading.places[-1:])


def _success(grader: StepGrader, readings: dict[str, Reading], texts: Sequence[str]) -> Scores:
    """(len(texts),): the grade of the last separator of every text."""
    grades = grader.probabilities([_at_the_end(reading) for reading in readings.values()])
    last = {text: float(grade[0]) for text, grade in zip(readings, grades, strict=True)}
    return np.array([last[text] for text in texts])


class _Lesson:
    """Training prefixes as the judge reads them, and the loss of any batch of them."""

    def __init__(self, grader: StepGrader, readings: list[Reading], targets: NDArray[np.float64]) -> None:
        import torch

        self.grader, self.readings = grader, readings
        self.widths = np.array([len(reading.ids) for reading in readings])
        self.targets = torch.from_numpy(targets).float()

    def losses(self, batch: NDArray[np.int64]) -> Iterator[Any]:
        """Parts of the mean soft cross-entropy of a batch, one per width class."""
        import torch
        from torch.nn import functional

        for part in of_like_width(batch, self.widths):
            logits = self.grader.logits([self.readings[row] for row in part])
            wanted = self.targets[torch.from_numpy(part)].to(logits.device)
            loss = functional.cross_entropy(logits, torch.stack([1 - wanted, wanted], 1), reduction="sum")
            yield loss / len(batch)
