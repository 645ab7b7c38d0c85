"""How a model is asked, and how its reasoning is closed so that an answer can be forced.

Three formats are told apart by what the tokenizer knows: Harmony (gpt-oss: channels between special tokens),
``<think>`` tags, and plain text. A prefix may be cut anywhere: what is open is read from the text of prompt and prefix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError

HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_FINAL = "<|start|>assistant<|channel|>final<|message|>"
_FINAL_MARK = "<|channel|>"
_OPENED, _CLOSED = "<think>", "</think>"


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

    Raises UserError where the template refuses the message, and where a system message has no template to go into.
    """
    from jinja2 import TemplateError

    template = template_of(tokenizer, options)
    if template is None:
        if options.system is not None:
            raise UserError("system = ...: a system message needs a chat template; this model has none")
        ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]
    messages = [] if options.system is None else [{"role": "system", "content": options.system}]
    extra = {} if options.reasoning_effort is None else {"reasoning_effort": options.reasoning_effort}
    try:
        return list(
            tokenizer.apply_chat_template(
                [*messages, {"role": "user", "content": prompt}],
                chat_template=template, add_generation_prompt=True, return_dict=False, **extra,
            )
        )  # fmt: skip
    except TemplateError as error:
        raise UserError(f"the chat template refuses the prompt ({error}); give another one as chat_template") from error


def has_reasoning_marks(tokenizer: Any) -> bool:
    """Whether the tokenizer knows Harmony's channels or ``<think>``."""
    vocabulary = tokenizer.get_vocab()
    return _OPENED in vocabulary or all(token in vocabulary for token in HARMONY)


def longest_closing(tokenizer: Any) -> str:
    """The most that may have to be put before a question, for the ledger."""
    return f"<|message|><|end|>{_FINAL}" if _FINAL_MARK in tokenizer.get_vocab() else f"\n{_CLOSED}\n\n"


def closing(tokenizer: Any, text: str) -> str:
    """What must follow ``text`` (prompt and prefix, special tokens kept) before the answer can be asked for."""
    vocabulary = tokenizer.get_vocab()
    if all(token in vocabulary for token in HARMONY):
        return _harmony_closing(text)
    if text.rfind(_OPENED) > text.rfind(_CLOSED):
        return f"\n{_CLOSED}\n\n"
    return ""


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
