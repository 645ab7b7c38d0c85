"""What can be wrong with an installation, looked at one thing at a time. Nothing is changed and nothing is sent."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prunebench.bench.engines.shipped import WEIGHTS

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("prunebench.bench", "prunebench.methods", "prunebench.tasks", "prunebench.figures")
OLDEST_PYTHON = (3, 11)
NEEDED_GIGABYTES = 1.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``detail`` says what was found and, where it is not ``ok``, what to do."""

    name: str
    ok: bool
    detail: str


def diagnose() -> list[Check]:
    """Every check, in the order in which a person would fix them."""
    return [
        python(sys.version_info[:2]),
        own_packages(PROJECT),
        pinned_versions(PROJECT / "constraints.txt"),
        torch_runtime(),
        free_disk(Path.cwd()),
        weights(WEIGHTS),
        learned(WEIGHTS, WEIGHTS.parent / "learned"),
    ]


def python(running: tuple[int, int]) -> Check:
    needed = ".".join(map(str, OLDEST_PYTHON))
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check(
        "python", running >= OLDEST_PYTHON, detail if running >= OLDEST_PYTHON else f"{detail}; needs {needed}"
    )


def own_packages(project: Path, find: Callable[[str], Path | None] | None = None) -> Check:
    """Whether ``import prunebench.bench`` and the others find this project, and no other folder of that name."""
    find = find or _package_folder
    foreign = {name: folder for name in PACKAGES if (folder := find(name)) is None or folder.parent != project}
    if not foreign:
        return Check("packages", True, f"{', '.join(PACKAGES)} come from {project}")
    name, folder = next(iter(foreign.items()))
    if folder is None:
        return Check("packages", False, f"'import {name}' finds nothing; install the project with: pip install -e .")
    return Check(
        "packages",
        False,
        f"'import {name}' finds {folder}, which shadows this project's own {project / name.rpartition('.')[2]}; "
        "start from another folder or rename that one",
    )


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))).resolve() if locations else None


def pinned_versions(constraints: Path, installed: Callable[[str], str] = version) -> Check:
    """Installed packages against the pins; build tags such as ``+cpu`` do not count, absent packages are not needed."""
    if not constraints.is_file():
        return Check("versions", True, f"not compared: {constraints.name} is part of the repository only")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", constraints.read_text(), flags=re.MULTILINE))
    different, same = [], 0
    for name, pin in pins.items():
        try:
            present = installed(name)
        except PackageNotFoundError:
            continue
        if present.split("+")[0] == pin:
            same += 1
        else:
            different.append(f"{name} {present} (pinned: {pin})")
    if not different:
        return Check("versions", True, f"{same} packages as pinned in {constraints.name}")
    return Check("versions", False, f"{', '.join(different)}; install with: pip install -c {constraints.name} -e .")


def torch_runtime() -> Check:
    """Torch's version, threads and device. Byte equality is promised per thread count, which is why it is shown."""
    try:
        import torch
    except ImportError as error:
        return Check("torch", False, f"cannot be imported ({error}); install with: pip install -c constraints.txt -e .")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    return Check("torch", True, f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")


def free_disk(folder: Path) -> Check:
    gigabytes = shutil.disk_usage(folder).free / 1e9
    detail = f"{gigabytes:.1f} GB free at {folder}"
    enough = gigabytes >= NEEDED_GIGABYTES
    return Check("disk", enough, detail if enough else f"{detail}; runs need about {NEEDED_GIGABYTES:g} GB")


def weights(folder: Path) -> Check:
    """Whether the embedded reasoner's checkpoint is there, with its hash."""
    missing = [name for name in ("model.safetensors", "config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        return Check("weights", False, f"{', '.join(missing)} missing in {folder}; make them with: make reasoner")
    return Check("weights", True, f"embedded reasoner {_digest(folder)} in {folder}")


def learned(weights_folder: Path, folder: Path) -> Check:
    """Whether every learned pruner was fitted to the present weights: its card carries the hash of its own."""
    cards = sorted(folder.glob("*.json"))
    if not cards:
        return Check("learned", False, f"no learned pruners in {folder}; make them with: make reasoner")
    if not (weights_folder / "model.safetensors").is_file():
        return Check("learned", False, f"{len(cards)} learned files, but no weights to compare them with")
    expected = _digest(weights_folder)
    stale = [
        f"{card.name} ({made_for or 'no model_hash'})" for card in cards if (made_for := _model_hash(card)) != expected
    ]
    if stale:
        return Check("learned", False, f"not made for the weights {expected}: {', '.join(stale)}; run: make reasoner")
    return Check("learned", True, f"{len(cards)} learned files made for the weights {expected}")


def _digest(folder: Path) -> str:
    from prunebench.bench.engines.options import model_digest

    return model_digest(str(folder))


def _model_hash(card: Path) -> str:
    """The hash in a card; empty where the file is no card."""
    try:
        content = json.loads(card.read_text())
    except (ValueError, OSError):
        return ""
    return str(content.get("model_hash", "")) if isinstance(content, Mapping) else ""
