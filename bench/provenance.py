"""What a result ran in and was made by: code, packages, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "methods", "tasks")
"""The folders that a number depends on; figures only show them."""


@cache
def code_digest() -> str:
    """16 hex digits over the Python files that numbers depend on."""
    digest = hashlib.sha256()
    for file in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("torch", "transformers", "peft", "numpy", "scikit-learn", "prunebench")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def environment(device: str) -> dict[str, Any]:
    """Code, machine and threads. ``git`` is the commit, with ``+`` behind it where files differ; None outside git."""
    return {
        "git": _git(),
        "code": code_digest(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "device": device,
    }


def device_name(device: str) -> str:
    """The name that the device calls itself by; a CPU by its architecture and number of cores."""
    import torch

    if device == "cpu":
        return f"cpu ({platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads)"
    return torch.cuda.get_device_name(device)


def _git() -> str | None:
    def ask(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    if ask("rev-parse", "--show-toplevel") != str(ROOT):  # installed: a repository around it is somebody else's
        return None
    commit = ask("rev-parse", "HEAD")
    return commit and commit + ("+" if ask("status", "--porcelain", "--", *PACKAGES) else "")
