from __future__ import annotations

import csv

from prunebench.bench.training.cards import Card
from prunebench.figures.training_curve import write_training_curve


def card(history):
    settings = [{"learning_rate": rate, "seed": 0} for rate in (1e-3, 1e-2)]
    return Card(
        method="stop", configuration=settings[1], validation_auroc=0.62, model_hash="m", sampling_digest="s",
        candidates=[{"configuration": setting, "validation_auroc": 0.6, "history": history} for setting in settings],
        prefix_tokens=[20, 40, 80], train_data="d", train_problems=["a"], validation_problems=["b"], train_seconds=1.0,
        seed=0,
    )  # fmt: skip


def test_a_curve_is_a_picture_and_its_numbers(tmp_path):
    history = [{"epoch": i, "loss": 1 / i, "validation_auroc": 0.5 + i / 100} for i in (1, 2, 3)]
    table, picture = write_training_curve(card(history), tmp_path)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 6
    assert rows[4] == {
        "configuration": "learning_rate=0.01, seed=0", "epoch": "2", "loss": "0.5", "validation_auroc": "0.52",
    }  # fmt: skip
    assert picture.stat().st_size > 5000


def test_without_epochs_there_is_no_curve(tmp_path):
    assert write_training_curve(card([]), tmp_path) == []
    assert not list(tmp_path.iterdir())
