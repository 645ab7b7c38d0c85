"""Pruning of parallel reasoning: engines, stores, policies, protocol, statistics, commands.

On a CPU a path does not depend on the batch that it is in, to the last bit. Kernels of Intel keep to that only where
they are told so before the first product: few rows would take others, which round otherwise.
"""

import os
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")

if _PROCESSORS.exists() and "GenuineIntel" in _PROCESSORS.read_text(encoding="utf-8", errors="replace"):
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
