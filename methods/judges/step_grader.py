"""The network of a process reward model: the body that reads, and the head that grades every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.judges.checkpoint import Checkpoint
from prunebench.methods.judges.steps import Reading, StepTokenizer
from prunebench.methods.pool import Pool

_ROWS = 8
"""Texts per forward. It is fixed, so that a text stands in the same batch whatever the order of the paths."""


class StepGrader:
    """Body and head of a judge; ``module`` holds them as ``model`` and ``score``.

    The head has one output (a value) or two (wrong, right).
    """

    def __init__(self, body: Any, head: Any, device: str = "cpu") -> None:
        import torch

        self.module: Any = torch.nn.Module()
        self.module.model, self.module.score = body, head
        self.module.to(device).eval()

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, tokenizer: StepTokenizer, device: str = "cpu", exact: bool = False
    ) -> StepGrader:
        """The judge as it was saved; ``exact`` or on a CPU: in float32."""
        import torch

        body = checkpoint.body("auto" if device != "cpu" and not exact else torch.float32)
        return cls(body, head_of(checkpoint, tokenizer), device)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def weight_bytes(self) -> int:
        return sum(parameter.numel() * parameter.element_size() for parameter in self.module.parameters())

    def charge(self, pool: Pool, readings: Mapping[str, Reading]) -> None:
        """Charge the distinct prefixes with their problem, in the judge's own tokens and by its own size."""
        tokens = np.array([len(readings[text].ids) for text in pool.text])
        flops = 2.0 * self.parameters * tokens
        pool.charge(reencoded_tokens=tokens, flops=flops, model_bytes=self.weight_bytes, read=pool.text)

    def logits(self, readings: Sequence[Reading]) -> Any:
        """(steps of all readings, outputs) float32, in their order; the shorter ones are padded on the right."""
        import torch

        device = next(self.module.score.parameters()).device
        width = max(len(reading.ids) for reading in readings)
        ids = torch.zeros(len(readings), width, dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for row, reading in enumerate(readings):
            ids[row, : len(reading.ids)] = torch.tensor(reading.ids)
            mask[row, : len(reading.ids)] = 1
        states = self.module.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        rows = [row for row, reading in enumerate(readings) for _ in reading.places]
        return self.module.score(states[rows, [place for reading in readings for place in reading.places]].float())

    def probabilities(self, readings: Sequence[Reading]) -> list[NDArray[np.float64]]:
        """Per reading (steps,): sigmoid of the value, or softmax[1]."""
        import torch

        grades: list[NDArray[np.float64]] = [np.zeros(0)] * len(readings)
        order = sorted(range(len(readings)), key=lambda i: (len(readings[i].ids), readings[i].ids))
        with torch.no_grad():
            for start in range(0, len(order), _ROWS):
                rows = order[start : start + _ROWS]
                logits = self.logits([readings[row] for row in rows]).double()
                right = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, 1]
                ends = np.cumsum([len(readings[row].places) for row in rows])
                for row, steps in zip(rows, np.split(right.cpu().numpy(), ends[:-1]), strict=True):
                    grades[row] = steps
        return grades


def head_of(checkpoint: Checkpoint, tokenizer: StepTokenizer) -> Any:
    """The head in float32: of a language model the two rows of its output layer that are asked for."""
    if tokenizer.form == "value":
        return _linear(checkpoint.tensor("v_head.summary.weight"), checkpoint.tensor("v_head.summary.bias"))
    if tokenizer.form == "separator":
        return separator_head(checkpoint.tensor)
    output = checkpoint.tensor("lm_head.weight", "model.embed_tokens.weight")
    return _linear(output[list(tokenizer.answers)], None)


def separator_head(tensor: Callable[[str], Any]) -> Any:
    """Linear-ReLU-Linear from the tensors ``score.{0,2}.{weight,bias}``."""
    import torch

    first, second = (_linear(tensor(f"score.{layer}.weight"), tensor(f"score.{layer}.bias")) for layer in (0, 2))
    return torch.nn.Sequential(first, torch.nn.ReLU(), second)


def _linear(weight: Any, bias: Any) -> Any:
    """A float32 layer with the given weight (outputs, inputs) and bias (outputs,) or None; it draws nothing."""
    import torch

    outputs, inputs = weight.shape
    layer = torch.nn.Linear(inputs, outputs, bias=bias is not None, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
