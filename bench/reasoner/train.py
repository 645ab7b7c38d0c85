"""Train a shipped reasoner. The same command resumes from the last checkpoint; two runs give the same weights."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from prunebench.bench.engines.shipped import SYNTHETIC, ReasonerShape, TrainingPlan
from prunebench.bench.processes import process_pool
from prunebench.bench.progress import SILENT, Progress, Spoken
from prunebench.bench.reasoner.recipe import Stage, TrainingText, chunk_of, stage_at, stages_of
from prunebench.bench.reasoner.vocabulary import BOS, EOS, IDS, PAD, RESERVED, UNKNOWN, VOCABULARY, save_tokenizer
from prunebench.tasks.synthetic.family import CHECK
from prunebench.tasks.synthetic.wording import FILLERS

Step = Callable[[Any, list[torch.optim.Optimizer], torch.Tensor, torch.Tensor], torch.Tensor]
"""One update of a model with its optimizers on (ids, labels); its loss."""
IGNORED = -100
SHARD_SIZE = "14MB"
DECIDED_TOKENS = 7
"""So many tokens behind a filler a step has said how it reads a quantity."""


def new_model(shape: ReasonerShape, seed: int) -> Any:
    """A randomly initialised ``Qwen2ForCausalLM`` over :data:`VOCABULARY`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            **asdict(shape),
            vocab_size=len(VOCABULARY),
            tie_word_embeddings=True,
            bos_token_id=IDS[BOS],
            eos_token_id=IDS[EOS],
            pad_token_id=IDS[PAD],
        )
    )


@dataclass(frozen=True)
class Example:
    """Token ids; the loss is taken on ``ids[loss_from:]``."""

    ids: Sequence[int]
    loss_from: int


def encoded(text: TrainingText) -> Example:
    return Example([IDS[token] for token in text.tokens], text.loss_from)


def batches(
    chunk: Iterable[Example], batch_tokens: int, rng: random.Random, pad: int = IDS[PAD], most: float = math.inf
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded (input ids, labels) of at ``most`` so many examples of like length, in random order."""
    groups: list[list[Example]] = [[]]
    for example in sorted(chunk, key=lambda example: len(example.ids)):
        full = (len(groups[-1]) + 1) * len(example.ids) > batch_tokens or len(groups[-1]) >= most
        if full and groups[-1]:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    for group in groups:
        width = max(len(example.ids) for example in group)
        ids = torch.full((len(group), width), pad)
        labels = torch.full((len(group), width), IGNORED)
        for row, example in enumerate(group):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
            labels[row, example.loss_from : len(example.ids)] = torch.tensor(example.ids[example.loss_from :])
        yield ids, labels


def new_optimizers(model: Any, plan: TrainingPlan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    muon = torch.optim.Muon(
        [{"params": matrices, "peak": plan.matrix_learning_rate}],
        weight_decay=plan.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [{"params": rest, "peak": plan.learning_rate}], betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return [muon, adamw]


def schedule(plan: TrainingPlan, done: int) -> float:
    """The factor of the peak learning rates: warm-up, plateau, linear decay."""
    warm = min(1.0, (done + 1) / plan.warmup_tokens)
    cool = min(1.0, max(0.0, plan.tokens - done) / plan.decay_tokens)
    return warm * cool


def fit(
    model: Any,
    plan: TrainingPlan,
    work: Path,
    chunk: Callable[[int, int], Sequence[TrainingText]],
    step: Step,
    progress: Progress,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """Train ``model`` by the plan, on from the checkpoint in ``work``; the losses, chunk by chunk.

    ``chunk`` gives the texts of a chunk by its number and the tokens of training before it.
    """
    work.mkdir(parents=True, exist_ok=True)
    optimizers = new_optimizers(model, plan)
    number, done, log = _restore(work, model, optimizers, device)
    saved = time.monotonic()
    while done < plan.tokens:
        started_at, before = time.monotonic(), done
        losses = []
        rng = random.Random(f"batches/{plan.seed}/{number}")
        for ids, labels in batches(
            map(encoded, chunk(number, done)), plan.batch_tokens, rng, most=plan.batch_texts or math.inf
        ):
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group["peak"] * schedule(plan, done)
            losses.append(step(model, optimizers, ids, labels))
            done += int((ids != IDS[PAD]).sum())
        number += 1
        log.append({"tokens": done, "loss": round(sum(loss.item() for loss in losses) / len(losses), 5)})
        speed = (done - before) / (time.monotonic() - started_at)
        progress.say(f"{done / 1e6:.2f}M tokens  loss {log[-1]['loss']:.4f}  {speed:.0f} tokens/s")
        if time.monotonic() - saved > plan.checkpoint_seconds or done >= plan.tokens:
            _save(work, model, optimizers, number, done, log)
            saved = time.monotonic()
    return log


def train(
    out: Path, work: Path, plan: TrainingPlan, shape: ReasonerShape, device: str = "cpu", progress: Progress = SILENT
) -> None:
    """Write the trained checkpoint to ``out``; checkpoints and the loss log live in ``work``."""
    model = new_model(shape, plan.seed).to(device)
    step = partial(weighed_step, weights=plan.weights) if plan.weights else language_step
    with _Texts(plan) as texts:
        log = fit(model, plan, work, texts.chunk, step, progress, device)
    export(model, out, plan.stored_as)
    record = {
        "shape": asdict(shape),
        "plan": asdict(plan),
        "stages": [asdict(stage) for stage in stages_of(plan)],
        "loss": log,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


class _Texts:
    """The chunks of training texts, written ahead by other processes where the plan has writers."""

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self._ahead: dict[int, tuple[Stage, Future[tuple[TrainingText, ...]]]] = {}
        self._writers: ProcessPoolExecutor | None = None
        self._mean = 0.0

    def __enter__(self) -> _Texts:
        if self.plan.writers:
            self._writers = process_pool(self.plan.writers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._writers is not None:
            self._writers.shutdown(wait=True, cancel_futures=True)

    def chunk(self, index: int, done: int) -> tuple[TrainingText, ...]:
        """The texts of chunk ``index``, which starts after ``done`` tokens of training."""
        plan, stages = self.plan, stages_of(self.plan)
        stage = stage_at(done / plan.tokens, stages)
        if self._writers is None:
            return chunk_of(index, stage, plan)
        for later in range(index, index + 2 * plan.writers):
            if later not in self._ahead:
                guess = stage_at((done + (later - index) * self._mean) / plan.tokens, stages)
                self._ahead[later] = guess, self._writers.submit(chunk_of, later, guess, plan)
        guessed, written = self._ahead.pop(index)
        # Which stage is due is known only when its turn comes; near a change a chunk is written again.
        texts = written.result() if guessed == stage else chunk_of(index, stage, plan)
        self._mean = float(sum(len(text.tokens) for text in texts))
        return texts


def export(model: Any, out: Path, stored_as: str = "float32") -> None:
    """Write an ordinary Hugging Face folder; special and reserved ids are banned from sampling, and
    ``check:``, which is asked and never volunteered.
    """
    twin = as_llama(model)
    twin.generation_config.suppress_tokens = [IDS[token] for token in (PAD, BOS, UNKNOWN, CHECK, *RESERVED)]
    twin.to(getattr(torch, stored_as)).save_pretrained(str(out), max_shard_size=SHARD_SIZE)
    save_tokenizer(out, model.config.max_position_embeddings)


def as_llama(model: Any) -> Any:
    """The network as the same function under the ``llama`` name (attention biases, the output's being zero).

    For ``qwen2`` transformers forces a byte-level tokenizer on every folder, whatever tokenizer lies in it.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    ours = model.config
    same = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_parameters",
        "tie_word_embeddings", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    twin = LlamaForCausalLM(LlamaConfig(**{name: getattr(ours, name) for name in same}, attention_bias=True))
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and all(name.endswith("o_proj.bias") for name in missing), (missing, unexpected)
    for layer in twin.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.bias)
    return twin


def language_loss(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what follows where there is a label; the output layer reads those places only."""
    device = model.device
    wanted = labels[:, 1:].flatten()
    places = (wanted != IGNORED).nonzero()[:, 0]
    truth = wanted[places].to(device)
    with torch.autocast(device.type, torch.bfloat16):
        states = model.model(input_ids=ids.to(device), use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(states.flatten(0, 1).index_select(0, places.to(device)))
    return functional.cross_entropy(logits.float(), truth)


def language_step(
    model: Any, optimizers: list[torch.optim.Optimizer], ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One update with ids and labels on the CPU. Its loss stays on the device, so that nobody waits for it."""
    loss = language_loss(model, ids, labels)
    _update(model, optimizers, loss)
    return loss.detach()


def weighed_step(
    model: Any,
    optimizers: list[torch.optim.Optimizer],
    ids: torch.Tensor,
    labels: torch.Tensor,
    weights: tuple[float, float],
) -> torch.Tensor:
    """As :func:`language_step`, in float32, with ``weights`` on the answer to a check and on what a step says first
    behind its filler: one token in a hundred, and all that tells an error."""
    before, wanted = ids[:, :-1], labels[:, 1:]
    behind = torch.isin(before, torch.tensor([IDS[word] for word in FILLERS]))
    near = torch.zeros_like(behind)
    for distance in range(1, DECIDED_TOKENS + 1):
        near[:, distance:] |= behind[:, :-distance]
    weight = torch.where(near, weights[1], 1.0)
    weight[before == IDS[CHECK]] = weights[0]
    places = (wanted != IGNORED).flatten().nonzero()[:, 0]
    device = model.device
    states = model.model(input_ids=ids.to(device), use_cache=False).last_hidden_state[:, :-1]
    logits = model.lm_head(states.flatten(0, 1).index_select(0, places.to(device)))
    losses = functional.cross_entropy(logits.float(), wanted.flatten()[places].to(device), reduction="none")
    each = weight.flatten()[places].to(device)
    _update(model, optimizers, (losses * each).sum() / each.sum())
    return losses.mean().detach()


def _update(model: Any, optimizers: list[torch.optim.Optimizer], loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _save(
    work: Path, model: Any, optimizers: list[torch.optim.Optimizer], chunk: int, done: int, log: list[Any]
) -> None:
    inner = [optimizer.state_dict() for optimizer in optimizers]
    state = {"model": model.state_dict(), "optimizers": inner, "chunk": chunk, "done": done, "log": log}
    torch.save(state, work / "checkpoint.tmp")
    (work / "checkpoint.tmp").replace(work / "checkpoint.pt")


def _restore(
    work: Path, model: Any, optimizers: list[torch.optim.Optimizer], device: str
) -> tuple[int, int, list[Any]]:
    path = work / "checkpoint.pt"
    if not path.exists():
        return 0, 0, []
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, inner in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(inner)
    return state["chunk"], state["done"], state["log"]


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Train a shipped reasoner; the same command resumes.")
    parser.add_argument("--reasoner", choices=tuple(SYNTHETIC), default="embedded")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=int, help="Fewer or more than planned.")
    parser.add_argument(
        "--confident",
        nargs="+",
        type=lambda told: tuple(map(float, told.split(":"))),
        metavar="SHARE:WEIGHT",
        help="Other kinds of problems than planned: shares of confident errors, and how often each is asked.",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = SYNTHETIC[options.reasoner]
    plan = replace(
        chosen.training,
        tokens=options.tokens or chosen.training.tokens,
        confident=tuple(options.confident or chosen.training.confident),
    )
    spoken = Spoken(lambda sentence: print(sentence, flush=True))
    train(options.out, options.work, plan, chosen.shape, options.device, spoken)
