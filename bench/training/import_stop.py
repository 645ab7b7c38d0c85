"""STOP checkpoints in the layout of the paper's code: adapter, head, token embedding and their description.

::

    assess_token_config.json      assess_token, special_token_id, num_assess_tokens, embedding_path
    assess_token_embedding.pth    input_embedding (H,): the vector that stands num_assess_tokens times behind a prefix
    classifier_head.pth           weight (2, H), bias (2,)
    adapter[/classifier]/         adapter_config.json, adapter_model.safetensors or .bin, as PEFT writes them

Tensors are read with ``weights_only``: a file that would run code is refused.
"""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.errors import UserError
from prunebench.bench.training.cards import Card
from prunebench.bench.training.tuning import save_learned
from prunebench.methods.learned.stop import Stop
from prunebench.methods.learned.stop_reader import StopReader

UNKNOWN = "unknown"


def import_stop(folder: Path, engine: LocalEngine, prefix_tokens: int, out: Path) -> Card:
    """Write ``stop.safetensors`` and its card to ``out``, from a checkpoint for the model of ``engine``.

    ``prefix_tokens`` is the checkpoint that it was trained for. Raises UserError for a file that is missing, damaged or
    unsafe, and for shapes that are not those of the model.
    """
    described = _json(folder / "assess_token_config.json")
    adapter_folder = _adapter_folder(folder)
    adapter = _json(adapter_folder / "adapter_config.json")
    stop = Stop(tokens=_number(described, "num_assess_tokens", folder), rank=_number(adapter, "r", adapter_folder))
    reader = StopReader(engine.model, stop)
    weights = reader.learned()
    embedding = _tensors(folder / str(described.get("embedding_path", "assess_token_embedding.pth")))
    head = _tensors(folder / "classifier_head.pth")
    weights["vector"] = _taken(embedding, "input_embedding", weights["vector"], folder / "assess_token_embedding.pth")
    for name in ("weight", "bias"):
        weights[f"head.{name}"] = _taken(head, name, weights[f"head.{name}"], folder / "classifier_head.pth")
    _adapt(weights, adapter, adapter_folder, stop)
    stop.weights_ = weights
    card = Card(
        method=stop.name,
        configuration=stop.hyperparameters(),
        validation_auroc=math.nan,
        candidates=[],
        model_hash=engine.digest,
        sampling_digest=UNKNOWN,
        prefix_tokens=[prefix_tokens],
        train_data=UNKNOWN,
        train_problems=[],
        validation_problems=[],
        train_seconds=math.nan,
        seed=0,
        imported=folder.resolve().name,
    )
    out.mkdir(parents=True, exist_ok=True)
    if (out / f"{stop.name}.json").exists():
        raise UserError(f"{out}: holds a card of stop already; name an empty folder with --out")
    save_learned(stop, out / f"{stop.name}.safetensors")
    card.write(out / f"{stop.name}.json")
    return card


def _adapter_folder(folder: Path) -> Path:
    places = (folder / "adapter" / "classifier", folder / "adapter", folder)
    adapter = next((place for place in places if (place / "adapter_config.json").exists()), None)
    if adapter is None:
        raise UserError(f"{folder}: no adapter_config.json in it, in adapter/ or in adapter/classifier/")
    return adapter


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; a STOP checkpoint folder of the paper's code is wanted") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: no JSON object")
    return content


def _number(content: dict[str, Any], key: str, folder: Path) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
        raise UserError(f"{folder}: {key} = {value!r}, where a number from 1 is wanted")
    return value


def _tensors(path: Path) -> dict[str, Any]:
    """Named tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise UserError(f"{path}: no such file; a STOP checkpoint folder of the paper's code is wanted")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(str(path)))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than tensors, and reading it could run code; refused") from error
    except (RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: no named tensors in it")
    return content


def _taken(content: dict[str, Any], name: str, like: Any, path: Path) -> Any:
    """A tensor as float32, of the shape of ``like``."""
    tensor = content.get(name)
    if tensor is None or tuple(tensor.shape) != tuple(like.shape):
        shape = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise UserError(f"{path}: {name} is {shape}, this model needs {tuple(like.shape)}; is it of another model?")
    return tensor.detach().float().contiguous()


def _adapt(weights: dict[str, Any], config: dict[str, Any], folder: Path, stop: Stop) -> None:
    """Put the adapter's matrices among ``weights``; its scale goes into B, as ours is 2."""
    if config.get("bias", "none") != "none" or config.get("use_dora") or config.get("rank_pattern"):
        raise UserError(f"{folder}: a plain LoRA is wanted (no bias, no DoRA, one rank); this adapter has more")
    file = next(
        (folder / name for name in ("adapter_model.safetensors", "adapter_model.bin") if (folder / name).exists()), None
    )
    if file is None:
        raise UserError(f"{folder}: no adapter_model.safetensors and no adapter_model.bin")
    alpha = float(config.get("lora_alpha", stop.rank))
    scale = alpha / (math.sqrt(stop.rank) if config.get("use_rslora") else stop.rank)
    foreign = _tensors(file)
    for name in [name for name in weights if ".lora_" in name]:
        theirs = name.removeprefix("network.").replace(".default.", ".")
        if theirs in foreign:
            tensor = _taken(foreign, theirs, weights[name], file)
            weights[name] = tensor * (scale / 2) if ".lora_B." in name else tensor
            del foreign[theirs]
        else:  # a projection that was not adapted
            weights[name] = weights[name] * 0
    if foreign:
        raise UserError(f"{file}: '{next(iter(foreign))}' is no part of this model's adapter; is it of another model?")
