"""The quick ways of drawing find the token that the whole float64 distribution gives."""

import numpy as np
import pytest
import torch

from prunebench.bench.engines import sampling as drawing
from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.sampling import draw, filtered_probabilities, signals_of
from prunebench.methods.signals import Signal

VOCABULARY, ROWS = 6007, 600
SETTINGS = {
    "top-k and top-p": Sampling(1.0, 0.95, 40, 0.0),
    "top-k": Sampling(1.3, 1.0, 5, 0.0),
    "all filters": Sampling(0.7, 0.9, 20, 0.05),
    "top-p": Sampling(0.6, 0.95, 0, 0.0),
    "min-p": Sampling(1.0, 1.0, 0, 0.05),
    "none": Sampling(1.0, 1.0, 0, 0.0),
    "more than there are": Sampling(1.0, 1.0, VOCABULARY - 1, 0.0),
}


def logits_of(shape: str) -> torch.Tensor:
    """``ties`` come in steps of an eighth, as large logits of bfloat16 do."""
    generator = torch.Generator().manual_seed(7)
    flat = torch.randn(ROWS, VOCABULARY, generator=generator)
    peaks = 12.0 * (torch.rand(ROWS, VOCABULARY, generator=generator) < 2e-3)
    return {"flat": flat / 2, "peaked": 3 * flat + peaks, "ties": (24 * flat + 8 * peaks).round() / 8}[shape]


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).random(ROWS)


@pytest.mark.parametrize("shape", ["flat", "peaked", "ties"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_token_is_that_of_the_whole_distribution(setting, shape, noise):
    logits, sampling = logits_of(shape), SETTINGS[setting]
    logits[:, 11:40] = -torch.inf
    cumulative = filtered_probabilities(logits, sampling).cumsum(-1)
    points = torch.from_numpy(noise)[:, None] * cumulative[:, -1:]
    assert torch.equal(draw(logits, noise, sampling), torch.searchsorted(cumulative, points, right=True)[:, 0])


@pytest.mark.parametrize(("setting", "most"), [("top-k and top-p", 0.0), ("top-p", 0.1), ("min-p", 0.1), ("none", 0.1)])
def test_few_rows_are_gone_through_whole(setting, most, noise, monkeypatch):
    whole = []
    before = drawing._of_all
    monkeypatch.setattr(drawing, "_of_all", lambda logits, *rest: whole.append(len(logits)) or before(logits, *rest))
    draw(logits_of("peaked"), noise, SETTINGS[setting])
    assert sum(whole) <= most * ROWS


@pytest.mark.parametrize("setting", ["top-k and top-p", "top-p", "none"])
def test_a_row_is_drawn_and_described_alike_in_any_company(setting, noise):
    logits = logits_of("peaked")[:60]
    recording = Recording(tuple(signal for signal in Signal if signal.formula is not None and not signal.wide))
    tokens = draw(logits, noise[:60], SETTINGS[setting])
    columns = signals_of(logits, tokens, recording)
    for row in range(0, 60, 7):
        alone = logits[row, None].clone()
        drawn = draw(alone, noise[row, None], SETTINGS[setting])
        assert drawn == tokens[row]
        for name, column in signals_of(alone, drawn, recording).items():
            assert column[0] == columns[name][row], name


def test_entropies_are_those_of_float64():
    logits = logits_of("peaked")[:50]
    logits[:, 5] = -torch.inf
    tokens = logits.argmax(-1)
    exact = logits.double().log_softmax(-1)
    entropy = torch.special.entr(exact.exp()).sum(-1)
    columns = signals_of(logits, tokens, Recording((Signal.ENTROPY, Signal.VARENTROPY)))
    np.testing.assert_allclose(columns["entropy"], entropy, rtol=2e-5, atol=1e-6)
    spread = (exact.exp() * (exact.clamp_min(-1e4) + entropy[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(columns["varentropy"], spread, rtol=1e-4, atol=1e-5)
