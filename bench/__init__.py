"""The harness, in rooms. Imports run downwards in this list; docs/architecture.md says what goes where.

cli          the commands, one file per group
guideline    how many paths to keep: sweeps, fitted laws, advice
solving      problems answered with pruning, online
perf         how fast it is
evaluation   stored paths become tables: replay, grade, compare
reasoner     the language model that is shipped
training     what methods learn: labelled prefixes in, learned files out
rollouts     paths on disk: sampled, imported, stored, labelled, opened as pools
engines      who samples: transformers, vLLM, a server, many on Ray
policies     scores become kept paths, and kept answers one: policies and votes

Beside them: ``config`` (one experiment, checked), ``plugins`` (what a file from outside adds), and what all rooms use:
``errors``, ``files``, ``parameters``, ``processes``, ``progress``, ``provenance``.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

_ASKED = {
    "compare": "prunebench.bench.evaluation.compare",
    "solve": "prunebench.bench.solving",
    "Solution": "prunebench.bench.solving",
}
"""What this front door names, and where it lies."""

# On a CPU a path does not depend on the batch that it is in, to the last bit. Kernels of Intel keep to that only where
# they are told so before the first product: few rows would take others, which round otherwise.
_PROCESSORS = Path("/proc/cpuinfo")

if _PROCESSORS.exists() and "GenuineIntel" in _PROCESSORS.read_text(encoding="utf-8", errors="replace"):
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def __getattr__(name: str) -> Any:
    """``from prunebench.bench import compare, solve``: looked up when asked for, as they load most of the harness."""
    if name not in _ASKED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ASKED[name]), name)
