"""The building of a shipped reasoner, whose whole chain tests/test_gpu_targets.py tries."""

from __future__ import annotations

import sys

import pytest

from prunebench.bench.cli import app, reasoner


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--recipe", "cpuu"),
            "unknown recipe 'cpuu': known are small, cpu, embedded, gpu, cpu-base, real, toy, paper",
        ),
        (("--name", "large"), "unknown reasoner 'large': shipped are embedded, embedded-base, toy"),
        (("--until", "tea"), "--until tea: write weights, rollouts, labels, all"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reasoner", *arguments])
    with pytest.raises(SystemExit) as end:
        app.reported(reasoner.app)
    assert end.value.code == 2 and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
