"""What a method of one's own raises becomes one sentence: file, line, problem."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from prunebench.bench.errors import CrashError, UserError
from prunebench.bench.training.loading import PLUGIN
from prunebench.methods.base import Pruner
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.tasks.errors import first_line


@contextmanager
def crashes_of(pruner: Pruner, where: str) -> Iterator[None]:
    """Raises CrashError for whatever the file of a plugin raises meanwhile, ``where`` it happened; all else passes."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a foreign file may raise anything
        members = pruner.pruners_ if isinstance(pruner, MeanRank) and pruner.ready else []
        own = [type(one) for one in (pruner, *members) if type(one).__module__.startswith(PLUGIN)]
        if not own:
            raise
        files = [inspect.getsourcefile(kind) for kind in own]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        if not frames and own[0] is not type(pruner):
            raise  # another member's
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else f"{files[0]}:{_line(own[0])}"
        raise CrashError(
            f"{place}: method '{type(pruner).name}' failed {where} ({first_line(error)}); what is finished is kept"
        ) from error


def _line(kind: type[Pruner]) -> int:
    return inspect.getsourcelines(kind)[1]
