"""Train the miniature: a LoRA on a released model, in bfloat16. The same command resumes from the last checkpoint."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from prunebench.bench.engines.chat import prompt_ids
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import MiniaturePlan
from prunebench.bench.engines.sources import ADAPTER_WEIGHTS, source_of
from prunebench.bench.progress import Progress
from prunebench.bench.reasoner.miniature.curriculum import texts
from prunebench.bench.reasoner.train import Example, batches, language_loss

PAD_ID = 0
"""Stands behind the end of a text, where nothing is learned."""
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def examples(tokenizer: Any, plan: MiniaturePlan) -> Iterator[Example]:
    """Endless training examples, as the model is asked later."""
    for prompt, solution in texts(plan.seed):
        asked = prompt_ids(tokenizer, prompt, ModelOptions())
        solved = tokenizer(solution, add_special_tokens=False)["input_ids"]
        yield Example([*asked, *solved, tokenizer.eos_token_id], len(asked))


def new_model(folder: str, plan: MiniaturePlan, device: str) -> Any:
    """The base in bfloat16 with an untrained LoRA in float32 on all linear layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(plan.seed)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device)
    base.config.name_or_path = plan.base
    settings = LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, target_modules=list(LAYERS), task_type="CAUSAL_LM")
    return get_peft_model(base, settings)


def train_miniature(out: Path, work: Path, plan: MiniaturePlan, device: str, progress: Progress) -> None:
    """Write the LoRA to ``out`` with what made it in ``training.json``; checkpoints live in ``work``."""
    from transformers import AutoTokenizer

    folder = source_of(plan.base, ModelOptions()).place()
    work.mkdir(parents=True, exist_ok=True)
    model = new_model(folder, plan, device)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    number, done, log = _restore(work / "checkpoint.pt", learned, optimizer)
    stream = examples(AutoTokenizer.from_pretrained(folder), plan)
    for _ in islice(stream, number * plan.chunk_examples):
        pass
    while done < plan.tokens:
        started_at, before, losses = time.monotonic(), done, []
        chunk = list(islice(stream, plan.chunk_examples))
        rng = random.Random(f"batches/{plan.seed}/{number}")
        for ids, labels in batches(chunk, plan.batch_tokens, rng, PAD_ID):
            warm, cool = (done + 1) / plan.warmup_tokens, (plan.tokens - done) / plan.decay_tokens
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * max(0.0, min(1.0, warm, cool))
            loss = language_loss(model.get_base_model(), ids, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            done += int((ids != PAD_ID).sum())
        number += 1
        log.append({"tokens": done, "loss": round(sum(losses) / len(losses), 4)})
        speed = (done - before) / (time.monotonic() - started_at)
        progress.say(f"{done / 1e6:.3f}M tokens  loss {log[-1]['loss']:.4f}  {speed:.0f} tokens/s")
        _save(work / "checkpoint.pt", learned, optimizer, number, done, log)
    _ship(model, out, {"plan": asdict(plan), "loss": log})


def _ship(model: Any, out: Path, record: dict[str, Any]) -> None:
    """The adapter in bfloat16, what it is put on, and how it was made; ``training.json`` is written last."""
    from safetensors.torch import load_file, save_file

    model.peft_config["default"].base_model_name_or_path = record["plan"]["base"]
    model.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(out / ADAPTER_WEIGHTS).items()}
    save_file(tensors, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _save(
    path: Path, learned: list[torch.Tensor], optimizer: torch.optim.Optimizer, number: int, done: int, log: list[Any]
) -> None:
    state = {"learned": learned, "optimizer": optimizer.state_dict(), "number": number, "done": done, "log": log}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _restore(path: Path, learned: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> tuple[int, int, list[Any]]:
    """How many chunks and tokens are done, and the losses; weights and optimizer as they were after them."""
    if not path.exists():
        return 0, 0, []
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for weight, kept in zip(learned, state["learned"], strict=True):
            weight.copy_(kept)
    optimizer.load_state_dict(state["optimizer"])
    return state["number"], state["done"], state["log"]
