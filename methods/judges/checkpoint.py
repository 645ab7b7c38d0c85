"""A checkpoint of a judge: its configuration, its tensors by name, its body and its tokenizer."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

FormName = Literal["separator", "value", "plus-minus", "step-tag"]


class Checkpoint:
    """A checkpoint of safetensors files, in a local folder or fetched by its hub id (without ``weights``: the rest)."""

    def __init__(self, source: str, weights: bool = True) -> None:
        self.source, self.folder = source, _folder(source, weights)
        file = self.folder / "config.json"
        if not file.is_file():
            raise ValueError(f"judge {source}: no config.json; give a Hugging Face checkpoint folder or a hub id")
        self.config: dict[str, Any] = json.loads(file.read_text())

    @cached_property
    def files(self) -> dict[str, Path]:
        """In which file each tensor lies."""
        from safetensors import safe_open

        files: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(str(path), framework="pt") as file:
                files |= dict.fromkeys(file.keys(), path)
        if not files:
            raise ValueError(f"judge {self.source}: no *.safetensors file; save the checkpoint in that format")
        return files

    @property
    def form(self) -> FormName:
        """Told by the head's tensors; a model without one is a language model that is asked for ``+`` or ``-``."""
        if "score.0.weight" in self.files:
            return "separator"
        if "v_head.summary.weight" in self.files:
            return "value"
        architectures = self.config.get("architectures") or ["none"]
        if any(name.endswith("ForCausalLM") for name in architectures):
            return "step-tag" if self.config.get("model_type") == "mistral" else "plus-minus"
        raise ValueError(
            f"judge {self.source}: a {architectures[0]} without score.0 or v_head.summary is of no known form; "
            "give a process reward model, or name its form"
        )

    def tensor(self, *names: str) -> Any:
        """The tensor of the first of ``names`` that there is. Raises ValueError when there is none."""
        from safetensors import safe_open

        for name in names:
            if name in self.files:
                with safe_open(str(self.files[name]), framework="pt") as file:
                    return file.get_tensor(name)
        raise ValueError(f"judge {self.source}: no tensor {' or '.join(names)}; name the form that it really has")

    @property
    def context(self) -> int:
        """The longest text that its positions are made for."""
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(str(self.folder), trust_remote_code=False).max_position_embeddings)

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=False)

    def body(self, dtype: Any) -> Any:
        """The transformer without a head. Raises ValueError where the files do not hold all of it."""
        from transformers import AutoModel
        from transformers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()  # it would warn of the head, which is read apart
        try:
            body, loading = AutoModel.from_pretrained(
                str(self.folder), dtype=dtype, trust_remote_code=False, output_loading_info=True
            )
        finally:
            logging.set_verbosity(level)
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(
                f"judge {self.source}: {len(missing)} tensors are missing, such as {missing[0]}; "
                "give a complete checkpoint whose tensors bear the names of its architecture"
            )
        return body


def _folder(source: str, weights: bool) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "*.jinja", *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # what the hub raises is of one of these kinds
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"judge {source}: could not be fetched ({first}); give a local folder or a hub id") from error
