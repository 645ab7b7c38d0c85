"""What a result ran in and was made by: code, packages, machine."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "methods", "tasks")
"""The folders that a number depends on; figures only show them."""
CONTRACTS = tuple(f"prunebench.methods.{name}" for name in ("base", "pool", "signals", "registry", "entries", "meter"))
"""What every method is written against; it is none of a method's own code."""


@cache
def code_digest() -> str:
    """16 hex digits over the Python files that numbers depend on."""
    digest = hashlib.sha256()
    for file in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def method_code(entry: type) -> str:
    """16 hex digits over the statements that a method is made of: its file, those of its classes, what they take from
    ``methods`` beside the contracts, and what a plugin imports from beside it. Comments, texts and layout do not count;
    empty where there is no file.
    """
    modules = [part.__module__ for part in entry.__mro__ if part.__module__ not in ("abc", "builtins", "enum")]
    digest, seen = hashlib.sha256(), set(CONTRACTS)
    while modules:
        name = modules.pop()
        file = Path(getattr(sys.modules.get(name), "__file__", None) or f"{ROOT.joinpath(*name.split('.')[1:])}.py")
        if name in seen or not file.is_file():
            continue
        seen.add(name)
        for part in [file] if file.is_relative_to(ROOT) else own_files(file):
            statements = ast.parse(part.read_text(encoding="utf-8"))
            modules += sorted(name for name in _imported(statements) if name.startswith("prunebench.methods."))
            digest.update(ast.unparse(_without_texts(statements)).encode() + b"\0")
    return digest.hexdigest()[:16] if len(seen) > len(CONTRACTS) else ""


def own_files(plugin: Path) -> list[Path]:
    """The file of a plugin first, then those beside it that it imports, and those that they import."""
    found: list[Path] = []
    waiting = [plugin]
    while waiting:
        file = waiting.pop(0)
        if file not in found:
            found.append(file)
            names = sorted(_imported(ast.parse(file.read_text(encoding="utf-8"))))
            beside = (file.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names)
            waiting += [path for path in beside if path.is_file()]
    return found


def _imported(statements: ast.Module) -> set[str]:
    """The modules that a file imports, or imports from."""
    nodes = list(ast.walk(statements))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return named | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def _without_texts(statements: ast.Module) -> ast.Module:
    for node in ast.walk(statements):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            del node.body[0]
    return statements


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
