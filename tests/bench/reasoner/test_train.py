from __future__ import annotations

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional

from prunebench.bench.engines.shipped import ReasonerShape, TrainingPlan
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.reasoner import train as training
from prunebench.bench.reasoner.recipe import TrainingText, stage_at
from prunebench.bench.reasoner.train import IGNORED, _Texts, batches, encoded, new_model, schedule, train, weighed_step
from prunebench.bench.reasoner.vocabulary import IDS
from prunebench.tasks.synthetic.family import CHECK

SHAPE = ReasonerShape(hidden_size=32, num_hidden_layers=1, intermediate_size=64)
PLAN = TrainingPlan(
    tokens=24_000,
    warmup_tokens=2_000,
    decay_tokens=8_000,
    batch_tokens=1_500,
    chunk_documents=24,
    checkpoint_seconds=0.0,
)


class KilledError(Exception):
    pass


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    train(tmp_path / "whole", tmp_path / "work-whole", PLAN, SHAPE)
    steps = []

    def dies(*arguments):
        steps.append(1)
        if len(steps) == 14:
            raise KilledError
        return step(*arguments)

    step = training.language_step
    monkeypatch.setattr(training, "language_step", dies)
    with pytest.raises(KilledError):
        train(tmp_path / "cut", tmp_path / "work-cut", PLAN, SHAPE)
    assert (tmp_path / "work-cut" / "checkpoint.pt").exists()
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(training, "language_step", step)
    train(tmp_path / "cut", tmp_path / "work-cut", PLAN, SHAPE)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, cut[name])
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "cut")]
    assert records[0] == records[1]
    losses = [entry["loss"] for entry in records[0]["loss"]]
    assert losses[-1] < losses[0] - 0.5


def test_texts_written_ahead_by_other_processes_are_the_same_texts():
    """Also where a stage ends: 24 texts of some 300 tokens are near a third of this plan."""
    plan = replace(PLAN, tokens=30_000)
    told, done = [], 0
    with _Texts(replace(plan, writers=2)) as ahead, _Texts(plan) as own:
        for index in range(4):
            told.append(ahead.chunk(index, done))
            assert told[-1] == own.chunk(index, done)
            done += sum(len(text.tokens) for text in told[-1])
    assert len(set(told)) == 4 and stage_at(0) != stage_at(done / plan.tokens)


@pytest.mark.parametrize(("stored_as", "width"), [("float32", 4), ("bfloat16", 2)])
def test_weights_are_stored_as_the_plan_says_and_loaded_in_full(tmp_path, stored_as, width):
    train(tmp_path / "out", tmp_path / "work", replace(PLAN, tokens=1_000, stored_as=stored_as), SHAPE)
    engine = TransformersEngine.load(str(tmp_path / "out"))
    assert next(engine.model.parameters()).dtype == torch.float32
    stored = engine.arithmetic.parameters * width
    assert stored <= (tmp_path / "out" / "model.safetensors").stat().st_size < stored + 8_000


def test_the_schedule_warms_up_and_cools_down():
    plan = TrainingPlan(tokens=100, warmup_tokens=10, decay_tokens=20)
    assert schedule(plan, 4) == 0.5
    assert schedule(plan, 50) == 1.0
    assert schedule(plan, 90) == 0.5
    assert schedule(plan, 100) == 0.0


def test_the_loss_leaves_out_prompt_and_padding():

    documents = [TrainingText(("<bos>", "a", "=", "1", "<eos>"), 3), TrainingText(("<bos>", "b", "<eos>"), 1)]
    ((ids, labels),) = batches(map(encoded, documents), 100, random.Random(0))
    rows = {tuple(row.tolist()) for row in labels}
    long, short = ([IDS[token] for token in document.tokens] for document in documents)
    assert rows == {(IGNORED, IGNORED, IGNORED, *long[3:]), (IGNORED, *short[1:], IGNORED, IGNORED)}
    assert sorted(ids[:, -1].tolist()) == sorted([IDS["<pad>"], IDS["<eos>"]])


def test_batches_hold_every_document_once_within_their_size():

    documents = [TrainingText(("<bos>", *("a",) * length, "<eos>"), 1) for length in (3, 9, 4, 30, 5, 8, 2)]
    found = []
    for ids, labels in batches(map(encoded, documents), 36, random.Random(0)):
        assert ids.numel() <= 36 or len(ids) == 1
        found += [int((row != IGNORED).sum()) for row in labels]
    assert sorted(found) == sorted(len(document.tokens) - 1 for document in documents)
    assert torch.is_tensor(ids)


def test_the_answer_to_a_check_and_what_a_step_decides_weigh_more():
    model = new_model(SHAPE, 0)
    texts = [TrainingText(("<bos>", "so", "a", "=", "3", "+", "4", "=", "7", CHECK, "no"), 1)]
    ((ids, labels),) = batches(map(encoded, texts), 100, random.Random(0))
    logits = model(input_ids=ids).logits[0, :-1].float()
    each = functional.cross_entropy(logits, labels[0, 1:], reduction="none")
    weights = torch.tensor([1.0, 1, 4, 4, 4, 4, 4, 4, 4, 20])
    model.zero_grad()
    ((each * weights).sum() / weights.sum()).backward()
    expected = model.lm_head.weight.grad.clone()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    model.zero_grad()
    seen = []
    optimizer = SimpleNamespace(step=lambda: seen.append(model.lm_head.weight.grad.clone()), zero_grad=lambda **_: None)
    mean = weighed_step(model, [optimizer], ids, labels, (20.0, 4.0))
    assert mean.item() == pytest.approx(each.mean().item(), rel=1e-5)
    ratio = seen[0] / expected
    assert torch.allclose(ratio[expected.abs() > 1e-4], ratio[expected.abs() > 1e-4].mean(), rtol=1e-3)
