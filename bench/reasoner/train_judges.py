"""Train the two small judges that are shipped for the embedded reasoner: a process reward model and a verifier.

The process reward model is a smaller network with weights of its own (another width, another seed), and the verifier
goes on from its body: they share nothing with the generator that they judge. Both learn from solutions of a fallible
reasoner (:mod:`bench.reasoner.recipe`), cut anywhere, on problems of the split ``reasoner``. What they learn is known
by arithmetic: whether an open error stands in the prefix (:func:`tasks.synthetic.family.read_path`), never how the path
ends.

The process reward model has a head Linear-ReLU-Linear on the state at ``<extra_0>``, which tells class 1 (no open error
up to here) from class 0; as it starts from nothing, it learns to continue the solutions as well. The tensors are
``model.*`` and ``score.{0,2}.{weight,bias}``; ``architectures`` in the configuration names the public model of the same
form; ``<extra_0>`` takes the place of the first reserved token.

One command trains what is missing, and goes on where it was stopped::

    python -m prunebench.bench.reasoner.train_judges --out bench/reasoner/judges --work runs/reasoner/judges --threads 2
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - training, as in bench/reasoner/train.py

from prunebench.bench.engines.options import model_digest
from prunebench.bench.engines.shipped import ReasonerShape, TrainingPlan
from prunebench.bench.progress import Progress, Spoken
from prunebench.bench.reasoner.judge_texts import RIGHT_MARK, WRONG_MARK, prm_texts, verifier_texts
from prunebench.bench.reasoner.recipe import TrainingText
from prunebench.bench.reasoner.train import IGNORED, Step, as_llama, export, fit, language_step, new_model
from prunebench.bench.reasoner.vocabulary import IDS, save_tokenizer
from prunebench.tasks.synthetic.family import CHECK

SEPARATOR = "<extra_0>"
"""How the saved tokenizer of the process reward model names its first reserved token."""

PLANS: Mapping[str, TrainingPlan] = {
    name: TrainingPlan(
        seed=seed,
        tokens=tokens,
        warmup_tokens=100_000,
        decay_tokens=tokens // 2,
        chunk_documents=512,
        learning_rate=rate,
        matrix_learning_rate=2.5 * rate,
        checkpoint_seconds=60.0,
    )
    for name, tokens, rate, seed in (("prm", 12_000_000, 2e-3, 1), ("verifier", 12_000_000, 1e-3, 1))
}
PRM_SHAPE = ReasonerShape(hidden_size=96, num_attention_heads=3, num_key_value_heads=1, intermediate_size=288)
"""That of another model than the generator."""


# --- the two models -----------------------------------------------------------------------------------------------


class ProcessRewardModel(torch.nn.Module):
    """A body and a head of two classes; its state dict is the checkpoint."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        width = body.config.hidden_size
        self.model = body
        self.score = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, len((WRONG_MARK, RIGHT_MARK)))
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, S) token ids -> (B, S, 2) logits of class 0 (an open error stands) and class 1."""
        states = self.model(input_ids=ids, use_cache=False).last_hidden_state
        logits: torch.Tensor = self.score(states)
        return logits


def new_prm(_judges: Path, seed: int) -> ProcessRewardModel:
    """Weights of its own."""
    return ProcessRewardModel(_without_output_biases(as_llama(new_model(PRM_SHAPE, seed))).model)


def new_verifier(judges: Path, seed: int) -> Any:
    """The body of the process reward model in the folder ``judges``, as a language model."""
    from safetensors.torch import load_file

    model = _without_output_biases(as_llama(new_model(PRM_SHAPE, seed)))
    tensors = load_file(str(judges / "prm" / "model.safetensors"))
    body = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    model.model.load_state_dict(body)  # the output layer is that of the input
    return model


def _without_output_biases(model: Any) -> Any:
    """Biases of the attention's output stay zero, as in every exported reasoner."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    return model


def _prm_step(
    model: Any, optimizers: list[torch.optim.Optimizer], ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One update by the loss of the marks, which is returned, and that of the words between them."""
    right, wrong = IDS[RIGHT_MARK], IDS[WRONG_MARK]
    places = (ids == right) | (ids == wrong)
    wanted = (ids == right)[places].long()
    following = labels[:, 1:]
    words = (following != IGNORED) & ~places[:, 1:]
    with torch.autocast(ids.device.type, torch.bfloat16):
        states = model.model(input_ids=torch.where(ids == wrong, right, ids), use_cache=False).last_hidden_state
        logits = model.score(states[places])
        spoken = states[:, :-1][words] @ model.model.embed_tokens.weight.T
    loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
    both = loss + torch.nn.functional.cross_entropy(spoken.float(), following[words])
    both.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def export_prm(model: ProcessRewardModel, out: Path) -> None:
    """A folder of the public form; under the ``llama`` name, for the reason given at ``train.export``."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})
    config = copy.deepcopy(model.model.config)
    config.architectures, config.num_labels = ["Qwen2ForProcessRewardModel"], 2
    config.name_or_path = ""
    config.save_pretrained(str(out))
    save_tokenizer(out)
    _name_separator(out / "tokenizer.json")


def _name_separator(file: Path) -> None:
    """Give the first reserved token the name of the separator, as a token that is never split."""
    tokenizer = json.loads(file.read_text())
    place = tokenizer["model"]["vocab"].pop(RIGHT_MARK)
    tokenizer["model"]["vocab"][SEPARATOR] = place
    kept = [token for token in tokenizer["added_tokens"] if token["content"] != RIGHT_MARK]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] = [*kept, {"id": place, "content": SEPARATOR, **flags, "special": True}]
    file.write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False))


def export_verifier(model: Any, out: Path) -> None:
    """The reasoner's own form, with ``check:`` free to be written."""
    from transformers import GenerationConfig

    export(model, out)
    settings = GenerationConfig.from_pretrained(str(out))
    settings.suppress_tokens = [token for token in settings.suppress_tokens if token != IDS[CHECK]]
    settings.save_pretrained(str(out))


@dataclass(frozen=True)
class _Kind:
    """How one of the judges is made."""

    new: Callable[[Path, int], Any]
    texts: Callable[[str], Iterator[TrainingText]]
    step: Step
    export: Callable[[Any, Path], None]
    goes_on: bool = False

    def origin(self, judges: Path, plan: TrainingPlan) -> str:
        """What it starts from: the digest of the process reward model, or the seed and width of weights of its own."""
        own = f"own weights of width {PRM_SHAPE.hidden_size}, seed {plan.seed}"
        return model_digest(str(judges / "prm")) if self.goes_on else own


KINDS: Mapping[str, _Kind] = {
    "prm": _Kind(new_prm, prm_texts, _prm_step, export_prm),
    "verifier": _Kind(new_verifier, verifier_texts, language_step, export_verifier, goes_on=True),
}


# --- training -----------------------------------------------------------------------------------------------------


def started_from(folder: Path) -> str | None:
    """What a finished judge started from, as :meth:`_Kind.origin` says it; None where there is no finished judge."""
    record = folder / "training.json"
    return str(json.loads(record.read_text()).get("origin", "unknown")) if record.exists() else None


def train_judges(out: Path, work: Path, progress: Progress, plans: Mapping[str, TrainingPlan] = PLANS) -> None:
    """Train the judges of ``plans`` into ``out``, one folder each; the verifier after what it goes on from.

    A judge that started from what it should is left as it is; one that started from other weights is made anew.
    Checkpoints lie in ``work``, apart for every origin and plan.
    """
    for name, plan in plans.items():
        kind, target, begun = KINDS[name], out / name, started_from(out / name)
        origin = kind.origin(out, plan)
        if begun == origin:
            progress.say(f"judge '{name}' is there")
            continue
        reason = "" if begun is None else f": the one in {target} started from other weights ({begun})"
        progress.say(f"training judge '{name}' from {origin}{reason}")
        held = work / f"{origin.replace(' ', '-').replace(',', '')}-{plan.seed}-{plan.tokens}" / name
        model = kind.new(out, plan.seed).train()
        log = fit(model, plan, held, partial(_chunk, kind, plan), kind.step, progress)
        if target.exists():
            shutil.rmtree(target)
        kind.export(model.eval(), target)
        record = {"origin": origin, "plan": asdict(plan), "loss": log}
        (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _chunk(kind: _Kind, plan: TrainingPlan, number: int, _done: int) -> list[TrainingText]:
    return list(islice(kind.texts(f"{plan.seed}/{number}"), plan.chunk_documents))


def shortened(plan: TrainingPlan, tokens: int) -> TrainingPlan:
    """The same plan over another number of tokens."""
    share = tokens / plan.tokens
    warmup, decay = (max(1, round(share * part)) for part in (plan.warmup_tokens, plan.decay_tokens))
    return replace(plan, tokens=tokens, warmup_tokens=warmup, decay_tokens=decay)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Train the shipped judges; the same command resumes.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--tokens", type=int, help="for each judge; default: " + str({n: p.tokens for n, p in PLANS.items()})
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, help="for each judge; default: that of its plan")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    asked = {
        name: replace(
            shortened(plan, options.tokens or plan.tokens), seed=plan.seed if options.seed is None else options.seed
        )
        for name, plan in PLANS.items()
    }
    train_judges(options.out, options.work, Spoken(lambda text: print(text, flush=True)), asked)
