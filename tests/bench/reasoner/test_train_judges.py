from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.engines.options import model_digest
from prunebench.bench.engines.shipped import TrainingPlan
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.progress import SILENT, Spoken
from prunebench.bench.reasoner import train_judges as judges
from prunebench.bench.reasoner.recipe import prompt_tokens
from prunebench.bench.reasoner.train import _IDS
from prunebench.bench.reasoner.train_judges import (
    PLANS,
    QUESTIONS,
    SEPARATOR,
    ProcessRewardModel,
    critique,
    export_verifier,
    prefixes,
    prm_document,
    prm_documents,
    separated,
    shortened,
    started_from,
    train_judges,
    value_of,
    verifier_document,
    verifier_documents,
)
from prunebench.bench.reasoner.vocabulary import RESERVED, VOCABULARY
from prunebench.methods.judges.verifier import PROMPTS
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import CHECK, STEP_END, read_path

COUNT = 1500
PLAN = TrainingPlan(
    tokens=12_000,
    warmup_tokens=1_000,
    decay_tokens=6_000,
    batch_tokens=1_500,
    chunk_documents=16,
    checkpoint_seconds=0.0,
)
SMALL = {"prm": PLAN, "verifier": PLAN}


@pytest.fixture(scope="module")
def cut():
    return list(islice(prefixes("test"), COUNT))


def reading(prefix, end=None):
    return read_path(FAMILIES[prefix.instance.family], prefix.instance, prefix.tokens[:end])


def test_the_steps_that_stand_are_those_of_the_reader(cut):
    for prefix in cut:
        assert [end for end, _ in prefix.standing] == [i + 1 for i, t in enumerate(prefix.tokens) if t == STEP_END]
        for end, steps in prefix.standing:
            found = reading(prefix, end)
            assert found.readable
            assert found.open_errors == tuple(step.label for step in steps if not step.right)


def test_problems_come_from_the_reasoners_split_and_from_all_families(cut):
    assert {prefix.instance.split for prefix in cut} == {"reasoner"}
    assert Counter(prefix.instance.family for prefix in cut).keys() == FAMILIES.keys()


def test_prefixes_are_cut_anywhere_and_mostly_early(cut):
    lengths = np.array([len(prefix.tokens) for prefix in cut])
    assert lengths.min() < 5 and lengths.max() > 300
    assert 0.6 < (lengths <= 120).mean() < 0.9
    assert sum(prefix.tokens[-1] != STEP_END for prefix in cut) > COUNT / 2


def test_the_same_seed_writes_the_same_texts_and_another_one_others():
    for documents in (prm_documents, verifier_documents):
        first, second, other = (list(islice(documents(seed), 20)) for seed in ("a", "a", "b"))
        assert first == second != other


def test_marks_are_known_by_arithmetic(cut):
    """Behind every step end and behind an unfinished piece: whether an open error stands up to there."""
    seen: Counter[bool] = Counter()
    for prefix in cut:
        document = prm_document(prefix)
        prompt, body = document.tokens[: document.loss_from], document.tokens[document.loss_from :]
        assert prompt == prompt_tokens(prefix.instance)
        plain: list[str] = []
        for token, following in zip(body, (*body[1:], "<end>"), strict=True):
            if token in RESERVED:
                right = token == RESERVED[0]
                assert right is not reading(prefix, len(plain)).has_open_error
                seen[right] += 1
                assert plain[-1] == STEP_END or following == "<end>"
            else:
                plain.append(token)
                assert token != STEP_END or following in RESERVED
        assert tuple(plain) == prefix.tokens
        assert body[-1] in RESERVED
    assert min(seen.values()) > 500


def test_separators_go_behind_steps_and_what_is_unfinished():
    assert separated(("a", STEP_END, "b", STEP_END), "12") == ("a", STEP_END, "1", "b", STEP_END, "2")
    assert separated(("a", STEP_END, "b"), "12") == ("a", STEP_END, "1", "b", "2")
    assert separated(("a",), "1") == ("a", "1")


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("a = 3 * 8 = 24 ; 4 + 24 = 28 = 6", 6),
        ("b = 5 - 3 = 2 = 2", 2),
        ("x 2 = 6 * 6 = 36 = 3 ; 2 * 4 = 8 = 8 ; 3 + 8 = 11 = 0", 0),
        ("bit 1 1 : 3 * 3 = 9 = 2 ; 2 * 3 = 6 = 6", 6),
        ("x 35 : 2 - 35 = -33 = 4 ; 7 no", 4),
        ("do 3 p : 4 * 2 = 8 = 1 ; p 1 q 4", 1),
        ("do 1 q : ```python \n print ( ( 8 * 2 ) % 11 ) \n ``` \n ```output \n 5 \n ``` ; p 9 q 5", 5),
    ],
)
def test_the_value_of_a_step_is_what_it_computes(step, value):
    assert value_of(step.split(" ")) == value


def test_a_critique_goes_over_the_standing_steps(cut):
    """It is read back here: labels, the values that the steps should have, and verdicts that agree with the reader."""
    for prefix in cut:
        text = critique(prefix)
        assert text.index(CHECK) == len(text) - 2
        remarks = " ".join(text[:-2]).split(" ; ") if len(text) > 2 else []
        wrong = [remark for remark in remarks if remark.endswith(" no")]
        open_errors = reading(prefix).open_errors
        assert len(wrong) == len(open_errors)
        for remark, label in zip(wrong, open_errors, strict=True):
            assert remark.startswith(" ".join(label) + " ")
        assert text[-1] == ("no" if open_errors else "yes")
        for remark, step in zip(remarks, prefix.steps, strict=True):
            said = [str(step.value)] if step.value is not None else []
            assert remark.split(" ") == [*step.label, *said, "yes" if step.right else "no"]


def test_the_values_of_set_up_steps_are_those_of_the_problem(cut):
    """Worked out here from the problem's own facts."""
    compared = 0
    for prefix in cut:
        facts = prefix.instance.facts
        modulus = int(str(facts["modulus"]))
        for step in prefix.steps:
            if step.sets_up:
                quantity = facts[step.label[0]]
                mixed = hasattr(quantity, "parentheses")
                value = quantity.value(quantity.parentheses) if mixed else quantity.value()
                assert step.value == (value if step.label[0] == "e" else value % modulus)
                compared += 1
    assert compared > 1000


def test_aspects_part_set_up_errors_from_computation_errors(cut):
    for prefix in cut:
        errors = reading(prefix).open_errors
        assert prefix.answer("find") is not any(len(label) == 2 and label[1] == "=" for label in errors)
        assert prefix.answer("do") is not any(label[1:] != ("=",) for label in errors)
        assert prefix.answer("verdict") is prefix.answer("critique") is not bool(errors)
    assert all(prefix.answer("verdict") is (prefix.answer("find") and prefix.answer("do")) for prefix in cut)


def test_the_verifier_is_asked_in_the_words_of_the_methods(cut):
    prompts = PROMPTS["words"]
    asked = {
        "critique": prompts.critique,
        "verdict": prompts.aspects["whole"],
        "find": prompts.aspects["reading"],
        "do": prompts.aspects["computing"],
    }
    assert QUESTIONS["verdict"] == (*prompts.critique.split()[-1:], *prompts.verdict.split())
    for prefix, question in zip(cut, asked, strict=False):
        document = verifier_document(prefix, question)
        problem = " ".join((*prefix.instance.prompt, STEP_END))
        text = asked[question].format(problem=problem, prefix=" ".join(prefix.tokens))
        assert document.tokens[: document.loss_from] == tuple(word for word in text.split(" ") if word)


def test_the_verifiers_questions_are_balanced_and_fit_the_context():
    answers: Counter[tuple[str, str]] = Counter()
    for document in islice(verifier_documents("test"), COUNT):
        assert len(document.tokens) <= 1024
        assert document.tokens[-1] == "<eos>"
        asked = document.tokens[: document.loss_from]
        kind = next(
            kind
            for kind in ("verdict", "find", "do", "critique")
            if asked[-2:][-len(QUESTIONS[kind]) :] == QUESTIONS[kind]
        )
        answers[kind, document.tokens[-2]] += 1
    for kind, share in judges.QUESTION_SHARES.items():
        yes, no = answers[kind, "yes"], answers[kind, "no"]
        assert abs(yes + no - share * COUNT) < 4 * (share * COUNT) ** 0.5
        assert abs(yes - no) < 4 * (yes + no) ** 0.5


def test_a_plan_is_shortened_in_all_its_parts():
    short = shortened(PLANS["verifier"], 30_000)
    assert (short.tokens, short.warmup_tokens, short.decay_tokens) == (30_000, 1_000, 15_000)
    assert shortened(PLANS["prm"], PLANS["prm"].tokens) == PLANS["prm"]


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def shipped(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    said: list[str] = []
    train_judges(folder / "out", folder / "work", Spoken(said.append), SMALL, checkpoint)
    return folder / "out", said


def test_training_learns_and_records_where_it_started(shipped, checkpoint):
    out, _ = shipped
    for name in SMALL:
        record = json.loads((out / name / "training.json").read_text())
        assert record["reasoner"] == started_from(out / name) == model_digest(str(checkpoint))
        assert record["plan"]["tokens"] == PLAN.tokens
        losses = [entry["loss"] for entry in record["loss"]]
        assert losses[-1] < losses[0]
        assert sum(file.stat().st_size for file in (out / name).iterdir()) < 6e6


def test_an_interrupted_training_ends_in_the_same_bytes(shipped, checkpoint, tmp_path, monkeypatch):
    out, _ = shipped
    steps = []

    def dying(step):
        def dies(*arguments):
            steps.append(1)
            if len(steps) in (5, 16):
                raise KilledError
            return step(*arguments)

        return dies

    kinds = {n: judges._Kind(k.new, k.documents, dying(k.step), k.export) for n, k in judges.KINDS.items()}
    monkeypatch.setattr(judges, "KINDS", kinds)
    for _ in range(2):
        with pytest.raises(KilledError):
            train_judges(tmp_path / "out", tmp_path / "work", SILENT, SMALL, checkpoint)
    assert list(tmp_path.glob("work/*/*/checkpoint.pt"))
    train_judges(tmp_path / "out", tmp_path / "work", SILENT, SMALL, checkpoint)
    for name in SMALL:
        files = {file.name: file.read_bytes() for file in (out / name).iterdir()}
        assert files == {file.name: file.read_bytes() for file in (tmp_path / "out" / name).iterdir()}


def test_finished_judges_are_left_alone_and_those_of_another_reasoner_made_anew(
    shipped, checkpoint, tmp_path, monkeypatch
):
    out, said = shipped
    assert [line.split(" from")[0] for line in said if "judge" in line] == [
        "training judge 'prm'",
        "training judge 'verifier'",
    ]
    again: list[str] = []
    train_judges(out, tmp_path / "unused", Spoken(again.append), SMALL, checkpoint)
    assert again == ["judge 'prm' is there", "judge 'verifier' is there"]
    assert not (tmp_path / "unused").exists()
    stale = tmp_path / "out" / "prm"
    stale.mkdir(parents=True)
    (stale / "training.json").write_text(json.dumps({"reasoner": "0123456789abcdef"}))
    (stale / "left.over").write_text("old")
    made: list[str] = []
    train_judges(tmp_path / "out", tmp_path / "work", Spoken(made.append), {"prm": shortened(PLAN, 1_000)}, checkpoint)
    assert "started from another reasoner (0123456789abcdef)" in made[0]
    assert started_from(stale) == model_digest(str(checkpoint))
    assert not (stale / "left.over").exists()


def test_the_process_reward_model_has_the_public_form(shipped):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = shipped[0] / "prm"
    assert AutoConfig.from_pretrained(folder).architectures == ["Qwen2ForProcessRewardModel"]
    tensors = load_file(folder / "model.safetensors")
    heads = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.startswith("model.")}
    assert heads == {
        "score.0.weight": (128, 128),
        "score.0.bias": (128,),
        "score.2.weight": (2, 128),
        "score.2.bias": (2,),
    }
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"<bos> a = 1 \n\n {SEPARATOR} b\n\n{SEPARATOR}", add_special_tokens=False)["input_ids"]
    assert ids[-1] == ids[5] == tokenizer.convert_tokens_to_ids(SEPARATOR) == _IDS[RESERVED[0]]
    assert len(tokenizer) == len(VOCABULARY)
    body = AutoModel.from_pretrained(folder).eval()
    whole = ProcessRewardModel(AutoModel.from_pretrained(folder)).eval()
    whole.load_state_dict(tensors)
    text = torch.tensor([ids])
    state = body(text).last_hidden_state
    by_hand = torch.relu(state @ tensors["score.0.weight"].T + tensors["score.0.bias"])
    by_hand = by_hand @ tensors["score.2.weight"].T + tensors["score.2.bias"]
    torch.testing.assert_close(whole(text), by_hand)


def test_the_loss_of_the_process_reward_model_is_that_of_its_marks_alone(checkpoint):
    """One document by hand: the mean over marks of -log softmax, all of them read as the separator."""
    document = next(document for document in prm_documents("loss") if RESERVED[1] in document.tokens)
    model = judges.new_prm(checkpoint, 0)
    ids = torch.tensor([[_IDS[token] for token in document.tokens]])
    seen = torch.where(ids == _IDS[RESERVED[1]], _IDS[RESERVED[0]], ids)
    logprobs = model(seen).log_softmax(-1)[0].detach()
    marks = [(place, int(token == RESERVED[0])) for place, token in enumerate(document.tokens) if token in RESERVED]
    expected = -sum(float(logprobs[place, right]) for place, right in marks) / len(marks)
    assert judges._prm_step(model, [], ids, ids).item() == pytest.approx(expected, abs=0.02)  # computed in bfloat16


def test_the_verifier_may_write_what_it_has_to(shipped):
    engine = TransformersEngine.load(str(shipped[0] / "verifier"))
    banned = {VOCABULARY[token] for token in engine.banned}
    assert banned == {"<pad>", "<bos>", "<unk>", *RESERVED}
    judge = EngineJudge(engine)
    prefix = next(prefix for prefix in prefixes("asked") if len(prefix.tokens) > 30)
    context = judge.encode(" ".join((*prompt_tokens(prefix.instance), *prefix.tokens, CHECK)))
    assert len(judge.complete([context], 8)[0]) >= 1


def test_the_exported_verifier_is_the_function_that_was_trained(checkpoint, tmp_path):
    from transformers import AutoModelForCausalLM

    model = judges.new_verifier(checkpoint, 0)
    optimizers = judges.new_optimizers(model, PLAN)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = 1e-3
    chunk = list(islice(verifier_documents("some"), 4))
    for ids, labels in judges.batches(chunk, 600, random.Random(0)):
        judges._step(model, optimizers, ids, labels)
    export_verifier(model, tmp_path)
    text = torch.arange(4, 60)[None]
    model.eval()
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(tmp_path)(text).logits, model(text).logits)
