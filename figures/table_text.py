"""How tables are written: numbers, Markdown, the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

DASH, MINUS = "–", "−"


def number(value: float, decimals: int = 1, signed: bool = False) -> str:
    """A number as the tables print it: a true minus sign, an en dash for NaN, and no negative zero."""
    if math.isnan(value):
        return DASH
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def with_interval(value: float, low: float, high: float, decimals: int = 1, signed: bool = False) -> str:
    """``41.2 [36.0, 46.4]``; without a defined interval the number alone."""
    text = number(value, decimals, signed)
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return text
    return f"{text} [{number(low, decimals, signed)}, {number(high, decimals, signed)}]"


def p_value(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float) -> str:
    """Three decimals below ten seconds, one above; what rounds to nothing is shown as a bound."""
    if 0 < value < 0.0005:
        return "<0.001"
    return number(value, 3 if value < 10 else 1)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table in Markdown; the first ``texts`` columns are aligned to the left, the others are numbers."""
    ruler = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows)) + "\n"


def terminal_table(title: str) -> Table:
    """An empty table as all tables look in a terminal."""
    return Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
