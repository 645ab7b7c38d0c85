"""The process reward model in its four forms, against one text at a time with the heads applied by hand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from prunebench.bench.reasoner import judge_texts
from prunebench.bench.reasoner import train_judges as judges
from prunebench.bench.reasoner.vocabulary import RESERVED, VOCABULARY
from prunebench.methods.base import JudgeMissingError, Quadrant, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import EXAMPLE_SETTING, example_pool
from prunebench.methods.judges.checkpoint import Checkpoint
from prunebench.methods.judges.prm import AGGREGATES, Prm
from prunebench.methods.judges.steps import FORMS, split_steps

WORDS = ["<pad>", "<bos>", "<unk>", "\n", "+", "-", *"abcdefghijklmnopqrstuvwxyz", *(f"t{i}" for i in range(4, 64))]
SPECIAL = ["<extra_0>", "<system>", "<user>", "<assistant>", "<end>"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 96,
    "initializer_range": 0.4,
}
PROMPT = "a b c"
TEXTS = ("d e \n\n f g", "d e \n\n f g \n\n h", "x", "d e \n\n f g", "f + a \n\n - b + \n\n")


def save_words(folder: Path, words: dict[str, int], special=(), template=None) -> None:
    """A tokenizer of whole words; a line break is a word of its own."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Sequence([Split(Regex(" "), "removed"), Split(Regex("\n"), "isolated")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=list(special),
    )
    fast.chat_template = template
    fast.save_pretrained(str(folder))


def save_model(folder: Path, model, head=None, architecture=None, files: int = 1) -> None:
    """Tensors under the names of a causal model, those of a head beside them, spread over ``files``."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if not any(name.startswith("model.") for name in tensors):
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
    tensors |= head or {}
    parts = [dict(itertools.islice(sorted(tensors.items()), part, None, files)) for part in range(files)]
    names = (
        ["model.safetensors"] if files == 1 else [f"model-{i + 1:05}-of-{files:05}.safetensors" for i in range(files)]
    )
    for name, part in zip(names, parts, strict=True):
        save_file(part, str(folder / name), metadata={"format": "pt"})
    if files > 1:
        index = {name: file for file, part in zip(names, parts, strict=True) for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config = model.config.to_dict() | {"architectures": [architecture or type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(config))


def save_qwen_tokenizer(folder: Path, template=None) -> dict[str, int]:
    """For ``qwen2`` a tokenizer of bytes is used, whatever lies in the folder; here it has no merges."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    words = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=words, merges=[], extra_special_tokens=SPECIAL)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(folder))
    return {**words, **tokenizer.get_added_vocab()}


def save_separator(folder: Path, template=None):
    from transformers import Qwen2Config, Qwen2Model

    words = save_qwen_tokenizer(folder, template)
    torch.manual_seed(1)
    body = Qwen2Model(Qwen2Config(vocab_size=len(words) + 8, **{**SHAPE, "max_position_embeddings": 256})).eval()
    head = {
        "score.0.weight": torch.randn(16, 16) / 4,
        "score.0.bias": torch.randn(16),
        "score.2.weight": torch.randn(2, 16) / 4,
        "score.2.bias": torch.randn(2),
    }
    save_model(folder, body, head, "Qwen2ForProcessRewardModel", files=2)
    return body, head, words


def save_value(folder: Path):
    from transformers import LlamaConfig, LlamaForCausalLM

    words = {word: i for i, word in enumerate(WORDS)}
    save_words(folder, words, template=TEMPLATE)
    torch.manual_seed(2)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **SHAPE)).eval()
    head = {"v_head.summary.weight": torch.randn(1, 16), "v_head.summary.bias": torch.randn(1)}
    save_model(folder, model, head)
    return model, head, words


def save_plus_minus(folder: Path, template=None, tied=False):
    from transformers import LlamaConfig, LlamaForCausalLM

    words = {word: i for i, word in enumerate([*WORDS, *SPECIAL])}
    save_words(folder, words, SPECIAL, template)
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=len(words), tie_word_embeddings=tied, **SHAPE)
    model = LlamaForCausalLM(config).eval()
    if tied:
        model.save_pretrained(str(folder))
    else:
        save_model(folder, model)
    return model, words


def save_step_tag(folder: Path, tag: int = 12902):
    from transformers import MistralConfig, MistralForCausalLM

    words = {f"unused{i}": i for i in range(12903)}
    places = {word: 1000 + i for i, word in enumerate(WORDS)} | {"+": 648, "-": 387, "ки": tag}
    taken = set(places.values())
    words = {word: i for word, i in words.items() if i not in taken} | places
    save_words(folder, words)
    torch.manual_seed(4)
    model = MistralForCausalLM(MistralConfig(vocab_size=12903, bos_token_id=places["<bos>"], **SHAPE)).eval()
    save_model(folder, model)
    return model, words


def pool_of(texts=TEXTS, prompt=PROMPT, **columns):
    pool = example_pool(len(texts))
    return replace(pool, prompt=prompt, signals={Signal.TEXT: tuple(texts)}, **columns)


def states_of(body, ids):
    with torch.no_grad():
        return body(torch.tensor([ids])).last_hidden_state[0].double()


def relu_head(head, states):
    weights = {name: tensor.double() for name, tensor in head.items()}
    hidden = (states @ weights["score.0.weight"].T + weights["score.0.bias"]).clamp(min=0)
    return (hidden @ weights["score.2.weight"].T + weights["score.2.bias"]).softmax(-1)[:, 1].tolist()


def steps_by_hand(text):
    return [step.strip() for step in text.split("\n\n") if step.strip()]


def near(grades, expected):
    assert len(grades) == len(expected)
    for steps, wanted in zip(grades, expected, strict=True):
        assert steps.dtype == np.float64
        np.testing.assert_allclose(steps, wanted, atol=2e-5)
    assert len({round(float(p), 4) for steps in expected for p in steps}) > 4, "the model tells steps apart"


# --- the four forms ---


def byte_ids(words, text):
    """Bytes and special tokens, one by one."""
    ids = []
    while text:
        special = next((token for token in SPECIAL if text.startswith(token)), None)
        token = special or {" ": "\u0120", "\n": "\u010a"}.get(text[0], text[0])
        ids.append(words[token])
        text = text[len(special or "x") :]
    return ids


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_separator_is_graded_by_a_head_of_two_classes(template, tmp_path):
    body, head, words = save_separator(tmp_path, template)
    expected = []
    for text in TEXTS:
        if template is None:
            pieces = [piece for piece in text.replace("\n\n", "\n\n|").split("|") if piece]
            whole = PROMPT + "".join(f"{piece}<extra_0>" for piece in pieces)
        else:
            system = "Please reason step by step, and put your final answer within \\boxed{}."
            answer = "".join(f"{step}<extra_0>" for step in steps_by_hand(text))
            whole = f"<system>{system}<end><user>{PROMPT}<end><assistant>{answer}<end>"
        ids = byte_ids(words, whole)
        places = [place for place, token in enumerate(ids) if token == words["<extra_0>"]]
        expected.append(relu_head(head, states_of(body, ids)[places]))
    near(Prm().bind(str(tmp_path)).step_scores(pool_of()), expected)


def test_a_value_is_read_at_the_line_break_behind_every_step(tmp_path):
    model, head, words = save_value(tmp_path)
    expected = []
    for text in TEXTS:
        ids = [words["<bos>"], *(words[word] for word in PROMPT.split()), words["\n"]]
        places = []
        for step in steps_by_hand(text):
            ids += [*(words[word] for word in step.split()), words["\n"]]
            places.append(len(ids) - 1)
        states = states_of(model.model, ids)[places]
        value = states @ head["v_head.summary.weight"].double()[0] + head["v_head.summary.bias"].double()
        expected.append((1 / (1 + np.exp(-value.numpy()))).tolist())
    near(Prm().bind(str(tmp_path)).step_scores(pool_of()), expected)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_plus_and_minus_are_weighed_as_the_next_token(template, tied, tmp_path):
    """Every step by itself, in a conversation of its own that ends behind it: all earlier answers are plus."""
    model, words = save_plus_minus(tmp_path, template, tied)
    expected = []
    for text in TEXTS:
        steps = steps_by_hand(text)
        probabilities = []
        for count in range(1, len(steps) + 1):
            ids = [] if template else [words["<bos>"]]
            for number, step in enumerate(steps[:count]):
                if template is None and number == 0:
                    ids += [words[word] for word in PROMPT.split()]
                said = f"{PROMPT} {step}" if number == 0 and template else step
                content = [words[word] for word in said.split()]
                breaks = [] if template or not followed_by_end(text, number) else [words["\n"]] * 2
                turn = (
                    [words["<user>"], *content, words["<end>"], words["<assistant>"]] if template else content + breaks
                )
                ids += turn if number == count - 1 else [*turn, words["+"], *([words["<end>"]] if template else [])]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1].double()
            probabilities.append(float(logits[[words["-"], words["+"]]].softmax(-1)[1]))
        expected.append(probabilities)
    near(Prm().bind(str(tmp_path)).step_scores(pool_of()), expected)


def followed_by_end(text, number):
    return number < text.count("\n\n")


def test_a_step_tag_is_read_from_the_logits_of_plus_and_minus(tmp_path):
    model, words = save_step_tag(tmp_path)
    assert (words["ки"], words["+"], words["-"]) == (12902, 648, 387)
    expected = []
    for text in TEXTS:
        ids = [words["<bos>"], *(words[word] for word in PROMPT.split())]
        for number, step in enumerate(steps_by_hand(text)):
            ids += [*([words["\n"]] if number else []), *(words[word] for word in step.split()), 12902]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        tags = [place for place, token in enumerate(ids) if token == 12902]
        expected.append(logits[tags][:, [648, 387]].softmax(-1)[:, 0].tolist())
    near(Prm().bind(str(tmp_path)).step_scores(pool_of()), expected)


@pytest.mark.parametrize(
    ("save", "form"),
    [
        (save_separator, "separator"),
        (save_value, "value"),
        (save_plus_minus, "plus-minus"),
        (save_step_tag, "step-tag"),
    ],
)
def test_every_form_is_told_by_its_checkpoint_and_conforms(save, form, tmp_path):
    save(tmp_path)
    assert Checkpoint(str(tmp_path)).form == form
    named, automatic = Prm(form=form).bind(str(tmp_path)), Prm().bind(str(tmp_path))
    assert np.array_equal(named.score(pool_of()), automatic.score(pool_of()))
    assert check_pruner(automatic) is None


def test_no_form_is_called_verified():
    assert not any(form.verified for form in FORMS.values())
    assert "not verified" in Prm.__doc__


# --- the shipped judge ---


def test_the_shipped_judge_reads_what_it_was_trained_on(checkpoint, tmp_path):
    model = judges.new_prm(checkpoint, 0).eval()
    judges.export_prm(model, tmp_path)
    judge = Prm().bind(str(tmp_path))
    tokenizer, _ = judge._judge()
    number = {token: i for i, token in enumerate(VOCABULARY)}
    mark = number[RESERVED[0]]
    for prefix in itertools.islice(judge_texts.cut_solutions("test"), 40):
        document = judge_texts.prm_text(prefix)
        ids = [mark if token in RESERVED[:2] else number[token] for token in document.tokens]
        prompt = " ".join((*prefix.instance.prompt, "\n\n"))
        reading = tokenizer.read(prompt, " ".join(prefix.tokens))
        assert list(reading.ids) == ids
        assert [place for place, token in enumerate(ids) if token == mark] == list(reading.places)
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0, list(reading.places)].double()
    grades = judge.step_scores(pool_of((" ".join(prefix.tokens),), prompt))[0]
    np.testing.assert_allclose(grades, logits.softmax(-1)[:, 1].numpy(), atol=1e-5)


# --- steps and aggregates ---


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\n\nb\n\n", ["a\n\n", "b\n\n"]),
        ("a\n\n\n\nb", ["a\n\n\n\n", "b"]),
        ("\n\na\n\n ", ["\n\na\n\n "]),
        ("a\nb\n\n\nc", ["a\nb\n\n", "\nc"]),
        ("\n\n", ["\n\n"]),
    ],
)
def test_a_text_is_cut_into_steps_that_say_something(text, steps):
    assert split_steps(text, "\n\n") == steps
    assert "".join(steps) == text


def test_another_step_end_cuts_elsewhere():
    assert split_steps("a. b. c", ".") == ["a.", " b.", " c"]


def test_the_aggregates_are_those_counted_by_hand():
    steps = np.array([0.5, 0.2, 0.8])
    scores = {name: rule(steps) for name, rule in AGGREGATES.items()}
    assert scores == {"last": 0.8, "min": 0.2, "prod": pytest.approx(0.08), "mean": pytest.approx(0.5)}


def test_the_score_is_the_aggregate_of_the_steps_of_its_path(tmp_path):
    save_value(tmp_path)
    pool = pool_of()
    steps = Prm().bind(str(tmp_path)).step_scores(pool)
    assert [len(grades) for grades in steps] == [2, 3, 1, 2, 2]
    rules = {"last": lambda s: s[-1], "min": min, "prod": np.prod, "mean": lambda s: sum(s) / len(s)}
    for configuration in Prm.configurations(EXAMPLE_SETTING):
        scores = configuration.bind(str(tmp_path)).score(pool)
        assert np.allclose(scores, [rules[configuration.aggregate](grades) for grades in steps], rtol=1e-12)
    assert [configuration.aggregate for configuration in Prm.configurations(EXAMPLE_SETTING)] == [
        "last",
        "min",
        "prod",
        "mean",
    ]


# --- batches and cost ---


def test_equal_prefixes_are_read_once_and_order_does_not_matter(tmp_path):
    save_plus_minus(tmp_path)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS[6:32], random.integers(1, 12))) for _ in range(20)]
    pool = pool_of([*texts, *texts[:5]])
    judge = Prm().bind(str(tmp_path))
    _, grader = judge._judge()
    rows, real = [], grader.logits

    def counted(readings):
        rows.append(len(readings))
        return real(readings)

    grader.logits = counted
    scores = judge.score(pool)
    assert sum(rows) == len(set(texts)) == 20 and max(rows) == 8
    assert np.array_equal(scores[:5], scores[20:])
    order = random.permutation(25)
    assert np.array_equal(judge.score(pool.take(order)), scores[order]), "to the last bit"
    alone = [judge.score(pool.take([row]))[0] for row in range(25)]
    assert np.allclose(alone, scores, atol=1e-5)


def test_the_cost_is_that_of_the_judges_own_tokens_and_size(tmp_path):
    body, head, _ = save_separator(tmp_path)
    pool = pool_of(("ab", "ab", "a\n\nb"), prompt="xyz")
    tokens = (3 + 2 + 1) + (3 + 3 + 1 + 1 + 1)  # letters, breaks and separators
    size = sum(p.numel() for p in body.parameters()) + sum(tensor.numel() for tensor in head.values())
    cost = cost_of(Prm().bind(str(tmp_path)), pool)
    assert (cost.reencoded_tokens, cost.tokens, cost.flops) == (tokens, tokens, 2.0 * size * tokens)


def test_a_mark_in_the_text_is_no_step(tmp_path):
    save_step_tag(tmp_path)
    judge = Prm().bind(str(tmp_path))
    clean, marked = judge.step_scores(pool_of(("a b \n\n c", "a ки b \n\n ки c")))
    assert np.array_equal(clean, marked)


# --- what it refuses ---


@pytest.mark.parametrize(
    ("form", "token"), [("separator", "'<extra_0>'"), ("step-tag", "'ки' number 12902"), ("value", r"'\\n'")]
)
def test_a_missing_step_token_is_named_before_anything_is_read(form, token, tmp_path, monkeypatch):
    save_plus_minus(tmp_path)
    words = {word: i for i, word in enumerate(WORDS) if word not in ("\n", "z")} | {"z": 3}
    save_words(tmp_path, words)
    monkeypatch.setattr(Checkpoint, "body", lambda *_: pytest.fail("the judge was loaded"))
    with pytest.raises(ValueError, match=f"no token {token}.*form '{form}'.*not verified"):
        Prm(form=form).bind(str(tmp_path)).score(pool_of())


def test_a_tag_of_another_number_is_no_tag(tmp_path):
    save_step_tag(tmp_path, tag=12900)
    with pytest.raises(ValueError, match="number 12902"):
        Prm().bind(str(tmp_path)).score(pool_of())


def test_other_faults_are_named(tmp_path):
    with pytest.raises(JudgeMissingError, match="--judge prm="):
        Prm().score(pool_of())
    assert "no judge" in check_pruner(Prm())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no config\.json"):
        Prm().bind(str(tmp_path / "empty")).score(pool_of())
    with pytest.raises(ValueError, match="nobody/nothing: could not be fetched"):
        Prm().bind("nobody/nothing").score(pool_of())
    save_separator(tmp_path)
    with pytest.raises(ValueError, match=r"no tensor v_head\.summary\.weight; name the form that it really has"):
        Prm(form="value").bind(str(tmp_path)).score(pool_of())
    with pytest.raises(ValueError, match=r"problem 'long': .* are 305 tokens .* which reads 256; check earlier"):
        Prm().bind(str(tmp_path)).score(pool_of(("y" * 299,), problem="long"))


def test_a_checkpoint_without_some_of_its_tensors_is_refused(tmp_path):
    from safetensors.torch import load_file

    save_value(tmp_path)
    tensors = load_file(str(tmp_path / "model.safetensors"))
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors are missing, such as layers\.1\.mlp\.up_proj\.weight"):
        Prm().bind(str(tmp_path)).score(pool_of())


def test_a_reward_model_of_no_known_form_is_refused(tmp_path):
    save_value(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["LlamaForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"score.weight": torch.ones(1, 16)}, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"a LlamaForSequenceClassification without .* is of no known form"):
        Prm().bind(str(tmp_path)).score(pool_of())


def test_it_is_type_two():
    assert Prm.quadrant() is Quadrant.II
