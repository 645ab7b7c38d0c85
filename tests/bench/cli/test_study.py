from __future__ import annotations

from dataclasses import fields

import pytest

from prunebench.bench.cli.study import STUDIES
from tests.bench.conftest import refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("motivatoin", "store"),
            "no study is called 'motivatoin': known are motivation, attention, ablations, curves, matrix",
        ),
        (("motivation", "store"), "store: no manifest.json"),
        (("attention", "store", "--set", "numer=3"), "--set numer=3: unknown key 'numer'; did you mean 'number'?"),
        (
            ("ablations", "data", "--set", "method=entropy"),
            "'entropy' has nothing to train, so there is nothing to ablate",
        ),
        (("ablations", "data", "--set", "method=stpo"), "unknown method 'stpo'"),
        (("ablations", "data", "--set", "dtype=float99"), "--set dtype=float99: input should be 'auto', "),
        (("matrix", "answers", "--out", "x"), "--out: matrix writes nothing and runs no model; leave it out"),
        (("matrix", "answers", "--device", "cpu"), "--device: matrix writes nothing and runs no model; leave it out"),
    ],
)
def test_what_a_study_does_not_take_is_refused(prunebench, tmp_path, arguments, sentence):
    assert sentence in refused(prunebench("study", *arguments))
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_setting(prunebench):
    out = " ".join(prunebench("study", "--help")[1].replace("│", " ").split())
    for name, study in STUDIES.items():
        assert name in out and all(f"{field.name} (" in out for field in fields(study.settings))
