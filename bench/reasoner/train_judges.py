"""Train the two small judges that are shipped for the embedded reasoner: a process reward model and a verifier.

Both start from the reasoner's weights and learn from solutions of a fallible reasoner (:mod:`bench.reasoner.recipe`),
cut anywhere, on problems of the split ``reasoner``. What they learn is known by arithmetic: whether an open error
stands in the prefix (:func:`tasks.synthetic.family.read_path`), never how the path ends.

``prm`` reads ``<bos> problem \\n\\n`` and then the path with the token ``<extra_0>`` behind every ``\\n\\n`` and behind
the last piece when that is unfinished::

    <bos> problem \\n\\n plan : early \\n\\n <extra_0> a = 3 + 4 = 7 ; 7 * 2 = 14 = 3 \\n\\n <extra_0> b = 9 - <extra_0>

A head Linear-ReLU-Linear on the state at ``<extra_0>`` tells class 1 (no open error up to here) from class 0. The
tensors are ``model.*`` and ``score.{0,2}.{weight,bias}``; ``architectures`` in the configuration names the public model
of the same form; ``<extra_0>`` takes the place of the first reserved token.

``verifier`` is a causal language model over the same words. Behind ``<bos> problem \\n\\n prefix`` it is asked by

- ``check:`` for a critique: every standing step by its label, the value that it should have and yes or no, parted by
  ``;``, then ``check:`` and its verdict: ``plan yes ; a = 3 yes ; b = 4 no check: no``;
- ``check: check:`` for the bare verdict; no means that an open error stands in the prefix;
- ``check: find`` whether the set-up readings are right, ``check: do`` whether the computations are right.

One command trains what is missing, and goes on where it was stopped::

    python -m prunebench.bench.reasoner.train_judges --out bench/reasoner/judges --work runs/reasoner/judges --threads 2
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch  # noqa: TID253 - training, as in bench/reasoner/train.py

from prunebench.bench.engines.options import model_digest
from prunebench.bench.engines.shipped import WEIGHTS, ReasonerShape, TrainingPlan
from prunebench.bench.progress import Progress, Spoken
from prunebench.bench.reasoner.recipe import STAGES, Document, boxed, finish, prompt_tokens, write_solution
from prunebench.bench.reasoner.train import (
    _IDS,
    IGNORED,
    _restore,
    _save,
    _step,
    batches,
    export,
    new_optimizers,
    schedule,
)
from prunebench.bench.reasoner.vocabulary import EOS, PAD, RESERVED, save_tokenizer
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, CHECK, STEP_END, WAIT, Family, Instance, last_number

SEPARATOR = "<extra_0>"
"""How the saved tokenizer of the process reward model names its first reserved token."""

_RIGHT_MARK, _WRONG_MARK = RESERVED[0], RESERVED[1]
"""In a training text the separator and its label are one token; the model sees both as the first."""

Question = Literal["critique", "verdict", "find", "do"]
QUESTIONS: Mapping[Question, tuple[str, ...]] = {
    "critique": (CHECK,),
    "verdict": (CHECK, CHECK),
    "find": (CHECK, "find"),
    "do": (CHECK, "do"),
}
"""What stands behind a prefix when the verifier is asked."""

QUESTION_SHARES: Mapping[Question, float] = {"critique": 0.55, "verdict": 0.15, "find": 0.15, "do": 0.15}

EARLY_SHARE, EARLY_TOKENS = 0.6, 120
"""This share of the prefixes is cut within the first tokens, where checkpoints lie; the rest is cut anywhere."""

PLANS: Mapping[str, TrainingPlan] = {
    name: TrainingPlan(
        tokens=tokens,
        warmup_tokens=100_000,
        decay_tokens=tokens // 2,
        chunk_documents=512,
        learning_rate=1e-3,
        matrix_learning_rate=2.5e-3,
        checkpoint_seconds=60.0,
    )
    for name, tokens in (("prm", 2_000_000), ("verifier", 3_000_000))
}


# --- what is known by arithmetic ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgedStep:
    """A completed step that stands: its label, the value that a right one ends in, and whether it is right."""

    label: tuple[str, ...]
    value: int | None
    right: bool

    @property
    def sets_up(self) -> bool:
        """Whether it reads a quantity of the problem, rather than computing with what was read."""
        return self.label[1:] == ("=",)


@dataclass(frozen=True)
class Prefix:
    """A solution cut somewhere: its tokens and, for every step end in it, the token count and the steps that stand."""

    instance: Instance
    tokens: tuple[str, ...]
    standing: tuple[tuple[int, tuple[JudgedStep, ...]], ...]

    @property
    def steps(self) -> tuple[JudgedStep, ...]:
        return self.standing[-1][1] if self.standing else ()

    def answer(self, question: Question) -> bool:
        """Whether no open error of the kind that is asked for stands."""
        kinds = {"find": (True,), "do": (False,)}.get(question, (True, False))
        return all(step.right for step in self.steps if step.sets_up in kinds)


def value_of(tokens: Sequence[str]) -> int | None:
    """The value in which a rightly written step ends: its last number, what is only said beside it left out."""
    parts = " ".join(tokens).split(" ; ")
    if len(parts) > 1 and "=" not in parts[-1].split(" "):
        parts.pop()
    return last_number(" ; ".join(parts).split(" "))


def judge_steps(
    family: Family, instance: Instance, tokens: Sequence[str]
) -> tuple[tuple[int, tuple[JudgedStep, ...]], ...]:
    """Follow a readable path: after every step end, (token count, the steps that stand, in their order)."""
    state: dict[str, int] = dict(instance.start)
    standing: list[tuple[JudgedStep, dict[str, int]]] = []
    found = []
    start = 0
    for end in [place + 1 for place, token in enumerate(tokens) if token == STEP_END]:
        piece = tuple(tokens[start : end - 1])
        start = end
        if piece and WAIT not in piece and BOX not in piece:
            state = _judge(family, instance, piece, standing, state)
        found.append((end, tuple(step for step, _ in standing)))
    return tuple(found)


def _judge(
    family: Family,
    instance: Instance,
    piece: tuple[str, ...],
    standing: list[tuple[JudgedStep, dict[str, int]]],
    state: dict[str, int],
) -> dict[str, int]:
    """Put one step on ``standing`` (with the state before it), instead of those that it takes back; the state after."""
    if piece[0] == "plan":
        standing.append((JudgedStep(("plan",), None, True), state))
        return {**state, "plan": family.strategies.index(piece[2])}
    step = family.due(instance, state)
    if step is None or piece[: len(step.label)] != step.label:
        again = max(i for i, (done, _) in enumerate(standing) if piece[: len(done.label)] == done.label)
        state = standing[again][1]
        del standing[again:]
        step = family.due(instance, state)
        assert step is not None
    right = step.right.updates
    updates = right if piece == step.right.tokens else family.read(instance, state, step, piece)
    assert updates is not None
    standing.append((JudgedStep(step.label, value_of(step.right.tokens), updates == right), state))
    return {**state, **updates}


# --- training texts -----------------------------------------------------------------------------------------------


def prefixes(seed: str) -> Iterator[Prefix]:
    """Endless cut solutions in the manner of the last two stages; the problems come from the reasoner's split."""
    rng = random.Random(f"judges/{seed}")
    streams = {
        (name, level): family.draws(f"judges/{seed}", level, "reasoner")
        for name, family in FAMILIES.items()
        for level, _ in TrainingPlan.levels
    }
    levels, weights = [level for level, _ in TrainingPlan.levels], [weight for _, weight in TrainingPlan.levels]
    while True:
        name = rng.choice(tuple(FAMILIES))
        (level,) = rng.choices(levels, weights)
        family, instance = FAMILIES[name], next(streams[name, level])
        written = write_solution(family, instance, rng.choice(STAGES[-2:]), rng)
        tokens = (*written.tokens, *boxed(finish(family, instance, written.marks[-1][2])))
        last = min(EARLY_TOKENS, len(tokens)) if rng.random() < EARLY_SHARE else len(tokens)
        tokens = tokens[: rng.randint(1, last)]
        yield Prefix(instance, tokens, judge_steps(family, instance, tokens))


def separated(tokens: Sequence[str], marks: Sequence[str]) -> tuple[str, ...]:
    """A path with one of ``marks`` behind every step end, and the last behind a piece that is unfinished."""
    out: list[str] = []
    left = iter(marks)
    for token in tokens:
        out += [token, next(left)] if token == STEP_END else [token]
    return (*out, *left)


def prm_document(prefix: Prefix) -> Document:
    """What the process reward model reads; each mark holds its label, and there is a loss on marks only."""
    rights = [all(step.right for step in steps) for _, steps in prefix.standing]
    if prefix.tokens[-1] != STEP_END:
        rights.append(prefix.answer("verdict"))
    prompt = prompt_tokens(prefix.instance)
    marks = [_RIGHT_MARK if right else _WRONG_MARK for right in rights]
    return Document((*prompt, *separated(prefix.tokens, marks)), len(prompt))


def critique(prefix: Prefix) -> tuple[str, ...]:
    """What the verifier writes behind ``check:``: its remarks, ``check:`` and the verdict."""
    out: list[str] = []
    for step in prefix.steps:
        value = () if step.value is None else (str(step.value),)
        out += [*([";"] if out else []), *step.label, *value, _word(step.right)]
    return (*out, CHECK, _word(prefix.answer("critique")))


def verifier_document(prefix: Prefix, question: Question) -> Document:
    """Problem, prefix, question and the verifier's words; there is a loss on its words only."""
    context = (*prompt_tokens(prefix.instance), *prefix.tokens, *QUESTIONS[question])
    words = critique(prefix) if question == "critique" else (_word(prefix.answer(question)),)
    return Document((*context, *words, EOS), len(context))


def _word(right: bool) -> str:
    return "yes" if right else "no"


def prm_documents(seed: str) -> Iterator[Document]:
    return _short(prm_document(prefix) for prefix in prefixes(seed))


def verifier_documents(seed: str) -> Iterator[Document]:
    """Questions in their shares; for each, as many prefixes are answered by yes as by no."""
    rng = random.Random(f"questions/{seed}")
    waiting = prefixes(seed)

    def asked() -> Iterator[Document]:
        while True:
            (question,) = rng.choices(list(QUESTION_SHARES), list(QUESTION_SHARES.values()))
            wanted = rng.random() < 0.5
            prefix = next(prefix for prefix in waiting if prefix.answer(question) is wanted)
            yield verifier_document(prefix, question)

    return _short(asked())


def _short(documents: Iterator[Document]) -> Iterator[Document]:
    """Those that the context holds."""
    return (document for document in documents if len(document.tokens) <= ReasonerShape.max_position_embeddings)


# --- the two models -----------------------------------------------------------------------------------------------


class ProcessRewardModel(torch.nn.Module):
    """The reasoner's body and a head of two classes; its state dict is the checkpoint."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        width = body.config.hidden_size
        self.model = body
        self.score = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, len((_WRONG_MARK, _RIGHT_MARK)))
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, S) token ids -> (B, S, 2) logits of class 0 (an open error stands) and class 1."""
        states = self.model(input_ids=ids, use_cache=False).last_hidden_state
        logits: torch.Tensor = self.score(states)
        return logits


def new_prm(weights: Path, seed: int) -> ProcessRewardModel:
    torch.manual_seed(seed)
    return ProcessRewardModel(new_verifier(weights, seed).model)


def new_verifier(weights: Path, _seed: int) -> Any:
    """The reasoner itself; biases of the attention's output stay zero, as in every exported reasoner."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(str(weights), dtype=torch.float32)
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    return model


def _prm_step(
    model: Any, optimizers: list[torch.optim.Optimizer], ids: torch.Tensor, _labels: torch.Tensor
) -> torch.Tensor:
    right, wrong = _IDS[_RIGHT_MARK], _IDS[_WRONG_MARK]
    places = (ids == right) | (ids == wrong)
    wanted = (ids == right)[places].long()
    with torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(torch.where(ids == wrong, right, ids))[places]
    loss = torch.nn.functional.cross_entropy(logits.float(), wanted, ignore_index=IGNORED)
    loss.backward()  # type: ignore[no-untyped-call]
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
    place = tokenizer["model"]["vocab"].pop(_RIGHT_MARK)
    tokenizer["model"]["vocab"][SEPARATOR] = place
    kept = [token for token in tokenizer["added_tokens"] if token["content"] != _RIGHT_MARK]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] = [*kept, {"id": place, "content": SEPARATOR, **flags, "special": True}]
    file.write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False))


def export_verifier(model: Any, out: Path) -> None:
    """The reasoner's own form, with ``check:`` free to be written."""
    from transformers import GenerationConfig

    export(model, out)
    settings = GenerationConfig.from_pretrained(str(out))
    settings.suppress_tokens = [token for token in settings.suppress_tokens if token != _IDS[CHECK]]
    settings.save_pretrained(str(out))


@dataclass(frozen=True)
class _Kind:
    """How one of the judges is made."""

    new: Callable[[Path, int], Any]
    documents: Callable[[str], Iterator[Document]]
    step: Callable[[Any, list[torch.optim.Optimizer], torch.Tensor, torch.Tensor], torch.Tensor]
    export: Callable[[Any, Path], None]


KINDS: Mapping[str, _Kind] = {
    "prm": _Kind(new_prm, prm_documents, _prm_step, export_prm),
    "verifier": _Kind(new_verifier, verifier_documents, _step, export_verifier),
}


# --- training -----------------------------------------------------------------------------------------------------


def _fit(
    kind: _Kind, weights: Path, work: Path, plan: TrainingPlan, progress: Progress
) -> tuple[Any, list[dict[str, float]]]:
    """The trained model and its loss log; goes on from the checkpoint in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    model = kind.new(weights, plan.seed).train()
    optimizers = new_optimizers(model, plan)
    chunk_index, done, log = _restore(work, model, optimizers, "cpu")
    saved = time.monotonic()
    while done < plan.tokens:
        started, before = time.monotonic(), done
        chunk = list(islice(kind.documents(f"{plan.seed}/{chunk_index}"), plan.chunk_documents))
        losses = []
        for ids, labels in batches(chunk, plan.batch_tokens, random.Random(f"batches/{plan.seed}/{chunk_index}")):
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group["peak"] * schedule(plan, done)
            losses.append(kind.step(model, optimizers, ids, labels))
            done += int((ids != _IDS[PAD]).sum())
        chunk_index += 1
        log.append({"tokens": done, "loss": round(sum(loss.item() for loss in losses) / len(losses), 5)})
        speed = (done - before) / (time.monotonic() - started)
        progress.say(f"{done / 1e6:.2f}M tokens  loss {log[-1]['loss']:.4f}  {speed:.0f} tokens/s")
        if time.monotonic() - saved > plan.checkpoint_seconds or done >= plan.tokens:
            _save(work, model, optimizers, chunk_index, done, log)
            saved = time.monotonic()
    return model.eval(), log


def started_from(folder: Path) -> str | None:
    """The digest of the reasoner that a finished judge started from; None where there is no finished judge."""
    record = folder / "training.json"
    return str(json.loads(record.read_text())["reasoner"]) if record.exists() else None


def train_judges(
    out: Path, work: Path, progress: Progress, plans: Mapping[str, TrainingPlan] = PLANS, weights: Path = WEIGHTS
) -> None:
    """Train the judges of ``plans`` into ``out``, one folder each.

    A judge that started from these very weights is left as it is; one that started from others is made anew.
    Checkpoints lie in ``work``, apart for every reasoner and plan.
    """
    reasoner = model_digest(str(weights))
    for name, plan in plans.items():
        target, origin = out / name, started_from(out / name)
        if origin == reasoner:
            progress.say(f"judge '{name}' is there")
            continue
        reason = "" if origin is None else f": the one in {target} started from another reasoner ({origin})"
        progress.say(f"training judge '{name}' from reasoner {reasoner}{reason}")
        model, log = _fit(KINDS[name], weights, work / f"{reasoner}-{plan.seed}-{plan.tokens}" / name, plan, progress)
        if target.exists():
            shutil.rmtree(target)
        KINDS[name].export(model, target)
        record = {"reasoner": reasoner, "plan": asdict(plan), "loss": log}
        (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")


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
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    asked = {n: replace(shortened(p, options.tokens or p.tokens), seed=options.seed) for n, p in PLANS.items()}
    train_judges(options.out, options.work, Spoken(lambda text: print(text, flush=True)), asked)
