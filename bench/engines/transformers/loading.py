"""From a name to a whole network, its tokenizer and a hash of both."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError


def load_model(model: str, source: str, dtype: Any, options: ModelOptions) -> tuple[Any, Any]:
    """(network, tokenizer) of what lies at ``source``. Raises UserError for what cannot be loaded whole."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    _refuse_incomplete(Path(source))
    named = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    with _in_a_sentence(model):
        tokenizer = AutoTokenizer.from_pretrained(source, **named)
        return _whole_network(source, dtype, options, named), tokenizer


def _refuse_incomplete(folder: Path) -> None:
    """Raises UserError for a local folder that is no checkpoint."""
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        raise UserError(f"model folder {folder}: no config.json; give a Hugging Face checkpoint folder or a hub id")
    if not any(folder.glob("tokenizer*")) and not (folder / "vocab.json").exists():
        raise UserError(f"model folder {folder}: no tokenizer; save it there with tokenizer.save_pretrained({folder})")


@contextmanager
def _in_a_sentence(model: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
        hint = "give a local folder or a reachable hub id"
        if "trust_remote_code" in str(error):
            hint = "it brings its own code: allow it with trust_remote_code, if you trust it"
        elif isinstance(error, ImportError):
            hint = "install what is missing"
        raise UserError(f"model '{model}' could not be loaded: {first[:300]}; {hint}") from error


def _whole_network(source: str, dtype: Any, options: ModelOptions, named: Mapping[str, Any]) -> Any:
    """The network; refused where weights are missing, which transformers would only fill with noise."""
    place = {} if options.device_map is None else {"device_map": options.device_map}
    network, report = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, output_loading_info=True, **place, **named
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing from the checkpoint, such as {missing[0]}")
    return network
