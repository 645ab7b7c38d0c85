"""What is shipped with a model, or lies where training puts it: learned files and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.training.loading import Learned


def shipped_labels(model: str, sampling_digest: str | None = None, options: ModelOptions | None = None) -> list[Path]:
    """The label stores that a shipped reasoner has, for these settings; none for any other model or other options."""
    from prunebench.bench.rollouts.label_store import KIND
    from prunebench.bench.rollouts.shards import Shards

    as_it_is = model in REASONERS and not (options and options.changes)
    folder = REASONERS[model].labels if as_it_is else None
    stores = sorted(path for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else []
    if sampling_digest is None:
        return stores
    return [path for path in stores if Shards.open(path, KIND).manifest["sampling_digest"] == sampling_digest]


def learned_for(model: str, named: Path | None, options: ModelOptions | None = None) -> Learned:
    """The folder of learned files: the named one, with a shipped reasoner's own behind it; else where training puts
    them. A named folder without any card stands alone: nothing was learned. Raises UserError for one that is not there.
    """
    if named is not None and not named.is_dir():
        raise UserError(
            f"--learned {named}: no such folder; prunebench train makes one (--out), an empty one takes defaults"
        )
    shipped = REASONERS[model].learned if model in REASONERS else None
    if named is None:
        return shipped or Path("runs/learned")
    alone = shipped is None or (options and options.changes) or not any(named.glob("*.json"))
    return named if alone or shipped is None else (named, shipped)
