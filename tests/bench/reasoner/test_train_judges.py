from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.engines.options import model_digest
from prunebench.bench.engines.shipped import TrainingPlan
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.progress import SILENT, Spoken
from prunebench.bench.reasoner import train_judges as judges
from prunebench.bench.reasoner.judge_texts import cut_solutions, prm_texts, verifier_texts
from prunebench.bench.reasoner.recipe import prompt_tokens
from prunebench.bench.reasoner.train import batches, encoded, language_step, new_optimizers
from prunebench.bench.reasoner.train_judges import (
    PLANS,
    SEPARATOR,
    ProcessRewardModel,
    export_verifier,
    shortened,
    started_from,
    train_judges,
)
from prunebench.bench.reasoner.vocabulary import IDS, RESERVED, VOCABULARY
from prunebench.tasks.synthetic.family import CHECK

PLAN = TrainingPlan(
    tokens=12_000,
    warmup_tokens=1_000,
    decay_tokens=6_000,
    batch_tokens=1_500,
    chunk_documents=16,
    checkpoint_seconds=0.0,
)
SMALL = {"prm": PLAN, "verifier": PLAN}


def test_a_plan_is_shortened_in_all_its_parts():
    short = shortened(PLANS["verifier"], 120_000)
    assert (short.tokens, short.warmup_tokens, short.decay_tokens) == (120_000, 1_000, 60_000)
    assert shortened(PLANS["prm"], PLANS["prm"].tokens) == PLANS["prm"]


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    said: list[str] = []
    train_judges(folder / "out", folder / "work", Spoken(said.append), SMALL)
    return folder / "out", said


def test_training_learns_and_records_where_it_started(shipped):
    out, _ = shipped
    for name in SMALL:
        record = json.loads((out / name / "training.json").read_text())
        assert record["origin"] == started_from(out / name) == judges.KINDS[name].origin(out, PLAN)
    assert started_from(out / "verifier") == model_digest(str(out / "prm")), "nothing of the generator's either"
    assert started_from(out / "prm") == "own weights of width 96, seed 0", "external: nothing of the generator's"
    first, second = (judges.new_prm(out, seed).model.embed_tokens.weight for seed in (0, 1))
    assert first.shape == (len(VOCABULARY), 96) and not torch.equal(first, second)
    for name in SMALL:
        record = json.loads((out / name / "training.json").read_text())
        assert record["plan"]["tokens"] == PLAN.tokens
        losses = [entry["loss"] for entry in record["loss"]]
        assert losses[-1] < losses[0]
        assert sum(file.stat().st_size for file in (out / name).iterdir()) < 6e6


def test_an_interrupted_training_ends_in_the_same_bytes(shipped, tmp_path, monkeypatch):
    out, _ = shipped
    steps = []

    def dying(step):
        def dies(*arguments):
            steps.append(1)
            if len(steps) in (5, 16):
                raise KilledError
            return step(*arguments)

        return dies

    kinds = {n: replace(kind, step=dying(kind.step)) for n, kind in judges.KINDS.items()}
    monkeypatch.setattr(judges, "KINDS", kinds)
    for _ in range(2):
        with pytest.raises(KilledError):
            train_judges(tmp_path / "out", tmp_path / "work", SILENT, SMALL)
    assert list(tmp_path.glob("work/*/*/checkpoint.pt"))
    train_judges(tmp_path / "out", tmp_path / "work", SILENT, SMALL)
    for name in SMALL:
        files = {file.name: file.read_bytes() for file in (out / name).iterdir()}
        assert files == {file.name: file.read_bytes() for file in (tmp_path / "out" / name).iterdir()}


def test_finished_judges_are_left_alone_and_those_of_another_origin_made_anew(shipped, tmp_path):
    out, said = shipped
    assert [line.split(" from")[0] for line in said if "judge" in line] == [
        "training judge 'prm'",
        "training judge 'verifier'",
    ]
    again: list[str] = []
    train_judges(out, tmp_path / "unused", Spoken(again.append), SMALL)
    assert again == ["judge 'prm' is there", "judge 'verifier' is there"]
    assert not (tmp_path / "unused").exists()
    stale = tmp_path / "out" / "prm"
    stale.mkdir(parents=True)
    (stale / "training.json").write_text(json.dumps({"origin": "0123456789abcdef"}))
    (stale / "left.over").write_text("old")
    made: list[str] = []
    train_judges(tmp_path / "out", tmp_path / "work", Spoken(made.append), {"prm": shortened(PLAN, 1_000)})
    assert "started from other weights (0123456789abcdef)" in made[0]
    assert started_from(stale) == "own weights of width 96, seed 0"
    assert not (stale / "left.over").exists()


def test_the_process_reward_model_has_the_public_form(shipped):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = shipped[0] / "prm"
    assert AutoConfig.from_pretrained(folder).architectures == ["Qwen2ForProcessRewardModel"]
    tensors = load_file(folder / "model.safetensors")
    heads = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.startswith("model.")}
    assert heads == {
        "score.0.weight": (96, 96),
        "score.0.bias": (96,),
        "score.2.weight": (2, 96),
        "score.2.bias": (2,),
    }
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"<bos> a = 1 \n\n {SEPARATOR} b\n\n{SEPARATOR}", add_special_tokens=False)["input_ids"]
    assert ids[-1] == ids[5] == tokenizer.convert_tokens_to_ids(SEPARATOR) == IDS[RESERVED[0]]
    assert len(tokenizer) == len(VOCABULARY)
    body = AutoModel.from_pretrained(folder).eval()
    whole = ProcessRewardModel(AutoModel.from_pretrained(folder)).eval()
    whole.load_state_dict(tensors)
    text = torch.tensor([ids])
    state = body(text).last_hidden_state
    by_hand = torch.relu(state @ tensors["score.0.weight"].T + tensors["score.0.bias"])
    by_hand = by_hand @ tensors["score.2.weight"].T + tensors["score.2.bias"]
    torch.testing.assert_close(whole(text), by_hand)


def test_the_loss_of_the_process_reward_model_that_is_told_is_that_of_its_marks(tmp_path):
    """One document by hand: the mean over marks of -log softmax, all of them read as the separator."""
    document = next(document for document in prm_texts("loss") if RESERVED[1] in document.tokens)
    model = judges.new_prm(tmp_path, 0)
    ids = torch.tensor([[IDS[token] for token in document.tokens]])
    seen = torch.where(ids == IDS[RESERVED[1]], IDS[RESERVED[0]], ids)
    logprobs = model(seen).log_softmax(-1)[0].detach()
    marks = [(place, int(token == RESERVED[0])) for place, token in enumerate(document.tokens) if token in RESERVED]
    expected = -sum(float(logprobs[place, right]) for place, right in marks) / len(marks)
    assert judges._prm_step(model, [], ids, ids).item() == pytest.approx(expected, abs=0.02)  # computed in bfloat16


def test_the_verifier_may_write_what_it_has_to(shipped):
    engine = TransformersEngine.load(str(shipped[0] / "verifier"))
    banned = {VOCABULARY[token] for token in engine.banned}
    assert banned == {"<pad>", "<bos>", "<unk>", *RESERVED}
    judge = EngineJudge(engine)
    prefix = next(prefix for prefix in cut_solutions("asked") if len(prefix.tokens) > 30)
    context = judge.encode(" ".join((*prompt_tokens(prefix.instance), *prefix.tokens, CHECK)))
    assert len(judge.complete([context], 8)[0]) >= 1


def test_the_exported_verifier_is_the_function_that_was_trained(shipped, tmp_path):
    from transformers import AutoModelForCausalLM

    model = judges.new_verifier(shipped[0], 0)
    optimizers = new_optimizers(model, PLAN)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = 1e-3
    chunk = list(islice(verifier_texts("some"), 4))
    for ids, labels in batches(map(encoded, chunk), 600, random.Random(0)):
        language_step(model, optimizers, ids, labels)
    export_verifier(model, tmp_path)
    text = torch.arange(4, 60)[None]
    model.eval()
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(tmp_path)(text).logits, model(text).logits)
