"""The retrained process reward model: one step against a slow loop, going on, and what it learns and saves."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from prunebench.bench.reasoner import train_judges as judges
from prunebench.bench.reasoner.vocabulary import RESERVED, VOCABULARY
from prunebench.methods.base import JudgeMissingError, NotFittedError, Quadrant, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import EXAMPLE_SETTING, example_pool
from prunebench.methods.judges.prm import Prm
from prunebench.methods.judges.prm_retrain import PrmRetrain
from prunebench.methods.pool import LabelledPool, PrefixDataset, within_problem_auroc

NUMBER = {token: i for i, token in enumerate(VOCABULARY)}
MARK = NUMBER[RESERVED[0]]


@pytest.fixture(scope="module")
def model(checkpoint):
    """The process reward model before any training, with a head that tells prefixes apart."""
    model = judges.new_prm(checkpoint, 0).float().eval()
    with torch.no_grad():
        model.score[2].weight.mul_(4)
    return model


@pytest.fixture(scope="module")
def judge(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    judges.export_prm(model, folder)
    return folder


def drawn(seed, pools, paths=8):
    """Success is told by whether a 7 or a 9 stands in the first step; each pool is cut at one of two lengths."""
    random = np.random.default_rng(seed)
    drawn_pools = []
    for number in range(pools):
        position = (6, 9)[number % 2]
        good = np.arange(paths) % 2
        texts = []
        for right in good:
            other = [str(n) for n in random.integers(20, 60, position - 3)]
            texts.append(f"plan {7 if right else 9} \n\n " + " ".join(other))
        pool = replace(
            example_pool(paths, position, problem=f"p-{seed}-{number}"),
            prompt=" ".join(f"{n}" for n in random.integers(100, 200, 3)) + " \n\n",
            signals={Signal.TEXT: tuple(texts)},
        )
        drawn_pools.append(LabelledPool(pool, 0.1 + 0.8 * good, 8))
    return PrefixDataset(tuple(drawn_pools))


def ids_of(pool, text):
    words = ["<bos>", *pool.prompt.split(" ")]
    for token in text.split(" "):
        words += [token, RESERVED[0]] if token == "\n\n" else [token]
    return [*(NUMBER[word] for word in words), *([] if words[-1] == RESERVED[0] else [MARK])]


def success_by_hand(model, pool):
    with torch.no_grad():
        return [float(model(torch.tensor([ids_of(pool, t)]))[0, -1].double().softmax(-1)[1]) for t in pool.text]


def test_one_epoch_of_one_batch_is_one_step_of_adamw_by_hand(model, judge):
    """Every prefix by itself through the slow model; the gradient clipped to norm 1, the decay 0.01."""
    train, validation = drawn(1, 4), drawn(2, 2)
    pruner = PrmRetrain(learning_rate=0.01, epochs=1, batch=1000).bind(str(judge)).fit(train, validation)
    slow = copy.deepcopy(model).requires_grad_(True)
    total = 0.0
    for labelled in train:
        for text, success in zip(labelled.pool.text, labelled.success, strict=True):
            logits = slow(torch.tensor([ids_of(labelled.pool, text)]))[0, -1]
            log = logits.log_softmax(-1)
            loss = -(success * log[1] + (1 - success) * log[0]) / len(train.success)
            loss.backward()
            total += loss.item()
    assert pruner.history_[0]["loss"] == pytest.approx(total, rel=1e-5)
    slopes = {name: parameter.grad for name, parameter in slow.named_parameters()}
    norm = torch.sqrt(sum((slope**2).sum() for slope in slopes.values()))
    rate = 0.01 / 1.05
    learned = dict(pruner.grader_.module.named_parameters())
    assert set(learned) == set(slopes)
    moved = 0
    for name, start in slow.named_parameters():
        slope = slopes[name] / max(1.0, float(norm))
        expected = start * (1 - 0.01 * rate) - rate * slope / (slope.abs() + 1e-8)
        clear = slope.abs() > 1e-4  # below, rounding decides about the sign
        torch.testing.assert_close(learned[name].detach()[clear], expected.detach()[clear], rtol=1e-4, atol=2e-5)
        moved += int(clear.sum())
    assert moved > 5000
    assert all(parameter.dtype == torch.float32 for parameter in learned.values())


def test_the_score_is_the_grade_of_the_last_separator(model, judge):
    train, validation = drawn(1, 2), drawn(2, 2)
    pruner = PrmRetrain(learning_rate=1e-9, epochs=1).bind(str(judge)).fit(train, validation)
    pool = drawn(3, 1).pools[0].pool
    pool = replace(pool, signals={Signal.TEXT: (*pool.text[:-1], "plan 7 \n\n")})
    scores = pruner.score(pool)
    assert np.allclose(scores, success_by_hand(model, pool), atol=1e-5)
    assert len(set(scores)) == 8
    assert np.allclose(scores, Prm().bind(str(judge)).score(pool), atol=1e-5)
    order = np.random.default_rng(0).permutation(8)
    assert np.array_equal(pruner.score(pool.take(order)), scores[order])


def test_it_learns_what_the_judge_did_not_know(judge):
    train, validation, test = drawn(1, 24), drawn(2, 4), drawn(3, 8)
    before = Prm().bind(str(judge))
    pruner = PrmRetrain(learning_rate=1e-3, epochs=4).bind(str(judge)).fit(train, validation)

    def auroc(pruner):
        return within_problem_auroc(test, [pruner.score(labelled.pool) for labelled in test])

    assert auroc(before) < 0.8
    assert auroc(pruner) > 0.95
    assert [entry["epoch"] for entry in pruner.history_] == list(range(1, len(pruner.history_) + 1))
    best = max(entry["validation_auroc"] for entry in pruner.history_)
    now = within_problem_auroc(validation, [pruner.score(labelled.pool) for labelled in validation])
    assert now == pytest.approx(best)
    assert len({entry["loss"] for entry in pruner.history_}) == len(pruner.history_)


def test_a_fit_that_was_stopped_goes_on_and_saves_the_same_file(judge, tmp_path, monkeypatch):
    train, validation = drawn(1, 4), drawn(2, 2)

    def pruner():
        pruner = PrmRetrain(learning_rate=1e-3, epochs=4, patience=4, batch=8).bind(str(judge))
        pruner.resume_in_ = tmp_path / "state.pt"
        return pruner

    PrmRetrain(learning_rate=1e-3, epochs=4, patience=4, batch=8).bind(str(judge)).fit(train, validation).save(
        tmp_path / "plain"
    )
    real, writes = torch.save, [0]

    def killed_after_two(*content):
        writes[0] += 1
        if writes[0] == 3:
            raise KeyboardInterrupt
        real(*content)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed_after_two)
        with pytest.raises(KeyboardInterrupt):
            pruner().fit(train, validation)
    assert len(torch.load(tmp_path / "state.pt", weights_only=True)["history"]) == 2
    resumed = pruner().fit(train, validation)
    resumed.save(tmp_path / "resumed")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "resumed").read_bytes()
    assert len(resumed.history_) == 4
    first, *others = train
    texts = ("plan 8 \n\n 3", *first.pool.text[1:])
    moved = replace(first, pool=replace(first.pool, signals={Signal.TEXT: texts}))
    with pytest.raises(ValueError, match="begun with data = "):
        pruner().fit(PrefixDataset((moved, *others)), validation)


def test_what_is_saved_is_the_whole_judge_and_needs_a_tokenizer_only(judge, tmp_path):
    train, validation = drawn(1, 2), drawn(2, 2)
    pruner = PrmRetrain(learning_rate=1e-3, epochs=1).bind(str(judge)).fit(train, validation)
    pruner.save(tmp_path / "learned")
    bare = tmp_path / "bare"
    shutil.copytree(judge, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loaded = PrmRetrain(learning_rate=1e-3, epochs=1).load(tmp_path / "learned").bind(str(bare))
    assert torch.equal(torch.rand(1), expected), "the random numbers of others are left alone"
    pool = drawn(3, 1).pools[0].pool
    assert np.array_equal(loaded.score(pool), pruner.score(pool))
    tensors = load_file(str(tmp_path / "learned"))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert set(tensors) == set(load_file(str(judge / "model.safetensors")))
    with safe_open(str(tmp_path / "learned"), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    assert (config["model_type"], config["hidden_size"]) == ("llama", 96)
    # The file beside the judge's tokenizer is a judge itself.
    shutil.copy(tmp_path / "learned", bare / "model.safetensors")
    assert np.allclose(Prm().bind(str(bare)).score(pool), pruner.score(pool), atol=1e-6)


def test_the_cost_is_that_of_its_own_size(model, judge):
    pruner = PrmRetrain(epochs=1).bind(str(judge)).fit(drawn(1, 2), drawn(2, 2))
    pool = drawn(3, 1).pools[0].pool
    pool = pool.take([0, 1, 0])
    tokens = sum(len(ids_of(pool, text)) for text in pool.text[:2])
    size = sum(parameter.numel() for parameter in model.parameters())
    cost = cost_of(pruner, pool)
    assert (cost.reencoded_tokens, cost.flops) == (tokens, 2.0 * size * tokens)


def test_it_conforms_with_a_judge(judge):
    pruner = PrmRetrain(epochs=1)
    assert "it has no judge" in check_pruner(pruner)
    assert check_pruner(pruner.bind(str(judge))) is None


def test_its_configurations_are_learning_rates():
    assert PrmRetrain.quadrant() is Quadrant.II
    assert [configuration.learning_rate for configuration in PrmRetrain.configurations(EXAMPLE_SETTING)] == [
        2e-5,
        1e-4,
        5e-4,
    ]


def test_its_faults_are_named(judge, tmp_path):
    train, validation = drawn(1, 2), drawn(2, 2)
    with pytest.raises(NotFittedError, match="prunebench train prm-retrain"):
        PrmRetrain().score(train.pools[0].pool)
    with pytest.raises(JudgeMissingError):
        PrmRetrain().fit(train, validation)
    other = tmp_path / "other"
    shutil.copytree(judge, other)
    tensors = load_file(str(judge / "model.safetensors"))
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("score.")}
    values = {"v_head.summary.weight": torch.ones(1, 128), "v_head.summary.bias": torch.ones(1)}
    save_file(kept | values, str(other / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"starts from a judge of the form 'separator'.*is of the form 'value'"):
        PrmRetrain().bind(str(other)).fit(train, validation)
    save_file(kept, str(tmp_path / "headless"))
    with pytest.raises(ValueError, match=r"headless: holds no judge; train it again"):
        PrmRetrain().load(tmp_path / "headless")
    del tensors["model.norm.weight"]
    config = json.loads((judge / "config.json").read_text())
    save_file(tensors, str(tmp_path / "partly"), metadata={"config": json.dumps(config)})
    with pytest.raises(ValueError, match=r"partly: its tensors are not those of its configuration"):
        PrmRetrain().load(tmp_path / "partly")
