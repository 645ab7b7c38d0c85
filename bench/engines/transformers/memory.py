"""How many keys and values may be in flight: results do not depend on it, only whether the memory holds them."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_SHARE = 0.5
"""Of what is free: keys and values are moved while they grow, and others use the memory, too."""
_MOST_PROCESSES = 4
"""So many sample side by side on a CPU at most, each with its own keys and values."""


def tokens_in_memory(device: str, bytes_per_token: int) -> int:
    """Tokens whose keys and values fit into one process's share of the memory that is free on ``device``."""
    sharing = min(_MOST_PROCESSES, os.cpu_count() or 1) if device == "cpu" else 1
    return int(_SHARE * free_bytes(device) / sharing) // bytes_per_token


def free_bytes(device: str) -> int:
    """What can be taken without anybody being moved out; where a system does not tell, a quarter of all memory."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if told.exists():
        sizes = {line.split(":")[0]: line.split()[1] for line in told.read_text().splitlines() if ":" in line}
        if "MemAvailable" in sizes:
            return 1024 * int(sizes["MemAvailable"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
