from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from prunebench.bench.engines.base import Request, Sampling
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.training.import_stop import import_stop
from prunebench.bench.training.loading import load_method
from prunebench.methods.base import Signal
from prunebench.methods.generator import share_weights
from prunebench.methods.learned.stop import Stop
from prunebench.methods.learned.stop_reader import StopReader
from prunebench.methods.pool import Pool
from tests.bench.engines.checkpoints import checkpoint as model_folder
from tests.methods.test_stop import pool_of

RANK, ALPHA, TOKENS = 8, 32, 3


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine.load("embedded")


@pytest.fixture
def original(engine):
    """A STOP with random weights, none of them zero."""
    stop = Stop(rank=RANK, tokens=TOKENS)
    generator = torch.Generator().manual_seed(0)
    learned = StopReader(engine.model, stop).learned()
    stop.weights_ = {n: torch.randn(t.shape, generator=generator) * 0.2 for n, t in learned.items()}
    return stop


@pytest.fixture
def checkpoint(original, tmp_path):
    """The same as the paper's code saves it: B times 2 r / alpha, for an adapter that is scaled by alpha / r."""
    folder = tmp_path / "best_checkpoint"
    (folder / "adapter" / "classifier").mkdir(parents=True)
    weights = original.weights_
    described = {"assess_token": "[ASSESS]", "special_token_id": 9, "num_assess_tokens": TOKENS,
                 "tokenizer_dir": "tokenizer", "embedding_path": "assess_token_embedding.pth"}  # fmt: skip
    (folder / "assess_token_config.json").write_text(json.dumps(described))
    embedding = {
        "assess_token": "[ASSESS]",
        "special_token_id": 9,
        "input_embedding": weights["vector"],
        "output_embedding": None,
    }
    torch.save(embedding, folder / "assess_token_embedding.pth")
    torch.save({"weight": weights["head.weight"], "bias": weights["head.bias"]}, folder / "classifier_head.pth")
    adapter = folder / "adapter" / "classifier"
    config = {"r": RANK, "lora_alpha": ALPHA, "bias": "none", "target_modules": ["q_proj"], "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    theirs = {
        name.removeprefix("network.").replace(".default.", "."): tensor * (2 * RANK / ALPHA if "lora_B" in name else 1)
        for name, tensor in weights.items() if ".lora_" in name
    }  # fmt: skip
    torch.save(theirs, adapter / "adapter_model.bin")
    return folder


def test_an_imported_checkpoint_gives_the_scores_of_the_original(engine, original, checkpoint, tmp_path):
    card = import_stop(checkpoint, engine, 10, tmp_path / "learned")
    imported = load_method("stop", tmp_path / "learned", engine.digest, 10)
    pool = pool_of(engine, 3)
    np.testing.assert_allclose(imported.pruner.score(pool), original.score(pool), rtol=0, atol=1e-12)
    assert np.ptp(original.score(pool)) > 1e-3
    assert imported.note == "imported: its training problems are not known, so a leak cannot be excluded"
    assert card.imported == "best_checkpoint" and math.isnan(card.validation_auroc)
    with pytest.raises(UserError, match="holds a card of stop already"):
        import_stop(checkpoint, engine, 10, tmp_path / "learned")


def test_projections_that_were_not_adapted_stay_the_models_own(engine, original, checkpoint, tmp_path):
    adapter = checkpoint / "adapter" / "classifier"
    given = torch.load(adapter / "adapter_model.bin", weights_only=True)
    (adapter / "adapter_model.bin").unlink()
    save_file(
        {n: t.contiguous() for n, t in given.items() if "q_proj" in n}, str(adapter / "adapter_model.safetensors")
    )
    import_stop(checkpoint, engine, 10, tmp_path / "learned")
    only = Stop(rank=RANK, tokens=TOKENS)
    only.weights_ = {n: t * 0 if "lora_B" in n and "q_proj" not in n else t for n, t in original.weights_.items()}
    pool = pool_of(engine, 4)
    imported = load_method("stop", tmp_path / "learned", engine.digest, 10).pruner
    np.testing.assert_allclose(imported.score(pool), only.score(pool), rtol=0, atol=1e-12)


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self):
        return print, ("the file ran code",)


def broken(checkpoint, how):
    adapter = checkpoint / "adapter" / "classifier"
    config = json.loads((adapter / "adapter_config.json").read_text())
    if how == "evil":
        (checkpoint / "classifier_head.pth").write_bytes(pickle.dumps(Evil()))
    elif how == "evil archive":
        torch.save({"weight": Evil()}, checkpoint / "classifier_head.pth")
    elif how == "cut":
        content = (checkpoint / "classifier_head.pth").read_bytes()
        (checkpoint / "classifier_head.pth").write_bytes(content[: len(content) // 2])
    elif how == "head":
        torch.save({"weight": torch.zeros(2, 9), "bias": torch.zeros(2)}, checkpoint / "classifier_head.pth")
    elif how == "no head":
        (checkpoint / "classifier_head.pth").unlink()
    elif how == "tokens":
        (checkpoint / "assess_token_config.json").write_text('{"num_assess_tokens": "four"}')
    elif how == "dora":
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    elif how == "stranger":
        torch.save({"base_model.model.other.lora_A.weight": torch.zeros(1)}, adapter / "adapter_model.bin")
    elif how == "no adapter":
        (adapter / "adapter_config.json").unlink()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("evil", r"classifier_head\.pth: holds more than tensors, and reading it could run code; refused"),
        ("evil archive", r"holds more than tensors"),
        ("cut", r"classifier_head\.pth: damaged"),
        ("head", r"weight is of shape \(2, 9\), this model needs \(2, 128\); is it of another model\?"),
        ("no head", r"classifier_head\.pth: no such file"),
        ("tokens", r"num_assess_tokens = 'four', where a number from 1 is wanted"),
        ("dora", r"a plain LoRA is wanted"),
        ("stranger", r"'base_model\.model\.other\.lora_A\.weight' is no part of this model's adapter"),
        ("no adapter", r"no adapter_config\.json in it"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(engine, checkpoint, tmp_path, capsys, how, told):
    broken(checkpoint, how)
    with pytest.raises(UserError, match=told):
        import_stop(checkpoint, engine, 10, tmp_path / "learned")
    assert not (tmp_path / "learned").exists() and "ran code" not in capsys.readouterr().out


ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {"llama": ALL, "qwen3": ALL, "gemma2": ALL, "gpt-oss": ["q_proj", "v_proj"]}


def prefixes(engine) -> Pool:
    """Sampled prefixes of several lengths, longer than the sliding window."""
    request = Request("p", engine.encode_prompt("What is 17 + 25?"), tuple(range(6)))
    (rollout,) = engine.sample([request], Sampling(max_new_tokens=20), 0)
    ids = tuple(path.token_ids[: 20 - 3 * row] for row, path in enumerate(rollout.paths))
    return Pool(
        problem="p",
        task="test",
        position=20,
        prompt="",
        prompt_ids=request.prompt_ids,
        paths=np.arange(6),
        lengths=np.array([len(one) for one in ids]),
        finished=np.zeros(6, bool),
        answer_class=np.full(6, -1),
        signals={Signal.TOKEN_IDS: ids},
        generator=engine,
    )


class Published:
    """A scorer as the paper describes it, on PEFT alone: prefix by the bare model, then [STOP] with the adapter."""

    def __init__(self, engine, targets, rank=4, alpha=12, tokens=3, rslora=False) -> None:
        lora = peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM", use_rslora=rslora
        )
        twin = share_weights(engine.model)
        twin.set_attn_implementation("eager")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network = peft.get_peft_model(twin, lora, adapter_name="classifier").eval()
            with torch.no_grad():
                for name, parameter in self.network.named_parameters():
                    if "lora_" in name:
                        parameter.normal_(0, 0.3)
            width = engine.model.config.hidden_size
            self.vector, self.head = torch.randn(width) * 0.3, torch.nn.Linear(width, 2)
        self.tokens = tokens

    @torch.no_grad()
    def scores(self, pool: Pool) -> np.ndarray:
        return np.array([self._score(np.concatenate([pool.prompt_ids, ids])) for ids in pool.token_ids])

    def _score(self, text) -> float:
        from transformers import DynamicCache

        with self.network.disable_adapter():
            cache = self.network(torch.from_numpy(text)[None], past_key_values=DynamicCache()).past_key_values
        out = self.network(
            inputs_embeds=self.vector.expand(1, self.tokens, -1),
            position_ids=torch.arange(len(text), len(text) + self.tokens)[None],
            past_key_values=cache,
            output_hidden_states=True,
        )
        return float(self.head(out.hidden_states[-1][0, -1]).softmax(-1)[1])

    def write(self, folder: Path, pickled: bool = True) -> Path:
        """``pickled``: the adapter as a .bin, which is what the authors' script saves."""
        self.network.save_pretrained(folder / "adapter", selected_adapters=["classifier"], save_embedding_layers=False)
        adapter = folder / "adapter" / "classifier"
        if pickled:
            torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
            (adapter / "adapter_model.safetensors").unlink()
        torch.save(dict(self.head.state_dict()), folder / "classifier_head.pth")
        torch.save(
            {"assess_token": "[A]", "special_token_id": 399, "input_embedding": self.vector, "output_embedding": None},
            folder / "assess_token_embedding.pth",
        )
        settings = {
            "assess_token": "[A]", "special_token_id": 399, "num_assess_tokens": self.tokens,
            "tokenizer_dir": "tokenizer", "embedding_path": "assess_token_embedding.pth",
        }  # fmt: skip
        (folder / "assess_token_config.json").write_text(json.dumps(settings))
        return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True])
def test_an_imported_checkpoint_scores_as_published(tmp_path, kind, rslora):
    """Sliding windows, soft caps and sinks; unequal prefixes; a scale that is not ours."""
    engine = TransformersEngine.load(str(model_folder(tmp_path / "model", kind)))
    scorer = Published(engine, KINDS[kind], rslora=rslora)
    pool = prefixes(engine)
    import_stop(scorer.write(tmp_path / "checkpoint"), engine, 20, tmp_path / "out")
    imported = load_method("stop", tmp_path / "out", engine.digest, 20).pruner
    expected = scorer.scores(pool)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(imported.score(pool), expected, atol=2e-5)
