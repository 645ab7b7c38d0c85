"""From a name to a whole network, its tokenizer and a hash of both."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError


def load_model(model: str, source: str, dtype: Any, options: ModelOptions) -> tuple[Any, Any]:
    """(network, tokenizer) of what lies at ``source``. Raises UserError for what cannot be loaded whole."""
    quiet()
    _refuse_incomplete(Path(source))
    named = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    place = {} if options.device_map is None else {"device_map": options.device_map}
    with in_a_sentence(model):
        tokenizer = AutoTokenizer.from_pretrained(source, **named)
        return whole_network(AutoModelForCausalLM, source, dtype=dtype, **place, **named), tokenizer


def quiet() -> None:
    """Neither progress nor warnings of the library."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("datasets").setLevel(logging.ERROR)


def _refuse_incomplete(folder: Path) -> None:
    """Raises UserError for a local folder that is no checkpoint."""
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        quantised = next((f"; name the file in it: {file}" for file in sorted(folder.glob("*.gguf"))), "")
        raise UserError(
            f"model folder {folder}: no config.json{quantised or '; give a Hugging Face checkpoint folder or a hub id'}"
        )
    if not any(folder.glob("tokenizer*")) and not (folder / "vocab.json").exists():
        raise UserError(f"model folder {folder}: no tokenizer; save it there with tokenizer.save_pretrained({folder})")


@contextmanager
def in_a_sentence(model: str, hint: str = "give a local folder or a reachable hub id") -> Iterator[None]:
    """What the library raises becomes a UserError with its telling line and what to do."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        first = next((line for line in said if "size mismatch" in line), said[0])
        if "trust_remote_code" in str(error):
            hint = "it brings its own code: allow it with trust_remote_code, if you trust it"
        elif isinstance(error, ImportError):
            hint = "install what is missing"
        raise UserError(f"model '{model}' could not be loaded: {first[:300]}; {hint}") from error


def whole_network(kind: Any, source: str, **named: Any) -> Any:
    """The network; refused where weights are missing, which transformers would only fill with noise."""
    network, report = kind.from_pretrained(source, output_loading_info=True, **named)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing from the checkpoint, such as {missing[0]}")
    return network
