"""What all pages share: one look, one script, and cells that sort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from prunebench.figures.style import QUADRANTS


@dataclass(frozen=True)
class SortableCell:
    """What is shown, and what is sorted by."""

    text: str
    key: str


def page_of(template: str, **content: Any) -> str:
    """A template of ``templates`` with its ``content``: no address is loaded from anywhere, every text is escaped."""
    environment = Environment(
        loader=PackageLoader("prunebench.figures.report"),
        autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))  # type: ignore[union-attr]
    return environment.get_template(template).render(
        style=Markup(style + _marks()),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
        **content,
    )


def _marks() -> str:
    """The colours of the quadrants as style rules, the same as in the figures."""
    return "".join(f".mark-{name} {{ background: {style.color}; }}\n" for name, style in QUADRANTS.items())


def sortable(key: object) -> str:
    """A number as itself, a text in lower case; undefined sorts last."""
    if isinstance(key, float | int):
        return "" if key != key else repr(float(key))
    text = (
        str(key).replace("−", "-").replace(",", "").replace("<", "").replace("≥", "").split("[")[0].strip().rstrip("%")
    )
    try:
        return repr(float(text))
    except ValueError:
        return "" if text in ("–", "") else text.lower()
