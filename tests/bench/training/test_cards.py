from __future__ import annotations

import json

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.training.cards import describe, refuse_leak
from prunebench.bench.training.loading import load_method
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.registry import PRUNERS
from tests.bench.training.made_up import trained


def test_evaluating_on_what_was_learned_from_is_refused_with_the_ids(tmp_path):
    trained(tmp_path)
    cards = {"linear-probe": load_method("linear-probe", tmp_path, "m1", 12).card}
    refuse_leak(cards, ["another"])
    for problem in ("example-1-0", "example-2-5"):
        with pytest.raises(UserError, match=f"linear-probe.*trained or tuned on 1 of these problems \\({problem}"):
            refuse_leak(cards, ["another", problem])


def test_a_damaged_card_is_refused(tmp_path):
    trained(tmp_path)
    path = tmp_path / "linear-probe.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"linear-probe.json: not a card of this version .*; train again"):
        load_method("linear-probe", tmp_path, "m1", 12)
    path.write_text(json.dumps({"method": "linear-probe"}))
    with pytest.raises(UserError, match="not a card of this version"):
        load_method("linear-probe", tmp_path, "m1", 12)


def test_a_description_is_one_line():
    assert describe(LinearProbe(layer=3)) == "layer=3, C=0.1, centre=True"
    assert describe(PRUNERS.get("none")()) == "defaults"
