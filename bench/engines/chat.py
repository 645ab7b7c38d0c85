"""How a model is asked, and how its reasoning is closed so that an answer can be forced.

Harmony (gpt-oss: channels between special tokens) is told by what the tokenizer knows, thinking between marks by the
text. A prefix may be cut anywhere: what is open is read from the text of prompt and prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError
from prunebench.tasks.answer_types.thinking import ANSWERS, PAIRS, open_thinking, opened_in
from prunebench.tasks.errors import first_line

HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_FINAL = "<|start|>assistant<|channel|>final<|message|>"
_LIKE_A_MARK = re.compile(r"[<\[◁].*(?:think|thought|reason).*[>\]▷]", re.IGNORECASE)
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A tag that only transformers knows."""
_SWITCHES = {"reasoning_effort": ("reasoning_effort",), "enable_thinking": ("enable_thinking", "thinking")}
"""By option: what templates call it."""


def template_of(tokenizer: Any, options: ModelOptions) -> str | None:
    """The chat template that is used, or None for plain text. Raises UserError for a file that cannot be read."""
    if options.chat_template == "none":
        return None
    if options.chat_template == "auto":
        template = getattr(tokenizer, "chat_template", None)
        return template["default"] if isinstance(template, dict) else template
    try:
        return Path(options.chat_template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"chat_template {options.chat_template}: cannot be read ({error}); or write auto, or none"
        ) from error


def prompt_ids(tokenizer: Any, prompt: str, options: ModelOptions) -> list[int]:
    """The prompt through the chat template, or as it is behind the beginning-of-text token.

    Raises UserError where the template refuses the message, and for an option that it makes no use of.
    """
    from jinja2 import TemplateError

    template = template_of(tokenizer, options)
    if template is None:
        for name in ("system", *_SWITCHES):
            if getattr(options, name) is not None:
                raise UserError(f"{name} = ...: needs a chat template; this model has none")
        ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]
    messages = [] if options.system is None else [{"role": "system", "content": options.system}]
    extra = _switched(template, options)
    try:
        return list(
            tokenizer.apply_chat_template(
                [*messages, {"role": "user", "content": prompt}],
                chat_template=template, add_generation_prompt=True, return_dict=False, **extra,
            )
        )  # fmt: skip
    except TemplateError as error:
        raise UserError(f"the chat template refuses the prompt ({error}); give another one as chat_template") from error


def _switched(template: str, options: ModelOptions) -> dict[str, Any]:
    """The options that go to the template, by the names that it knows. Raises UserError for one that it does not."""
    switched: dict[str, Any] = {}
    for name, called in _SWITCHES.items():
        value = getattr(options, name)
        known = [each for each in called if value is not None and each in _variables(template)]
        if value is not None and not known:
            raise UserError(
                f"{name} = {value}: the chat template makes no use of it; leave it out, or give another one"
            )
        switched |= dict.fromkeys(known, value)
    return switched


@lru_cache(maxsize=8)
def _variables(template: str) -> set[str]:
    """What a template asks to be given. Raises UserError for one that is no Jinja."""
    from jinja2 import Environment, TemplateError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True)
    try:
        return meta.find_undeclared_variables(environment.parse(_GENERATION.sub("", template)))
    except TemplateError as error:
        raise UserError(f"the chat template is not valid Jinja ({first_line(error)})") from error


@dataclass(frozen=True)
class Marks:
    """How a model can think, by its tokenizer: in Harmony's channels, or between marks.

    ``tokens``: opening marks that are one token each. ``written``: marks can be spelled letter by letter. ``strange``:
    tokens that look like marks where none is known.
    """

    harmony: bool
    tokens: frozenset[str]
    written: bool
    strange: tuple[str, ...]


@lru_cache(maxsize=8)
def marks_of(tokenizer: Any) -> Marks:
    """The marks that a tokenizer knows."""
    vocabulary = tokenizer.get_vocab()
    tokens = frozenset(mark for mark in PAIRS if mark in vocabulary)
    ids = tokenizer("<think>", add_special_tokens=False)["input_ids"]
    written = str(tokenizer.decode(ids)).replace(" ", "") == "<think>"
    strange = () if tokens else tuple(sorted(filter(_LIKE_A_MARK.fullmatch, tokenizer.get_added_vocab())))
    return Marks(all(token in vocabulary for token in HARMONY), tokens, written, strange)


def has_reasoning_marks(tokenizer: Any) -> bool:
    """Whether it knows channels or marks of thinking, or can write some."""
    marks = marks_of(tokenizer)
    return marks.harmony or marks.written or bool(marks.tokens or marks.strange)


def longest_closing(tokenizer: Any, texts: Iterable[str] = ()) -> str:
    """The most that may have to be put before a question behind prefixes of these texts, for the ledger."""
    marks = marks_of(tokenizer)
    if marks.harmony:
        return f"<|message|><|end|>{_FINAL}"
    return max(map(_closing, marks.tokens.union(*map(opened_in, texts))), key=len, default="")


def closing(tokenizer: Any, path: str, prompt: str = "") -> str:
    """What must follow ``prompt`` and ``path`` (special tokens kept) before the answer can be asked for.

    Raises ValueError for a model whose marks of thinking are not known.
    """
    marks = marks_of(tokenizer)
    if marks.harmony:
        return _harmony_closing(prompt + path)
    if opened := open_thinking(prompt, path):
        return _closing(opened)
    if marks.strange:
        raise ValueError(
            f"the model thinks between marks that are not known ({', '.join(marks.strange)}); an answer that is forced "
            "would be a part of its thinking"
        )
    return ""


def _closing(opened: str) -> str:
    closed = PAIRS[opened]
    return "\n\n".join([f"\n{closed}", *filter(None, [ANSWERS.get(closed)]), ""])


def _harmony_closing(text: str) -> str:
    channel, ended = text.rfind("<|channel|>"), text.rfind("<|end|>")
    started = text.rfind("<|start|>assistant")
    if max(channel, ended, started) < 0 or (ended > channel and ended > started):  # between two messages
        return _FINAL
    if channel < started:  # the role is written, no channel yet
        return _FINAL.removeprefix("<|start|>assistant")
    if text.startswith("final", channel + len("<|channel|>")):
        return "" if text.find("<|message|>", channel) >= 0 else "<|message|>"
    unread = "" if text.find("<|message|>", channel) >= 0 else "<|message|>"  # cut in the channel's name
    return f"{unread}<|end|>{_FINAL}"
