"""Models that are not ours: templates, reasoning marks, stop tokens, other architectures, and what cannot be loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from prunebench.bench.engines.base import NOTHING, Request, Sampling
from prunebench.bench.engines.chat import closing, has_reasoning_marks, longest_closing
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.caches import CacheForward
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.generator import PoolGenerator
from prunebench.tasks import catalogue
from tests.bench.engines.checkpoints import CHANNELS, CHATML, HARMONY, NO_SYSTEM, THINKING, checkpoint, tokenizer

KINDS = ("qwen2", "qwen3", "llama", "mistral", "granite", "gemma", "gemma2", "gpt-oss")
WINDOWS = {"mistral", "gemma2", "gpt-oss"}
PROMPT = "Find x with 2x = 6."


def load(folder, **options):
    return TransformersEngine.load(str(folder), options=ModelOptions(**options))


def greedy(engine, prompt_ids, tokens, prefix=None):
    """(tokens,) ids of one path, from the prompt or from a prefix."""
    sampling = Sampling(temperature=0.0, max_new_tokens=tokens)
    prefixes = None if prefix is None else np.array([prefix])
    (rollout,) = engine.sample([Request("p", prompt_ids, (0,), prefixes)], sampling, 0, NOTHING)
    return rollout.paths[0].token_ids


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_samples_and_resumes_exactly_where_it_was_cut(tmp_path, kind):
    engine = load(checkpoint(tmp_path, kind, ends=[299, 298]))
    prompt = engine.encode_prompt(PROMPT)
    whole = greedy(engine, prompt, 40)
    for cut in (1, 7, 23):
        resumed = greedy(engine, prompt, 40, whole[:cut])
        np.testing.assert_array_equal(np.concatenate([whole[:cut], resumed]), whole)
    requests = [Request("p", prompt, (0, 1, 2, 3))]
    (rollout,) = engine.sample(requests, Sampling(temperature=1.0, max_new_tokens=30), 0, NOTHING)
    assert len({path.token_ids.tobytes() for path in rollout.paths}) == 4
    assert isinstance(engine.decoder.forward, CacheForward) == (kind in WINDOWS), "windows run on the model's own cache"


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_decoding_is_that_of_the_library(tmp_path, kind):
    """Logits that are scaled, divided or capped, attention sinks, windows of 8 and 30 tokens."""
    engine = load(checkpoint(tmp_path, kind, ends=[299]))
    prompt = torch.from_numpy(engine.encode_prompt(PROMPT))[None]
    theirs = engine.model.generate(prompt, max_new_tokens=40, do_sample=False, attention_mask=torch.ones_like(prompt))
    np.testing.assert_array_equal(greedy(engine, prompt[0].numpy(), 40), theirs[0, prompt.shape[1] :].numpy())


def test_prompts_go_through_the_template(tmp_path):
    engine = load(checkpoint(tmp_path / "a", template=CHATML))
    prompt = "<|im_start|>user\nFind x with 2x = 6.<|im_end|>\n<|im_start|>assistant\n"
    assert engine.tokenizer.decode(engine.encode_prompt(PROMPT)) == prompt
    with_system = load(tmp_path / "a", system="Be brief.")
    assert with_system.tokenizer.decode(with_system.encode_prompt(PROMPT)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n" + prompt
    )
    plain = load(tmp_path / "a", chat_template="none")
    assert plain.tokenizer.decode(plain.encode_prompt(PROMPT)) == "<s>" + PROMPT
    (tmp_path / "own.jinja").write_text("Q: {{ messages[0].content }} A:")
    with_file = load(tmp_path / "a", chat_template=str(tmp_path / "own.jinja"))
    assert with_file.tokenizer.decode(with_file.encode_prompt(PROMPT)) == f"Q: {PROMPT} A:"
    digests = {which.digest for which in (engine, with_system, plain, with_file)}
    assert len(digests) == 4, "what changes a sample changes the hash"
    assert load(tmp_path / "a", trust_remote_code=True).digest == engine.digest


def test_the_reasoning_effort_reaches_a_harmony_template(tmp_path):
    engine = load(checkpoint(tmp_path, "gpt-oss", CHANNELS, HARMONY), reasoning_effort="high")
    text = engine.tokenizer.decode(engine.encode_prompt(PROMPT))
    assert text.startswith("<|start|>system<|message|>Reasoning: high<|end|>") and text.endswith("<|start|>assistant")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("", "<|channel|>final<|message|>"),
        ("<|channel|>ana", "<|message|><|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>2x = 6, so", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>done<|end|>", "<|start|>assistant<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>done<|end|><|start|>assistant", "<|channel|>final<|message|>"),
        ("<|channel|>analysis<|message|>done<|end|><|start|>assistant<|channel|>final<|message|>It is", ""),
        ("<|channel|>analysis<|message|>done<|end|><|start|>assistant<|channel|>final", "<|message|>"),
    ],
)
def test_harmony_is_closed_from_wherever_it_was_cut(path, wanted):
    words = tokenizer(HARMONY, CHANNELS)
    prompt = "<|start|>user<|message|>Find x.<|end|><|start|>assistant"
    assert closing(words, prompt + path) == wanted


@pytest.mark.parametrize(
    ("prompt", "path", "wanted"),
    [
        ("", "<think>\nLet", "\n</think>\n\n"),
        ("Q<think>\n", "so x", "\n</think>\n\n"),  # by the template
        ("Q", "<think>a</think>b", ""),
        ("", "", ""),
        ("", "<think>a</think><think>b", "\n</think>\n\n"),
        ("Q<think>\n\n</think>\n\n", "It is", ""),  # thinking switched off
        ("Think within <think> tags.", "so x", ""),  # spoken of
        ("Think within <think> tags.", "<think>so x", "\n</think>\n\n"),
        ("", "[THINK]so x", "\n[/THINK]\n\n"),
        ("", "[THINK]so x[/THINK]It", ""),
        ("", "<seed:think>so x", "\n</seed:think>\n\n"),
        ("", "◁think▷so x", "\n◁/think▷\n\n"),
        ("", "<|begin_of_thought|>\n\nso x", "\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n"),
        ("<|START_THINKING|>", "so x", "\n<|END_THINKING|>\n\n<|START_RESPONSE|>\n\n"),
        ("", "<reasoning>so x", "\n</reasoning>\n\n"),
        ("", "<Thought>so x", "\n</Thought>\n\n"),
        ("", "<|thought_start|>so x", "\n<|thought_end|>\n\n"),
        ("", "<think>the mark </thought> is none of mine", "\n</think>\n\n"),
    ],
)
@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_thinking_is_closed_when_it_is_open(prompt, path, wanted, special):
    """In whatever words, as tokens or as plain text."""
    assert closing(tokenizer(special, THINKING), path, prompt) == wanted
    assert wanted == "" or longest_closing(tokenizer(special), [prompt, path]) != ""


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_a_template_that_opens_the_thinking_is_closed_before_an_answer_is_forced(tmp_path, special):
    engine = load(checkpoint(tmp_path, "qwen2", THINKING, special))
    prompt = engine.encode_prompt(PROMPT)
    assert engine.tokenizer.decode(prompt).endswith("<think>\n") and engine.reasons
    inside = np.array(engine.tokenizer("so x", add_special_tokens=False)["input_ids"])
    behind = np.array(engine.tokenizer("so x</think>It", add_special_tokens=False)["input_ids"])
    assert (
        engine.tokenizer.decode(engine.closing_ids(np.concatenate([prompt, inside]), len(prompt))) == "\n</think>\n\n"
    )
    assert engine.closing_ids(np.concatenate([prompt, behind]), len(prompt)) == ()
    assert not TransformersEngine.load("embedded").reasons


def test_a_model_that_thinks_between_unknown_marks_is_not_forced(tmp_path):
    words = tokenizer(["<think_fast>", "</think_fast>"])
    assert has_reasoning_marks(words)
    with pytest.raises(ValueError, match=r"thinks between marks that are not known \(</think_fast>, <think_fast>\)"):
        closing(words, "so x")
    assert closing(tokenizer(["<think>", "</think>", "<nothink>"]), "so x") == ""
    assert closing(tokenizer(), "no marks") == ""


def test_each_path_is_asked_behind_its_own_closing(tmp_path):
    engine = load(checkpoint(tmp_path, "qwen2", CHATML))

    def ids(text):
        return np.array(engine.tokenizer(text, add_special_tokens=False)["input_ids"])

    pool = pool_of_ids((ids("[THINK]so x"), ids("It is"), ids("<think>so x</think>"), ids("<think>y")), ids("Q"))
    asking = PoolGenerator(engine, catalogue.get("synthetic/power"), [])._asking(pool, (7, 8))
    assert {tuple(rows): engine.tokenizer.decode(suffix[:-2]) for rows, suffix in asking} == {
        (0,): "\n[/THINK]\n\n", (1, 2): "", (3,): "\n</think>\n\n",
    }  # fmt: skip
    assert all(suffix[-2:] == (7, 8) for _, suffix in asking)


def test_only_what_may_have_to_be_closed_is_charged():
    assert longest_closing(tokenizer(["<think>", "</think>"])) == "\n</think>\n\n"
    assert longest_closing(tokenizer(HARMONY)).endswith("<|channel|>final<|message|>")
    assert longest_closing(tokenizer()) == longest_closing(tokenizer(), ["no marks"]) == ""
    assert longest_closing(tokenizer(), ["a", "<reasoning>so", "<think>b"]) == "\n</reasoning>\n\n"


SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
SWITCHED = CHATML.replace("assistant\n", "assistant\n" + SWITCH)


def test_thinking_is_switched_where_the_template_has_a_switch(tmp_path):
    checkpoint(tmp_path / "a", template=SWITCHED)
    ends = [
        engine.tokenizer.decode(engine.encode_prompt(PROMPT)).partition("assistant\n")[2]
        for engine in (
            load(tmp_path / "a"),
            load(tmp_path / "a", enable_thinking=True),
            load(tmp_path / "a", enable_thinking=False),
        )
    ]
    assert ends == ["", "", "<think>\n\n</think>\n\n"]
    assert len({load(tmp_path / "a", enable_thinking=value).digest for value in (None, True, False)}) == 3
    other = CHATML.replace("{% for", "{% if thinking %}Think.{% endif %}{% for", 1)
    engine = load(checkpoint(tmp_path / "b", template=other), enable_thinking=True)
    assert engine.tokenizer.decode(engine.encode_prompt(PROMPT)).startswith("Think.")


@pytest.mark.parametrize("option", [{"enable_thinking": False}, {"reasoning_effort": "low"}])
def test_an_option_that_the_template_makes_no_use_of_is_refused(tmp_path, option):
    (name,) = option
    spoken = CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.thinking }} thinking, reasoning_effort")
    engine = load(checkpoint(tmp_path, template=spoken), **option)
    with pytest.raises(UserError, match=rf"{name} = .*: the chat template makes no use of it"):
        engine.encode_prompt(PROMPT)
    engine = load(tmp_path, chat_template="none", **option)
    with pytest.raises(UserError, match=rf"{name} = \.\.\.: needs a chat template; this model has none"):
        engine.encode_prompt(PROMPT)


def test_stop_tokens_are_those_of_the_model_and_those_that_are_named(tmp_path):
    words = tokenizer(HARMONY, CHANNELS)
    ends = words.convert_tokens_to_ids(["<|return|>", "<|call|>"])
    folder = checkpoint(tmp_path, "gpt-oss", CHANNELS, HARMONY, ends=ends)
    assert load(folder).decoder.ends.tolist() == ends
    more = load(folder, stop=("<|end|>", 7))
    assert more.decoder.ends.tolist() == [*ends, words.convert_tokens_to_ids("<|end|>"), 7]
    with pytest.raises(UserError, match=r"stop 'Final answer': \d+ tokens of this model; only single tokens"):
        load(folder, stop=("Final answer",))


def test_a_path_ends_at_a_stop_token(tmp_path):
    folder = checkpoint(tmp_path, ends=[299])
    engine = load(folder)
    prompt = engine.encode_prompt(PROMPT)
    whole = greedy(engine, prompt, 40)
    first = int(np.flatnonzero(whole == whole[12])[0])
    np.testing.assert_array_equal(greedy(load(folder, stop=(int(whole[12]),)), prompt, 40), whole[: first + 1])


def test_a_cut_inside_a_character_is_exact_and_readable(tmp_path):
    engine = load(checkpoint(tmp_path, ends=[299]))
    prompt = engine.encode_prompt(PROMPT)
    ids = np.array(engine.tokenizer("ab😀c", add_special_tokens=False)["input_ids"])
    places = [cut for cut in range(1, len(ids)) if "\ufffd" in engine.tokenizer.decode(ids[:cut].tolist())]
    assert len(places) == 3, "the emoji is four tokens of one byte"
    for cut in places:
        assert engine.decode(ids[:cut]) == "ab", "half a character is left out"
    assert engine.decode(ids) == "ab😀c"
    whole = greedy(engine, np.concatenate([prompt, ids]), 10)
    np.testing.assert_array_equal(greedy(engine, prompt, len(ids) + 10, ids), whole)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"chat_template": "nowhere.jinja"}, r"chat_template nowhere\.jinja: cannot be read"),
        ({"system": "x", "chat_template": "none"}, r"system = \.\.\.: needs a chat template"),
        ({"system": "Be brief."}, r"the chat template refuses the prompt \(no system message\)"),
    ],
)
def test_templates_that_do_not_serve_are_told(tmp_path, options, sentence):
    engine = load(checkpoint(tmp_path, template=NO_SYSTEM), **options)
    with pytest.raises(UserError, match=sentence):
        engine.encode_prompt(PROMPT)


def broken(folder, how):
    checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    if how == "weights":
        (folder / "model.safetensors").unlink()
    elif how == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
        for file in folder.glob("special*"):
            file.unlink()
    elif how == "layers":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    elif how == "width":
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    elif how == "encoder":
        (folder / "config.json").write_text(json.dumps({"model_type": "t5", "architectures": ["T5Model"]}))
    elif how == "unknown":
        (folder / "config.json").write_text(json.dumps({"model_type": "nothing-like-it"}))
    elif how == "own code":
        config = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "own.py").write_text("print('code ran')\nraise SystemExit\n")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("weights", r"could not be loaded: .*no file named"),
        ("no tokenizer", r"no tokenizer; save it there with"),
        ("layers", r"\d+ weights are missing from the checkpoint, such as model\.layers\.2"),
        ("width", r"could not be loaded"),
        ("encoder", r"could not be loaded: Unrecognized configuration class"),
        ("unknown", r"could not be loaded: .*nothing-like-it"),
        ("own code", r"it brings its own code: allow it with trust_remote_code, if you trust it"),
    ],
)
def test_what_cannot_be_loaded_whole_is_told_in_a_sentence(tmp_path, capsys, how, sentence):
    broken(tmp_path, how)
    with pytest.raises(UserError, match=sentence):
        load(tmp_path)
    assert "code ran" not in capsys.readouterr().out


def test_an_id_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"model 'nobody/nothing' could not be loaded: .*; give a local folder or a reach"
    ):
        load("nobody/nothing")


def test_logits_that_are_made_in_an_unknown_way_are_refused(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path, "granite")
    monkeypatch.setattr("prunebench.bench.engines.transformers.decoding._finished", lambda logits, config: logits)
    with pytest.raises(UserError, match=r"\(granite\) makes its logits in a way that is not known here"):
        load(folder)
