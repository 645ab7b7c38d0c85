"""The table of the signals: its constants and its formulas."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from prunebench.methods.base import MissingSignalError
from prunebench.methods.examples import example_pool
from prunebench.methods.signals import SIGNALS, Signal, recorded_signals, signal


def test_the_constants_name_the_signals():
    assert Signal.ENTROPY is SIGNALS.get("entropy") and Signal.ENTROPY in set(Signal)
    assert pickle.loads(pickle.dumps(Signal.ENTROPY)) is copy.deepcopy(Signal.ENTROPY) is Signal.ENTROPY
    assert [signal.name for signal in recorded_signals()] == [
        "logprobs", "topk_logprobs", "entropy", "self_certainty", "hidden_state",
    ]  # fmt: skip
    with pytest.raises(AttributeError, match="unknown signal 'entorpy': did you mean 'entropy'"):
        _ = Signal.ENTORPY
    with pytest.raises(MissingSignalError, match=r"'varentropy' was not recorded .* --set record=varentropy"):
        example_pool().without({Signal.VARENTROPY}).read(Signal.VARENTROPY)


def test_a_name_that_is_none_is_refused():
    for name in ("Regret", "two words", "late-doubt", "x.width", ""):
        with pytest.raises(ValueError, match="lower-case words joined by underscores"):
            signal(name, "a test")


def test_the_formulas_are_what_they_are_said_to_be():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 9)))
    logprobs, tokens = logits.log_softmax(-1), torch.tensor([0, 3, 8, 1, 1])
    p = logprobs.exp().numpy()
    columns = {s.name: s.formula(logprobs, tokens).numpy() for s in Signal if s.formula is not None and not s.wide}
    entropy = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose(columns["logprobs"], np.log(p[np.arange(5), tokens.numpy()]))
    np.testing.assert_allclose(columns["entropy"], entropy)
    np.testing.assert_allclose(columns["self_certainty"], (np.log(1 / 9) - np.log(p)).mean(1))
    np.testing.assert_allclose(columns["varentropy"], (p * (-np.log(p) - entropy[:, None]) ** 2).sum(1))
    topk = Signal.TOPK_LOGPROBS.formula(logprobs, tokens, 3).numpy()
    np.testing.assert_allclose(topk, -np.sort(-np.log(p), axis=1)[:, :3])
