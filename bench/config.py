"""Run configurations: YAML files whose every key and value is checked before anything is spent."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.policies import CheckRecord, Policy, parse_policy
from prunebench.bench.policies.votes import VOTES
from prunebench.methods.signals import Signal
from prunebench.tasks.errors import shown
from prunebench.tasks.settings_file import read_settings

PRESETS = Path(__file__).parent / "presets"
STANDARD = PRESETS / "paper" / "_standard.yaml"
"""The paper's setting, for models that are not shipped."""


def tokens_of(text: str) -> float:
    """``300k`` is 300 * 1,024 tokens, ``1M`` 1,024 times as many as ``1k``. Raises UserError."""
    written = text.strip().replace(",", "")
    times = {"k": 1024, "m": 1024**2}.get(written[-1:].lower(), 1)
    try:
        number = float(written[:-1] if times > 1 else written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{text}: write a number of tokens, such as 16384, 16k or 1M")
    return number * times


Tokens = Annotated[float, BeforeValidator(lambda value: tokens_of(value) if isinstance(value, str) else value)]
Positive = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
"""YAML and the command line give lists."""


class RunConfig(BaseModel):
    """One experiment: N paths per problem, scored at ``prefix_tokens``, k of them kept.

    ``problems`` counts per task (None: all there are); ``methods`` empty means every registered one; ``policy`` None
    means ``topk:k``; the kept paths elect an answer by ``vote``. ``record`` empty means every signal. ``budget``, in
    generator tokens, is that of the comparison at equal cost (None: what ``none`` costs with a quarter of the stored
    paths), which takes the mean over ``draws`` pools (0: it is not made). ``data`` names files or folders that stand
    for the data of tasks. Learned methods learn from the splits train and validation of ``train_tasks`` (empty: of the
    tasks themselves), labelled as the plan ``recipe`` says. ``kv_bytes_per_token`` is what the model keeps per token; a
    plan needs it where the model is not at hand. ``gpus_per_worker``: what each engine of several takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tasks: Annotated[Names, Field(min_length=1)]
    model: str
    n: Positive
    k: Positive
    prefix_tokens: Positive
    problems: Positive | None = None
    temperature: float
    max_new_tokens: Positive
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: Annotated[int, Field(ge=0)] = 0
    split: Literal["train", "validation", "test"] = "test"
    methods: Names = ()
    policy: str | None = None
    vote: str = "majority"
    record: Names = ()
    budget: Annotated[Tokens, Field(gt=0)] | None = None
    data: dict[str, str] = {}
    train_tasks: Names = ()
    recipe: str = "cpu"
    kv_bytes_per_token: Positive | None = None
    model_options: Annotated[ModelOptions, Field(strict=False)] = ModelOptions()
    draws: Annotated[int, Field(ge=0)] = 4
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p, self.max_new_tokens)

    @property
    def recording(self) -> Recording:
        return Recording.of(self.record, self.prefix_tokens)

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        """Refuse what no run can do. Raises ValueError, which pydantic reports."""
        if self.k > self.n:
            raise ValueError(f"k = {self.k} paths cannot be kept of n = {self.n}; choose k <= n")
        if self.prefix_tokens >= self.max_new_tokens:
            raise ValueError(
                f"prefix_tokens = {self.prefix_tokens}: every path ends before it, at max_new_tokens = "
                f"{self.max_new_tokens}; choose a smaller prefix"
            )
        VOTES.get(self.vote)  # refuses an unknown one
        if self.policy is not None:
            try:
                _try_policy(parse_policy(self.policy), self.n, self.prefix_tokens, self.max_new_tokens)
            except UserError as error:
                raise ValueError(str(error)) from error
        recordable = [signal.name for signal in Signal if signal.recordable] if self.record else []
        for name in self.record:
            if name not in recordable:
                raise ValueError(f"record = {name}: {nearest(name, recordable)}")
        _ = self.sampling  # checks its own ranges
        return self


def _try_policy(policy: Policy, n: int, position: int, max_new_tokens: int) -> None:
    """Raises UserError for a policy that does not fit ``n`` paths, or checks where every path has ended."""
    checkpoints = policy.checkpoints(position)
    if not checkpoints:
        return
    if checkpoints[-1] >= max_new_tokens:
        raise UserError(
            f"policy {policy} checks at {checkpoints[-1]} tokens: every path ends before it, at max_new_tokens = "
            f"{max_new_tokens}; check earlier"
        )
    nothing = np.zeros(n)
    policy.decide([CheckRecord(checkpoints[0], nothing, nothing > 0, np.full(n, -1))])


def _content_of(path: Path) -> dict[str, Any]:
    return read_settings(
        path,
        f"the shipped presets are {', '.join(preset_names())}",
        "holds no settings; write lines of the form 'n: 64'",
    )


def load_config(file: Path | str, **overrides: Any) -> RunConfig:
    """The configuration in a YAML file; ``overrides`` replace single keys, also of its ``model_options``.

    A file may say ``extends: OTHER.yaml`` (beside it) and then holds only what differs. Raises UserError with one
    sentence: file, key, value, and what to do.
    """
    path = Path(file)
    settings: dict[str, Any] = {}
    chain: list[Path] = []
    following: Path | None = path
    while following is not None:
        try:
            place = following.resolve()
        except (OSError, ValueError) as error:
            raise UserError(f"{chain[-1] if chain else 'settings'}: extends {shown(following)} is no file") from error
        if place in chain:
            raise UserError(f"{path}: extends itself by way of {following}; take that line out")
        chain.append(place)
        content = _content_of(following)
        parent = content.pop("extends", None)
        settings = {**content, **settings}
        following = None if parent is None else following.parent / str(parent)
    of_file, of_command = settings.get("model_options"), overrides.get("model_options")
    if isinstance(of_file, Mapping) and isinstance(of_command, Mapping):
        overrides["model_options"] = {**of_file, **of_command}
    return configured(str(path), {**settings, **overrides}, overrides)


def configured(source: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> RunConfig:
    """The configuration of ``settings``, which come from ``source``, but for the ``options`` of the command line.

    Raises UserError with one sentence: source, key, value, and what to do.
    """
    try:
        return RunConfig(**{str(key): value for key, value in settings.items()})
    except ValidationError as error:
        raise UserError(_sentence(source, error, options)) from error


def preset_names() -> list[str]:
    """The shipped configurations."""
    names = (path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))
    return sorted(name for name in names if not name.rpartition("/")[2].startswith("_"))


def preset(name: str, **overrides: Any) -> RunConfig:
    """A shipped configuration; ``overrides`` replace single keys. Raises UserError for an unknown name."""
    if name not in preset_names():
        raise UserError(f"unknown preset '{name}'; {nearest(name, preset_names())}")
    return load_config(PRESETS / f"{name}.yaml", **overrides)


def usual_config(model: str, **overrides: Any) -> RunConfig:
    """A shipped reasoner's own preset, the standard setting for any other ``model``; ``overrides`` replace keys."""
    if model in REASONERS:
        return preset(REASONERS[model].preset, model=model, **overrides)
    return load_config(STANDARD, model=model, **overrides)


def _sentence(path: str, error: ValidationError, overrides: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints, in our words, with the number of the others."""
    first, *others = error.errors()
    key = ".".join(map(str, first["loc"]))
    source = "option" if first["loc"] and first["loc"][0] in overrides else path
    if first["type"] == "extra_forbidden":
        known = list(RunConfig.model_fields)
        text = f"{source}: unknown key '{key}'; {nearest(key, known)}"
    elif first["type"] == "missing":
        text = f"{source}: {key} is missing"
    elif not key:
        given = ", ".join(f"{name} = {shown(value)}" for name, value in overrides.items())
        text = f"{source}{f' (with {given})' if given else ''}: {first['msg'].removeprefix('Value error, ')}"
    else:
        text = f"{source}: {key} = {shown(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{text} (and {len(others)} more)" if others else text


def nearest(name: str, known: list[str]) -> str:
    """What to write instead of an unknown name."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}" if known else "there is none"
