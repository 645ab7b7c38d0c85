"""Folders of safetensors made of other forms of a model: a quantised file, and an adapter with its base."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.transformers.loading import in_a_sentence, load_model, quiet, whole_network
from prunebench.bench.errors import UserError


def dequantise(file: Path, folder: Path) -> None:
    """Write what a GGUF file holds, weights in float32. Raises UserError for what transformers does not read."""
    if find_spec("gguf") is None:
        raise UserError(f"model {file}: GGUF files need the package gguf: pip install 'prunebench[gguf]'")
    quiet()
    options: dict[str, Any] = {"gguf_file": file.name}
    with in_a_sentence(str(file), "give a GGUF file of a causal language model that transformers reads"):
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **options)
        if hasattr(transformers, "GgufConfig"):  # some versions would keep the blocks
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        network = whole_network(AutoModelForCausalLM, str(file.parent), dtype=torch.float32, **options)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def merge(adapter: Path, tensors: Path, base: str, folder: Path, options: ModelOptions) -> None:
    """Write the model at ``base`` with a LoRA merged into it, computed in float32 and stored in the type of the base.

    Raises UserError where it does not fit.
    """
    from peft import PeftModel, get_peft_model_state_dict

    network, tokenizer = load_model(base, base, torch.float32, options)
    with in_a_sentence(str(adapter), f"its base is {base}; another one is named with --set base=FOLDER_OR_ID"):
        stored = transformers.AutoConfig.from_pretrained(
            base, revision=options.revision, trust_remote_code=options.trust_remote_code
        ).dtype
        with safe_open(str(tensors), framework="pt") as weights:
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        adapted = PeftModel.from_pretrained(network, str(adapter))
        embeddings = any("embed" in name and "lora" not in name for name in shapes)
        state = get_peft_model_state_dict(adapted, save_embedding_layers=embeddings)
    taken = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if foreign := sorted(shapes.items() ^ taken.items()):
        raise UserError(
            f"LoRA {adapter} does not fit its base {base}: {foreign[0][0]} is in one of them only; name the model that "
            "it was trained on: --set base=FOLDER_OR_ID"
        )
    adapted.merge_and_unload().to(stored or torch.float32).save_pretrained(folder)
    own = any(adapter.glob("tokenizer*"))
    (AutoTokenizer.from_pretrained(str(adapter)) if own else tokenizer).save_pretrained(folder)
    for file in adapter.glob("chat_template*"):
        shutil.copy(file, folder)
