"""Small checkpoints of several kinds: random weights, byte-level tokenizers, templates like those in the wild."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = "Find x with 2x = 6. So x = 3 and \\boxed{3}."
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
CHANNELS = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}<|end|>"
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + CHATML


def tokenizer(extra=(), template=None):
    """Byte-level BPE: every text can be written, and a token may be a part of a character."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=[*SPECIAL, *extra])
    core.train_from_iterator([TEXT], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def shape(kind, size):
    """A configuration of two layers and 32 dimensions."""
    common = {
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
    }  # fmt: skip
    window = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return {
        "llama": lambda: transformers.LlamaConfig(**common),
        "qwen2": lambda: transformers.Qwen2Config(**common),
        "qwen3": lambda: transformers.Qwen3Config(**common, head_dim=8),
        "gemma": lambda: transformers.GemmaConfig(**common, head_dim=8),
        "gemma2": lambda: transformers.Gemma2Config(**common, **window, query_pre_attn_scalar=8),
        "gpt-oss": lambda: transformers.GptOssConfig(**common, **window, **experts),
        "mistral": lambda: transformers.MistralConfig(**common, sliding_window=30),
        "granite": lambda: transformers.GraniteConfig(**common, logits_scaling=3.0, attention_multiplier=0.3),
    }[kind]()


def network(kind, size):
    """Random weights; the distributions are peaked, and sinks and biases matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(shape(kind, size))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(0, 0.15)
    return model


def checkpoint(folder: Path, kind: str = "qwen2", template: str | None = None, extra=(), ends=1) -> Path:
    words = tokenizer(extra, template)
    model = network(kind, len(words))
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
