"""Small pictures of every figure that runs allow, for the gallery of docs/figures.md; ``make results`` calls it."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.figures.registry import figures
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import theme

WIDTH_PIXELS, COLORS = 400, 128


def draw_thumbnails(runs: Sequence[RunFolder], out: Path) -> dict[str, str]:
    """``<name>.png`` in ``out``, each figure from the first of the ``runs`` that allows it.

    Returns by name why the others cannot be drawn.
    """
    out.mkdir(parents=True, exist_ok=True)
    left_out: dict[str, str] = {}
    for entry in figures():
        for run in runs:
            try:
                write_atomically(out / f"{entry.name}.png", thumbnail(entry.draw(run).picture))
                left_out.pop(entry.name, None)
                break
            except UserError as error:
                left_out[entry.name] = str(error)
    return left_out


def thumbnail(picture: Figure) -> bytes:
    """A PNG of :data:`WIDTH_PIXELS` in few colours; equal figures give equal bytes."""
    from PIL import Image

    with theme():
        picture.savefig(drawn := io.BytesIO(), format="png", dpi=WIDTH_PIXELS / picture.get_figwidth())
    Image.open(drawn).convert("RGB").quantize(COLORS).save(small := io.BytesIO(), "png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    *folders, target = map(Path, sys.argv[1:])
    for line in draw_thumbnails([RunFolder(folder) for folder in folders], target).values():
        print(line)
