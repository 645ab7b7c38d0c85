"""A process reward model as a judge: it reads problem and prefix anew and grades every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import JudgeMissingError, PretrainedJudge, Scores, Setting, Signal
from prunebench.methods.judges.checkpoint import Checkpoint
from prunebench.methods.judges.step_grader import StepGrader
from prunebench.methods.judges.steps import StepTokenizer
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner

Aggregate = Literal["last", "min", "prod", "mean"]


AGGREGATES: Mapping[Aggregate, Callable[[NDArray[np.float64]], float]] = {
    "last": lambda steps: float(steps[-1]),
    "min": lambda steps: float(steps.min()),
    "prod": lambda steps: float(steps.prod()),
    "mean": lambda steps: float(steps.mean()),
}


@pruner
@dataclass
class Prm(PretrainedJudge):
    """Step scores of a process reward model, over the steps of the prefix (LaBoR, arXiv 2506.22058).

    A step ends with ``step_end``; an unfinished last one counts. The judge reads problem and prefix with its own
    tokenizer and gives each of the S steps a probability p_1..p_S of being right (higher = keep, as in the source);
    ``aggregate`` makes one score of them: p_S, min, product or mean. Equal prefixes are read once. By ``form``:

    - ``separator`` (Qwen2.5-Math-PRM): a token ``<extra_0>`` behind every step; head ``score``: Linear-ReLU-Linear to
      two classes on its state, softmax[1]. With a chat template: system, user = problem, assistant = steps; without
      one: the problem and the steps as they stand, BOS in front where there is one (the shipped judge).
    - ``value`` (Skywork-o1-Open-PRM): a line break behind every step; head ``v_head.summary``: Linear to one value on
      its state, sigmoid.
    - ``plus-minus`` (RLHFlow): every step is a user's turn (without a chat template: plain text), answered by ``+``;
      softmax of ``+`` against ``-`` as the next token, at the token before that answer.
    - ``step-tag`` (Math-Shepherd): a tag behind every step; softmax of ``+`` against ``-`` in the logits at the tag.

    ``auto`` tells the form by the names of the checkpoint's tensors and its architecture. What is known of the forms
    (:data:`prunebench.methods.judges.steps.FORMS`) is not verified against the released checkpoints: it is that of
    public code. No code of a checkpoint is run: the body is loaded by its architecture and the head is read from the
    safetensors files by name. What the text itself holds of a ``<extra_0>`` or of the tag is taken out before.
    """

    role = "prm"
    name = "prm"
    requires = frozenset({Signal.TEXT})
    paper = "arXiv 2506.22058"
    pointwise = True
    probability = True
    extra_cost = "a judge reads every distinct prefix anew"

    model: str = "embedded"
    form: Literal["auto", "separator", "value", "plus-minus", "step-tag"] = "auto"
    aggregate: Aggregate = "last"
    step_end: str = "\n\n"

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(aggregate=aggregate) for aggregate in AGGREGATES]

    def score(self, pool: Pool) -> Scores:
        return np.array([AGGREGATES[self.aggregate](steps) for steps in self.step_scores(pool)])

    def step_scores(self, pool: Pool) -> list[NDArray[np.float64]]:
        """Per path (steps,): the probability that each step is right. Raises ValueError for a prefix too long."""
        texts = pool.text
        tokenizer, grader = self._judge()
        readings = tokenizer.distinct(pool)
        grader.charge(pool, readings)
        probabilities = dict(zip(readings, grader.probabilities(list(readings.values())), strict=True))
        return [probabilities[text] for text in texts]

    def _judge(self) -> tuple[StepTokenizer, StepGrader]:
        if not hasattr(self, "source_"):
            raise JudgeMissingError(self.name)
        key = (self.source_, self.form, self.step_end)
        if getattr(self, "loaded_", None) != key:
            checkpoint = Checkpoint(self.source_)
            form = checkpoint.form if self.form == "auto" else self.form
            tokenizer = StepTokenizer(checkpoint, form, self.step_end)
            self.judge_ = tokenizer, StepGrader.of(checkpoint, tokenizer, self.device_)
            self.loaded_ = key
        return self.judge_
