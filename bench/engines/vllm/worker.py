"""Checks inside vLLM's worker: states of a prefix's last token, and learned tokens that are read behind it.

An extension of the worker (``worker_extension_cls``), called by ``collective_rpc``. It relies on forward hooks, so that
the model runs eagerly, on one rank. Learned tokens stand in a prompt as spare ids of the vocabulary: hooks put the
learned vector in place of their embeddings and add the LoRA on their rows only. All rows before them are the frozen
model's, and come from the prefix cache. What crosses the process border is safetensors, both ways.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load

from prunebench.bench.engines.vllm.noise import KeyedNoise

STATES = "prunebench_states"
"""The extra argument that asks for states: [name of the request, whether those of all layers are wanted]."""
_LAYER = re.compile(r"(?:.*\.)?layers\.(?P<number>\d+)$")


@dataclass
class _Adapter:
    vector: torch.Tensor
    lora: dict[str, tuple[torch.Tensor, torch.Tensor]]
    scale: float


class PrefixReader:
    """Mixed into vLLM's worker, whose ``model_runner`` it reads."""

    model_runner: Any

    def prunebench_hook(self) -> None:
        """Put the hooks in place; once, before any other call."""
        model = self.model_runner.model
        modules = dict(model.named_modules())
        layers = {name: int(match["number"]) for name in modules if (match := _LAYER.match(name))}
        self._adapters: dict[int, _Adapter] = {}
        self._kept: dict[str, dict[str, torch.Tensor]] = {}
        self._wanted: list[tuple[str, int, int, bool]] = []
        self._learned: dict[int, torch.Tensor] = {}
        embedding = next(m for m in modules.values() if type(m).__name__ == "VocabParallelEmbedding")
        embedding.register_forward_hook(self._on_embedding)
        for name, number in layers.items():
            modules[name].register_forward_hook(self._on_layer(number + 1))
        logits = model.compute_logits

        def watched(states: torch.Tensor, *arguments: Any) -> Any:
            self._on_end(states)
            return logits(states, *arguments)

        model.compute_logits = watched
        packed = getattr(model, "packed_modules_mapping", {})
        self._hooked: set[str] = set()
        for name, module in modules.items():
            parent, _, last = name.rpartition(".")
            at = name.find("layers.")
            if at >= 0 and last.endswith("_proj"):
                parts = [f"{parent}.{part}"[at:] for part in packed.get(last, [last])]
                self._hooked.update(parts)
                module.register_forward_hook(self._on_linear(parts))

    def prunebench_adapt(self, token: int, scale: float, content: bytes) -> None:
        """The spare id ``token`` now stands for these learned tokens: vector, and A and B of every module.

        Raises ValueError for an adapter of modules that are not there.
        """
        device, tensors = next(self.model_runner.model.parameters()).device, load(content)
        placed = {name: tensor.to(device) for name, tensor in tensors.items()}
        modules = {name[:-2] for name in placed if name.endswith(".A")}
        if unknown := sorted(modules - self._hooked):
            raise ValueError(f"the adapter changes {unknown[0]}, which is no linear module of vLLM's model")
        lora = {module: (placed[f"{module}.A"], placed[f"{module}.B"]) for module in modules}
        self._adapters[token] = _Adapter(placed["vector"], lora, scale)

    def prunebench_states(self) -> bytes:
        """The states that requests asked for since the last call, as ``name`` (H,) or (layers + 1, H)."""
        kept, self._kept = self._kept, {}
        stacked = {name: torch.stack([layers[key] for key in sorted(layers)]) for name, layers in kept.items()}
        arrays = {name: np.ascontiguousarray(states.float().cpu().numpy()) for name, states in stacked.items()}
        return bytes(save(arrays))

    def prunebench_signals(self) -> bytes:
        """What the keyed noise recorded since the last call."""
        processors = self.model_runner.input_batch.logitsprocs.non_argmax_invariant
        (noise,) = [processor for processor in processors if isinstance(processor, KeyedNoise)]
        return bytes(save({name: np.ascontiguousarray(column) for name, column in noise.take().items()}))

    # Hooks

    def _on_embedding(self, _module: Any, arguments: Any, states: torch.Tensor) -> None:
        """Who wants what of this forward pass; learned vectors take the places of their ids."""
        ids = arguments[0]
        runner = self.model_runner
        batch = runner.input_batch
        ends = runner.query_start_loc.np
        self._wanted = []
        for row, name in enumerate(batch.req_ids):  # the order of the rows that are sampled from
            params = runner.requests[name].sampling_params
            if params is not None and params.extra_args and STATES in params.extra_args:
                asked, layers = params.extra_args[STATES]
                self._wanted.append((asked, row, int(ends[row + 1]) - 1, layers))
        self._learned = {}
        for token, adapter in self._adapters.items():
            rows = (ids == token).nonzero()[:, 0]
            if len(rows):
                self._learned[token] = rows
                states[rows] = adapter.vector.to(states.dtype)
        self._keep(0, states)

    def _on_layer(self, number: int) -> Any:
        def hook(_module: Any, _arguments: Any, out: Any) -> None:
            if any(layers for _, _, _, layers in self._wanted):
                # vLLM adds a layer's output to the residual stream only in the next norm
                states, residual = out if isinstance(out, tuple) else (out, None)
                self._keep(number, states, residual)

        return hook

    def _on_end(self, states: torch.Tensor) -> None:
        """``states`` (requests, H) behind the final norm; as in transformers, they take the last layer's place."""
        wanted, self._wanted = self._wanted, []
        for name, request, _, _ in wanted:
            layers = self._kept.setdefault(name, {})
            layers[max(layers, default="000")] = states[request].clone()

    def _keep(self, number: int, states: torch.Tensor, residual: torch.Tensor | None = None) -> None:
        for name, _, row, layers in self._wanted:
            if layers:
                state = states[row].clone() if residual is None else states[row] + residual[row]
                self._kept.setdefault(name, {})[f"{number:03d}"] = state

    def _on_linear(self, parts: list[str]) -> Any:
        def hook(_module: Any, arguments: Any, out: Any) -> None:
            for token, rows in self._learned.items():
                adapter = self._adapters[token]
                if parts[0] not in adapter.lora:
                    continue
                read = arguments[0][rows]
                deltas = []
                for part in parts:
                    down, up = adapter.lora[part]
                    deltas.append((read.to(down.dtype) @ down.T) @ up.T * adapter.scale)
                written = out[0] if isinstance(out, tuple) else out
                written[rows] += torch.cat(deltas, -1).to(written.dtype)

        return hook
