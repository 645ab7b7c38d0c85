"""Rollouts made elsewhere: one importer per format, and the store that they all fill. See docs/importing.md."""

from __future__ import annotations

from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.importers.contract import Importer, Options
from prunebench.bench.rollouts.importers.deepconf import DEEPCONF
from prunebench.bench.rollouts.importers.lighteval import LIGHTEVAL
from prunebench.bench.rollouts.importers.lm_eval import LM_EVAL
from prunebench.bench.rollouts.importers.matharena import MATHARENA
from prunebench.bench.rollouts.importers.matrix import MATRIX
from prunebench.bench.rollouts.importers.pipeline import import_source
from prunebench.bench.rollouts.importers.plain import PLAIN
from prunebench.bench.rollouts.importers.report import Report
from prunebench.methods.entries import UnknownNameError

__all__ = ["IMPORTERS", "Importer", "Options", "Report", "import_rollouts"]

IMPORTERS: dict[str, Importer] = {
    importer.name: importer for importer in (PLAIN, MATRIX, LM_EVAL, LIGHTEVAL, MATHARENA, DEEPCONF)
}


def import_rollouts(format: str, path: Path, out: Path, options: Options, progress: Progress = SILENT) -> Report:
    """Import the file or folder ``path`` into a rollout store in the folder ``out``.

    Everything is read and checked before anything is written; problems that ``out`` holds already are not imported
    again. ``progress`` counts the paths. Raises UserError for an unknown format, for a malformed source
    (with file, place, field and value), and for a folder that holds something else.
    """
    if format not in IMPORTERS:
        raise UserError(str(UnknownNameError("format", format, list(IMPORTERS))))
    return import_source(IMPORTERS[format], path, out, options, progress)
