"""Size, training and labelling plans of the embedded reasoner, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped checkpoint: an ordinary Hugging Face folder."""


@dataclass(frozen=True)
class ReasonerShape:
    """A Qwen2 of about a million parameters."""

    hidden_size: int = 128
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 384
    max_position_embeddings: int = 1024
    initializer_range: float = 0.05


@dataclass(frozen=True)
class TrainingPlan:
    """Muon and AdamW with a warm-up, a plateau and a linear decay. All lengths count tokens, padding excluded."""

    seed: int = 0
    tokens: int = 36_000_000
    warmup_tokens: int = 500_000
    decay_tokens: int = 7_000_000
    batch_tokens: int = 5_000
    chunk_documents: int = 2_048
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 5e-3
    weight_decay: float = 0.05
    checkpoint_seconds: float = 600.0


@dataclass(frozen=True)
class LabelPlan:
    """How many problems, prefixes and continuations, per task.

    ``train_prefixes``: how many prefixes of every training problem are labelled at L/2, L and 2L.
    """

    train_problems: int = 100
    train_paths: int = 32
    train_prefixes: tuple[int, int, int] = (4, 8, 4)
    train_continuations: int = 16
    correct_at_least: int = 4
    correct_at_most: int = 28
    validation_continuations: int = 16
    test_continuations: int = 32
    batch: int = 16


RECIPES = {
    "cpu": LabelPlan(),
    "paper": LabelPlan(train_prefixes=(32, 32, 32), train_continuations=32, validation_continuations=32),
}
