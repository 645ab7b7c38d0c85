"""A process reward model as a judge: it reads problem and prefix anew and grades every step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import JudgeMissingError, PretrainedJudge, Scores, Setting, Signal
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner

Aggregate = Literal["last", "min", "prod", "mean"]
FormName = Literal["separator", "value", "plus-minus", "step-tag"]


@dataclass(frozen=True)
class Form:
    """How one public family of process reward models is spoken to.

    ``mark``: the token behind every step. ``numbers``: token numbers that the family is read by; where there are none,
    tokens are looked up by their text. ``verified``: whether all this was compared with the released ``checkpoint``.
    """

    checkpoint: str
    mark: str
    numbers: Mapping[str, int]
    verified: bool


FORMS: Mapping[FormName, Form] = {
    "separator": Form("Qwen/Qwen2.5-Math-PRM-7B", "<extra_0>", {}, verified=False),
    "value": Form("Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B", "\n", {}, verified=False),
    "plus-minus": Form("RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", "+", {}, verified=False),
    "step-tag": Form("peiyi9979/math-shepherd-mistral-7b-prm", "ки", {"ки": 12902, "+": 648, "-": 387}, verified=False),
}
"""The four forms. None was run on its released checkpoint: tokens, numbers and formats are those of public code."""

AGGREGATES: Mapping[Aggregate, Callable[[NDArray[np.float64]], float]] = {
    "last": lambda steps: float(steps[-1]),
    "min": lambda steps: float(steps.min()),
    "prod": lambda steps: float(steps.prod()),
    "mean": lambda steps: float(steps.mean()),
}

_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
_ROWS = 8
"""Texts per forward. It is fixed, so that a text stands in the same batch whatever the order of the paths."""


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

    ``auto`` tells the form by the names of the checkpoint's tensors and its architecture. The numbers and formats of
    :data:`FORMS` are not verified against the released checkpoints: they are those of public code. No code of a
    checkpoint is run: the body is loaded by its architecture and the head is read from the safetensors files by name.
    What the text itself holds of a ``<extra_0>`` or of the tag is taken out before.
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
        reader, encoder = self._judge()
        readings = reader.distinct(pool)
        encoder.charge(pool, readings)
        probabilities = dict(zip(readings, encoder.probabilities(list(readings.values())), strict=True))
        return [probabilities[text] for text in texts]

    def _judge(self) -> tuple[Reader, Encoder]:
        if not hasattr(self, "source_"):
            raise JudgeMissingError(self.name)
        key = (self.source_, self.form, self.step_end)
        if getattr(self, "loaded_", None) != key:
            checkpoint = Checkpoint(self.source_)
            form = checkpoint.form if self.form == "auto" else self.form
            reader = Reader(checkpoint, form, self.step_end)
            self.judge_ = reader, Encoder.of(checkpoint, reader, self.device_)
            self.loaded_ = key
        return self.judge_


class Checkpoint:
    """A checkpoint of safetensors files, in a local folder or fetched by its hub id (without ``weights``: the rest)."""

    def __init__(self, source: str, weights: bool = True) -> None:
        self.source, self.folder = source, _folder(source, weights)
        file = self.folder / "config.json"
        if not file.is_file():
            raise ValueError(f"judge {source}: no config.json; give a Hugging Face checkpoint folder or a hub id")
        self.config: dict[str, Any] = json.loads(file.read_text())

    @cached_property
    def files(self) -> dict[str, Path]:
        """In which file each tensor lies."""
        from safetensors import safe_open

        found: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(str(path), framework="pt") as file:
                found |= dict.fromkeys(file.keys(), path)
        if not found:
            raise ValueError(f"judge {self.source}: no *.safetensors file; save the checkpoint in that format")
        return found

    @property
    def form(self) -> FormName:
        """Told by the head's tensors; a model without one is a language model that is asked for ``+`` or ``-``."""
        if "score.0.weight" in self.files:
            return "separator"
        if "v_head.summary.weight" in self.files:
            return "value"
        architectures = self.config.get("architectures") or ["none"]
        if any(name.endswith("ForCausalLM") for name in architectures):
            return "step-tag" if self.config.get("model_type") == "mistral" else "plus-minus"
        raise ValueError(
            f"judge {self.source}: a {architectures[0]} without score.0 or v_head.summary is of no known form; "
            "give a process reward model, or name its form"
        )

    def tensor(self, *names: str) -> Any:
        """The tensor of the first of ``names`` that there is. Raises ValueError when there is none."""
        from safetensors import safe_open

        for name in names:
            if name in self.files:
                with safe_open(str(self.files[name]), framework="pt") as file:
                    return file.get_tensor(name)
        raise ValueError(f"judge {self.source}: no tensor {' or '.join(names)}; name the form that it really has")

    @property
    def context(self) -> int:
        """The longest text that its positions are made for."""
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(str(self.folder), trust_remote_code=False).max_position_embeddings)

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=False)

    def body(self, dtype: Any) -> Any:
        """The transformer without a head. Raises ValueError where the files do not hold all of it."""
        from transformers import AutoModel
        from transformers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()  # it would warn of the head, which is read apart
        try:
            body, loading = AutoModel.from_pretrained(
                str(self.folder), dtype=dtype, trust_remote_code=False, output_loading_info=True
            )
        finally:
            logging.set_verbosity(level)
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(
                f"judge {self.source}: {len(missing)} tensors are missing, such as {missing[0]}; "
                "give a complete checkpoint whose tensors bear the names of its architecture"
            )
        return body


def _folder(source: str, weights: bool) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "*.jinja", *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # what the hub raises is of one of these kinds
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"judge {source}: could not be fetched ({first}); give a local folder or a hub id") from error


@dataclass(frozen=True)
class Reading:
    """What the judge reads of one prefix: ``ids`` (tokens,), and ``places`` (steps,): where each step is graded."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


class Reader:
    """Turns a problem and a prefix into tokens of the judge.

    Raises ValueError where its tokenizer lacks a token that the form needs.
    """

    def __init__(self, checkpoint: Checkpoint, form: FormName, step_end: str) -> None:
        self.source, self.form, self.step_end = checkpoint.source, form, step_end
        self.context, self.tokenizer = checkpoint.context, checkpoint.tokenizer()
        self.mark = self._token(FORMS[form].mark)
        self.answers = (self._token("-"), self._token("+")) if form in ("plus-minus", "step-tag") else ()

    def _token(self, text: str) -> int:
        found = self._encode(text)
        number = FORMS[self.form].numbers.get(text)
        if len(found) == 1 and found[0] != self.tokenizer.unk_token_id and number in (None, found[0]):
            return found[0]
        unsure = "" if FORMS[self.form].verified else " (a form that was not verified on a released checkpoint)"
        which = "" if number is None else f" number {number}"
        raise ValueError(
            f"judge {self.source}: its tokenizer has no token {text!r}{which}, which the form '{self.form}'{unsure} "
            f"needs; give a checkpoint like {FORMS[self.form].checkpoint}, or name another form"
        )

    def distinct(self, pool: Pool) -> dict[str, Reading]:
        """The readings of the distinct texts of a pool, in an order that does not depend on that of its paths."""
        return {text: self._checked(pool, text) for text in sorted(set(pool.text))}

    def _checked(self, pool: Pool, text: str) -> Reading:
        reading = self.read(pool.prompt, text)
        if len(reading.ids) > self.context:
            raise ValueError(
                f"problem '{pool.problem}': problem and prefix are {len(reading.ids)} tokens for the judge "
                f"{self.source}, which reads {self.context}; check earlier or give a judge of longer context"
            )
        return reading

    def read(self, prompt: str, text: str) -> Reading:
        """The tokens of problem and prefix up to the last graded place."""
        if self.form in ("separator", "step-tag"):
            mark = FORMS[self.form].mark
            prompt, text = prompt.replace(mark, ""), text.replace(mark, "")
        steps = split_steps(text, self.step_end)
        chat = bool(getattr(self.tokenizer, "chat_template", None))
        said = [step.strip() for step in steps]
        if self.form == "step-tag":
            return self._tagged(prompt, said)
        if self.form == "value":
            return self._marked([(*self._start(), *self._encode(f"{prompt}\n"))], said)
        if self.form == "separator" and chat:
            answer = "".join(f"{step}{FORMS[self.form].mark}" for step in said)
            system = [{"role": "system", "content": _SYSTEM}]
            return self._marked([], self._rendered(system, [(prompt, answer)], FORMS[self.form].mark, len(steps)))
        if self.form == "plus-minus" and chat:
            said[0] = f"{prompt} {said[0]}"
            return self._marked([], self._rendered([], [(step, "\0") for step in said], "\0", len(steps)))
        return self._marked([(*self._start(), *self._encode(prompt))], steps)

    def _marked(self, before: Sequence[tuple[int, ...]], pieces: Sequence[str]) -> Reading:
        """``before``, then the pieces, each with a mark behind it; the grade of ``+`` is given one token before it."""
        ids = [token for part in before for token in part]
        places = []
        for piece in pieces:
            ids += [*self._encode(piece), self.mark]
            places.append(len(ids) - (2 if self.form == "plus-minus" else 1))
        return Reading(tuple(ids[: places[-1] + 1]), tuple(places))

    def _rendered(
        self, start: list[dict[str, str]], turns: Sequence[tuple[str, str]], mark: str, count: int
    ) -> list[str]:
        """The chat's text, cut at its marks; what stands behind the last one is left out."""
        talk = [{"role": role, "content": words} for turn in turns for role, words in zip(_ROLES, turn, strict=True)]
        pieces = str(self.tokenizer.apply_chat_template([*start, *talk], tokenize=False)).split(mark)[:-1]
        if len(pieces) != count:
            raise ValueError(
                f"judge {self.source}: its chat template shows {len(pieces)} of {count} steps; remove the template "
                "from the checkpoint to have it read plain text"
            )
        return pieces

    def _tagged(self, prompt: str, said: Sequence[str]) -> Reading:
        """One text, in which the tag is found by its number: its tokenizer treats the start of a text differently."""
        mark = FORMS[self.form].mark
        ids = [*self._start(), *self._encode(f"{prompt} " + "\n".join(f"{step} {mark}" for step in said))]
        places = [place for place, token in enumerate(ids) if token == self.mark]
        if len(places) != len(said):
            raise ValueError(
                f"judge {self.source}: {len(said)} steps, but {len(places)} tags '{mark}' among its tokens; "
                "give a checkpoint whose tokenizer keeps the tag apart"
            )
        return Reading(tuple(ids), tuple(places))

    def _start(self) -> tuple[int, ...]:
        first = self.tokenizer.bos_token_id
        return () if first is None else (int(first),)

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]


_ROLES = ("user", "assistant")


def split_steps(text: str, step_end: str) -> list[str]:
    """The steps with their ends; joined they are the text. One that says nothing belongs to the step before it."""
    *ended, rest = text.split(step_end)
    steps: list[str] = []
    for piece in [*(f"{piece}{step_end}" for piece in ended), rest]:
        if steps and not (_says(piece, step_end) and _says(steps[-1], step_end)):
            steps[-1] += piece
        else:
            steps.append(piece)
    return steps


def _says(piece: str, step_end: str) -> bool:
    return bool(piece.replace(step_end, "").strip())


class Encoder:
    """Body and head of a judge; ``module`` holds them as ``model`` and ``score``.

    The head has one output (a value) or two (wrong, right).
    """

    def __init__(self, body: Any, head: Any, device: str = "cpu") -> None:
        import torch

        self.module: Any = torch.nn.Module()
        self.module.model, self.module.score = body, head
        self.module.to(device).eval()

    @classmethod
    def of(cls, checkpoint: Checkpoint, reader: Reader, device: str = "cpu", exact: bool = False) -> Encoder:
        """The judge as it was saved; ``exact`` or on a CPU: in float32."""
        import torch

        body = checkpoint.body("auto" if device != "cpu" and not exact else torch.float32)
        return cls(body, head_of(checkpoint, reader), device)

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

        found: list[NDArray[np.float64]] = [np.zeros(0)] * len(readings)
        order = sorted(range(len(readings)), key=lambda i: (len(readings[i].ids), readings[i].ids))
        with torch.no_grad():
            for start in range(0, len(order), _ROWS):
                rows = order[start : start + _ROWS]
                logits = self.logits([readings[row] for row in rows]).double()
                right = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, 1]
                ends = np.cumsum([len(readings[row].places) for row in rows])
                for row, steps in zip(rows, np.split(right.cpu().numpy(), ends[:-1]), strict=True):
                    found[row] = steps
        return found


def head_of(checkpoint: Checkpoint, reader: Reader) -> Any:
    """The head in float32: of a language model the two rows of its output layer that are asked for."""
    if reader.form == "value":
        return _linear(checkpoint.tensor("v_head.summary.weight"), checkpoint.tensor("v_head.summary.bias"))
    if reader.form == "separator":
        return separator_head(checkpoint.tensor)
    output = checkpoint.tensor("lm_head.weight", "model.embed_tokens.weight")
    return _linear(output[list(reader.answers)], None)


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
