"""All figures that a run folder allows, drawn into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.bench.progress import SILENT, Progress, Tick
from prunebench.figures.registry import CatalogueFigure, Drawing, figure_named, figures
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import save
from prunebench.figures.table_text import markdown_table


@dataclass(frozen=True)
class Gallery:
    """What was drawn: the files, and per figure that could not be drawn a sentence why."""

    written: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def draw_figures(
    run: RunFolder,
    out: Path,
    names: Sequence[str] = (),
    *,
    paper: bool = False,
    progress: Progress = SILENT,
) -> Gallery:
    """``<name>.png``, ``.svg`` and ``.csv`` in ``out`` for the named figures, or for all that ``run`` allows.

    A figure that was named and cannot be drawn is an error, and nothing is written; of all figures, it is left out with
    its reason. ``paper``
    adds published numbers as open markers, where the paper has any. ``progress`` counts the figures. Raises
    UserError for an unknown name, and for a folder without readable results when no names are given.
    """
    chosen = [figure_named(name) for name in dict.fromkeys(names)] or figures()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: this is a file; name a folder")
    if paper and not any(entry.published for entry in chosen):
        able = ", ".join(entry.name for entry in figures() if entry.published)
        raise UserError(f"--paper: the paper has no numbers for {', '.join(names)}; it has for {able}")
    if not names:
        _ = run.results
    gallery = Gallery()
    drawn = _drawn(run, chosen, paper, progress.stretch("figures", len(chosen)), None if names else gallery.left_out)
    for name, drawing in list(drawn) if names else drawn:
        gallery.written.extend(save(drawing.picture, out / name))
        data = out / f"{name}.csv"
        write_atomically(data, drawing.data.encode())
        gallery.written.append(data)
    return gallery


def _drawn(
    run: RunFolder, chosen: Sequence[CatalogueFigure], paper: bool, tick: Tick, left_out: dict[str, str] | None
) -> Iterator[tuple[str, Drawing]]:
    """One after the other; what cannot be drawn is put into ``left_out`` with the reason, or raised if that is None."""
    for entry in chosen:
        try:
            yield entry.name, entry.draw(run, paper)
        except UserError as error:
            if left_out is None:
                raise
            left_out[entry.name] = str(error)
        tick(1)


def figures_markdown(thumbnails: Path | None = None) -> str:
    """The catalogue as a Markdown table, with those pictures that a folder of ``thumbnails`` has."""
    rows = [
        [
            f"![{entry.name}]({thumbnails.name}/{entry.name}.png)"
            if thumbnails is not None and (thumbnails / f"{entry.name}.png").exists()
            else "",
            f"`{entry.name}`",
            entry.description,
            f"`{entry.needs}`" if entry.needs.startswith("prunebench") else entry.needs,
            "open markers" if entry.published else "",
        ]
        for entry in figures()
    ]
    return markdown_table(("", "figure", "shows", "drawn from", "`--paper`"), rows, texts=5)
