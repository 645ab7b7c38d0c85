"""The training loop: closed forms of its steps, early stopping, and going on as if nothing had happened."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from prunebench.methods.examples import example_dataset
from prunebench.methods.learned import fitting
from prunebench.methods.learned.fitting import Schedule, fingerprint, fit_module
from prunebench.methods.pool import PrefixDataset, within_problem_auroc

VALIDATION = example_dataset(3, seed=2)
PLAN = Schedule(learning_rate=0.01, epochs=4, batch=8, patience=4, seed=0)


def judged(quality: float) -> list[np.ndarray]:
    """Validation scores that rank better the higher ``quality`` is, from 0 (upside down) to 1."""
    return [quality * labelled.success - (1 - quality) * labelled.success for labelled in VALIDATION]


class Network(torch.nn.Module):
    """Dropout in the middle: a resumed training needs the very same random numbers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.layers = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))

    def forward(self, inputs):
        return self.layers(inputs)[:, 0]


def train(schedule=PLAN, resume_in=None, settings=None, seen=None, stop_at=None):
    """Fit a network to random targets; ``stop_at`` raises in the middle of that epoch, as a kill would."""
    network = Network()
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.normal(size=(40, 6))).float()
    targets = torch.from_numpy(random.random(40)).float()
    calls = [0]

    def losses(rows):
        calls[0] += 1
        if stop_at is not None and calls[0] > 5 * stop_at - 3:  # five batches per epoch
            raise KeyboardInterrupt
        if seen is not None:
            seen.append(rows)
        yield torch.nn.functional.binary_cross_entropy_with_logits(network(inputs[rows]), targets[rows])

    def judge():
        return [
            network(torch.from_numpy(labelled.pool.hidden_state(1))).double().numpy() + 0 * labelled.success
            for labelled in VALIDATION
        ]

    history = fit_module(network, losses, 40, judge, VALIDATION, schedule, settings or {"a": 1}, resume_in)
    return network, history


def bytes_of(network) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in network.parameters()]


# --- the steps ---


def test_one_step_is_that_of_adamw_with_a_clipped_gradient():
    module = torch.nn.Module()
    start, slope = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([3.0, -4.0, 1e-7])
    module.weight = torch.nn.Parameter(start.clone())
    fit_module(
        module,
        lambda rows: [(module.weight * slope).sum()],
        1,
        lambda: judged(0.9),
        VALIDATION,
        Schedule(learning_rate=0.1, epochs=1, batch=1, patience=1, seed=0),
        {},
    )
    rate = 0.1 * (1 / 1.05)  # the warm-up's first step of one; the cosine is still 1
    gradient = slope / 5  # the norm is 5, the limit 1
    expected = start * (1 - 0.01 * rate) - rate * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(module.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_warms_up_and_falls_by_a_cosine():
    rates = [Schedule(2.0, 1, 1, 1, 0).rate(step, 100) for step in (0, 2, 5, 25, 50, 75)]
    expected = [2 * warm * (1 + math.cos(math.pi * step / 100)) / 2 for step, warm in
                ((0, 1 / 6), (2, 3 / 6), (5, 1), (25, 1), (50, 1), (75, 1))]  # fmt: skip
    assert rates == pytest.approx(expected)
    assert rates[4] == pytest.approx(1.0)


def test_every_epoch_reads_every_row_once_in_an_order_of_its_own():
    seen: list[np.ndarray] = []
    train(seen=seen)
    epochs = [np.concatenate(seen[start : start + 5]) for start in range(0, 20, 5)]
    assert [len(batch) for batch in seen[:5]] == [8] * 5
    assert all(np.array_equal(np.sort(order), np.arange(40)) for order in epochs)
    assert len({order.tobytes() for order in epochs}) == 4


def test_parts_of_a_batch_add_up_to_one_step():
    def fitted(parts):
        module = torch.nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[0.3, -0.2, 0.1]]))
        inputs = torch.arange(30.0).reshape(10, 3).sin()

        def losses(rows):
            for some in np.array_split(rows, parts):
                yield (module(inputs[some]) ** 2).sum() / len(rows)

        history = fit_module(module, losses, 10, lambda: judged(0.9), VALIDATION, replace(PLAN, batch=5), {})
        return module.weight.detach(), [entry["loss"] for entry in history]

    (whole, loss), (split, losses) = fitted(1), fitted(3)
    torch.testing.assert_close(whole, split, rtol=1e-5, atol=1e-7)
    assert loss == pytest.approx(losses, rel=1e-5)


def test_it_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train()
    assert torch.equal(torch.rand(3), expected)


# --- early stopping ---


@pytest.mark.parametrize(
    ("qualities", "patience", "epochs", "best"),
    [
        ([0.9, 0.1, 0.1, 0.1, 0.1], 2, 3, 1),
        ([0.1, 0.9, 0.1, 0.9, 0.1], 2, 4, 2),  # an equal ranking is no better one
        ([0.1, 0.1, 0.9, 0.1, 0.1], 3, 5, 3),
        ([0.1, 0.1, 0.1, 0.1, 0.9], 2, 3, 1),
    ],
)
def test_it_stops_after_patience_and_keeps_the_best_epoch(qualities, patience, epochs, best):
    module = torch.nn.Linear(2, 1)
    kept = []

    def judge():
        kept.append(module.weight.detach().clone())
        return judged(qualities[len(kept) - 1])

    plan = Schedule(0.1, epochs=5, batch=4, patience=patience, seed=0)
    history = fit_module(module, lambda rows: [module(torch.ones(4, 2)).sum()], 4, judge, VALIDATION, plan, {})
    assert len(history) == len(kept) == epochs
    assert torch.equal(module.weight.detach(), kept[best - 1])
    assert not module.training
    assert [entry["epoch"] for entry in history] == list(range(1, epochs + 1))
    rankings = [within_problem_auroc(VALIDATION, judged(quality)) for quality in qualities]
    assert [entry["validation_auroc"] for entry in history] == rankings[:epochs]


def test_validation_data_that_cannot_rank_are_refused_before_training():
    alike = PrefixDataset(tuple(replace(labelled, success=np.full(len(labelled.pool), 0.5)) for labelled in VALIDATION))
    for data in (alike, PrefixDataset(())):
        with pytest.raises(ValueError, match="label more validation prefixes"):
            fit_module(Network(), lambda rows: pytest.fail("trained"), 4, lambda: [], data, PLAN, {})


def test_a_training_that_diverges_says_so():
    module = torch.nn.Linear(2, 1)
    broken = [np.full(len(labelled.pool), np.nan) for labelled in VALIDATION]
    with pytest.raises(ValueError, match=r"diverged.*below 0\.01"):
        fit_module(module, lambda rows: [module.weight.sum()], 4, lambda: broken, VALIDATION, PLAN, {})


def test_weights_of_half_precision_are_refused():
    with pytest.raises(TypeError, match=r"'weight' is torch\.bfloat16"):
        fit_module(torch.nn.Linear(2, 1).bfloat16(), lambda rows: [], 4, lambda: [], VALIDATION, PLAN, {})


# --- going on ---


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(epoch, tmp_path):
    network, history = train()
    state = tmp_path / "deep" / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(resume_in=state, stop_at=epoch)
    assert state.exists() == (epoch > 1)
    resumed, losses = train(resume_in=state)
    assert bytes_of(resumed) == bytes_of(network)
    assert losses == history
    assert [path.name for path in state.parent.iterdir()] == ["state.pt"], "nothing temporary is left"


def test_a_finished_training_is_not_repeated(tmp_path):
    plan = replace(PLAN, epochs=30, patience=1)
    network, history = train(plan, tmp_path / "state.pt")
    assert len(history) < 30
    seen: list[np.ndarray] = []
    repeated, same = train(plan, tmp_path / "state.pt", seen=seen)
    assert not seen
    assert bytes_of(repeated) == bytes_of(network) and same == history


def test_a_state_of_other_settings_is_refused_with_the_first_difference(tmp_path):
    train(resume_in=tmp_path / "state.pt", settings={"a": 1, "rate": 0.1})
    with pytest.raises(ValueError, match=r"begun with rate = 0\.1, now it is 0\.2; delete the file"):
        train(resume_in=tmp_path / "state.pt", settings={"a": 1, "rate": 0.2})


def test_a_damaged_state_is_named(tmp_path):
    train(resume_in=tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"state\.pt: not a readable training state; delete it"):
        train(resume_in=tmp_path / "state.pt")


def test_a_stop_while_writing_leaves_the_old_state(tmp_path, monkeypatch):
    network, _ = train()
    path, real = tmp_path / "state.pt", torch.save
    writes = [0]

    def half(state, stream):
        writes[0] += 1
        if writes[0] == 3:
            stream.write(b"half of it")
            raise KeyboardInterrupt
        real(state, stream)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            train(resume_in=path)
    assert len(fitting._State.read(path, torch.load(path, weights_only=True)["settings"]).history) == 2
    assert bytes_of(train(resume_in=path)[0]) == bytes_of(network)


# --- fingerprint ---


def test_the_fingerprint_tells_data_apart():
    def changed(**columns):
        first, *others = VALIDATION
        pool = replace(first.pool, **{name: value for name, value in columns.items() if name != "success"})
        success = columns.get("success", first.success)
        return PrefixDataset((replace(first, pool=pool, success=success), *others))

    first = VALIDATION.pools[0]
    ones = np.ones(3)
    digests = [
        fingerprint(VALIDATION),
        fingerprint(changed(success=1 - first.success)),
        fingerprint(changed(position=13)),
        fingerprint(changed(problem="another")),
        fingerprint(changed(signals={})),
        fingerprint(VALIDATION, ones),
        fingerprint(VALIDATION, ones[None]),
        fingerprint(VALIDATION, 2 * ones),
        fingerprint(PrefixDataset(VALIDATION.pools[::-1])),
    ]
    assert len(set(digests)) == len(digests)
    assert fingerprint(example_dataset(3, seed=2)) == digests[0]


def test_a_pair_counts_by_the_gap_between_its_labels():
    first = VALIDATION.pools[0]
    success = np.array([0.0, 1 / 16, 0.5, 0.5, 1.0])
    labelled = PrefixDataset((replace(first, pool=first.pool.take(range(5)), success=success),))
    gaps = 2 * (1 / 2 + 7 / 16 + 1 / 2) + 1 / 16 + 1 + 15 / 16
    wrong = within_problem_auroc(labelled, [np.array([0.2, 0.1, 0.3, 0.3, 0.9])])
    assert wrong == pytest.approx(1 - (1 / 16) / gaps), "a gap of 1/16 is no whole pair"
    twice = PrefixDataset((replace(first, pool=first.pool.take([0, 0, 1]), success=np.array([0, 0, 1.0])),))
    assert within_problem_auroc(twice, [np.array([0.5, 0.1, 0.3])]) == 0.5


def test_a_fixed_budget_is_spent_and_the_weights_of_its_last_quarter_are_averaged(tmp_path):
    plan, passed = replace(PLAN, epochs=4, patience=0), []
    network = Network()
    random = np.random.default_rng(0)
    inputs, targets = torch.from_numpy(random.normal(size=(40, 6))).float(), torch.from_numpy(random.random(40)).float()

    def losses(rows):
        passed.append([parameter.detach().clone() for parameter in network.parameters()])
        yield torch.nn.functional.binary_cross_entropy_with_logits(network(inputs[rows]), targets[rows])

    worse = iter([0.9, 0.8, 0.7, 0.6])
    history = fit_module(network, losses, 40, lambda: judged(next(worse)), VALIDATION, plan, {}, None)
    assert len(history) == 4 and len(passed) == 20, "no epoch is chosen"
    assert plan.rate(19, 20) < 0.01 * plan.learning_rate, "decayed to nothing"
    tail = [*passed[16:]]  # after steps 16 to 19; that of the last one is known by the mean alone
    last = [5 * mean - sum(parts) for mean, *parts in zip(network.parameters(), *tail, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(last, passed[-1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(network.parameters(), passed[-1], strict=True))


def test_an_averaged_training_goes_on_as_if_nothing_had_happened(tmp_path):
    plan = replace(PLAN, epochs=8, patience=0)
    whole, _ = train(plan)
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "state", stop_at=8)
    again, _ = train(plan, tmp_path / "state")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
