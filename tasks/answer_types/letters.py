"""The letter of a choice, wherever a text states one; a word or several letters are none."""

from __future__ import annotations

import re

_STYLE = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|boxed|fbox|underline|boldsymbol)\s*\{")
_MARKS = re.compile(r"[*_`\"'“”${}]|\\[,;:! ]")
_NAMED = re.compile(r"(?:the )?(?:(?:correct|right|best) )?(?:option|choice|answer)\s*[:#]?\s*", re.IGNORECASE)
_ALONE = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?\s*[.:!,;]?")
_LIST = re.compile(r"[\s)\].,:]*(?:,|/|&|\+|\band\b|\bor\b|\bnor\b)\s*(?:option |choice )?[(\[]?[A-Z](?![A-Za-z])")
_LABEL = re.compile(
    r"[(\[]([A-Z])[)\]]|([A-Z])\s?(?:[):,;.](?=\s|$)|:|\)|\s[–—-](?=\s)|(?=\s(?:because|since|is|which)\b))"
)
LONGEST = 300
"""Characters of a statement that are looked at."""


def letter_in(statement: str) -> str | None:
    """The letter that a statement begins with, alone or before the text of its choice; None for anything else."""
    emphasised = re.match(r"\s*(?:\*\*|\"|“|`|\$)\s*\(?([A-Z])\)?\s*(?:\*\*|\"|”|`|\$)", statement)
    text = _MARKS.sub("", _STYLE.sub("", statement[:LONGEST])).strip()
    named = _NAMED.match(text)
    text = text[named.end() :] if named and named.end() < len(text) else text
    alone = _ALONE.fullmatch(text)
    if alone:
        return alone[1].upper()
    label = _LABEL.match(text)
    if label is None and emphasised is None:
        return None
    end = label.end(1 if label[1] else 2) if label else 1
    if _LIST.match(text, end):
        return None
    return (label[1] or label[2]) if label else (emphasised[1] if emphasised else None)


def letter_alone(line: str) -> str | None:
    """The letter of a line that says nothing else, or that is bold from its begin to its end."""
    text = line.strip()
    if re.fullmatch(r"\*\*[^*]+\*\*\.?", text):
        return letter_in(text)
    alone = re.fullmatch(r"[*`$\"(\[\s]{0,6}([A-Z])[*`$\")\].\s]{0,6}", text)
    return alone[1] if alone else None
