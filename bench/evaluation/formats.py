"""How numbers look in tables for people: a true minus sign, an en dash where nothing is defined."""

from __future__ import annotations

import math

from prunebench.bench.evaluation.statistics import Interval

DASH, MINUS = "–", "−"


def number(value: float, decimals: int = 1, signed: bool = False) -> str:
    """A number as the tables print it: a true minus sign, an en dash for NaN, and no negative zero."""
    if math.isnan(value):
        return DASH
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def with_interval(value: Interval, decimals: int = 1, signed: bool = False) -> str:
    """``41.2 [36.0, 46.4]``; without a defined interval the number alone."""
    text = number(value.mean, decimals, signed)
    if math.isnan(value.mean) or math.isnan(value.low) or math.isnan(value.high):
        return text
    return f"{text} [{number(value.low, decimals, signed)}, {number(value.high, decimals, signed)}]"


def p_value(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float) -> str:
    """Three decimals below ten seconds, one above; what rounds to nothing is shown as a bound."""
    if 0 < value < 0.0005:
        return "<0.001"
    return number(value, 3 if value < 10 else 1)
