"""The figures that there are: a file of this folder, a plugin or an installed package adds one by ``@figure``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from prunebench.bench.errors import UserError
from prunebench.figures.run_folder import RunFolder
from prunebench.methods.entries import BrokenPluginError, Registry, UnknownNameError


@dataclass(frozen=True)
class Drawing:
    """A figure and its data as CSV text."""

    picture: Figure
    data: str


@dataclass(frozen=True)
class CatalogueFigure:
    """``function`` draws it from a run folder; its arguments and the other fields as in :func:`figure`."""

    name: str
    description: str
    function: Callable[..., Drawing]
    needs: str
    published: bool
    place: float

    def draw(self, run: RunFolder, paper: bool = False) -> Drawing:
        """Raises UserError where the run folder has not what it needs."""
        try:
            return self.function(run, paper) if self.published else self.function(run)
        except ValueError as error:
            raise UserError(f"{self.name} cannot be drawn from {run.path}: {error}") from error


FIGURES: Registry[CatalogueFigure] = Registry("figure", CatalogueFigure, ("prunebench.figures",), "prunebench.figures")


def figure(
    name: str, description: str, *, needs: str = "a run", published: bool = False, place: float = math.inf
) -> Callable[[Callable[..., Drawing]], Callable[..., Drawing]]:
    """Function decorator: register how a figure is drawn from a :class:`RunFolder`.

    ``needs`` says in words what is drawn from. ``published``: the function also takes whether the paper's numbers are
    wanted. ``place`` is where the figure stands among the others, in the order in which a reader needs them.
    """

    def register(function: Callable[..., Drawing]) -> Callable[..., Drawing]:
        entry = CatalogueFigure(name, description, function, needs, published, place)
        FIGURES.register(name, made_by=function)(entry)
        return function

    return register


def figures() -> list[CatalogueFigure]:
    """All figures by their place; an installed one that cannot be loaded is a warning."""
    return sorted((entry for _, entry in FIGURES.items()), key=lambda entry: entry.place)


def figure_named(name: str) -> CatalogueFigure:
    """Raises UserError for an unknown name, with the nearest ones, and for a plugin that cannot be loaded."""
    try:
        return FIGURES.get(name)
    except (UnknownNameError, BrokenPluginError) as error:
        raise UserError(str(error)) from error
