from __future__ import annotations

import subprocess
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest

import prunebench.methods.entries
from prunebench.methods.base import Pruner, Quadrant, Source
from prunebench.methods.entries import Registry, UnknownNameError
from prunebench.methods.registry import PRUNERS

OURS = {"none", "random", "oracle", "potential", "length", "slim-sc", "text-classifier"}
OURS |= {"deepconf", "entropy", "perplexity", "linear-probe", "stop"}


@dataclass
class Flip(Pruner):
    name = "flip"
    source = Source.EXTERNAL
    requires = frozenset()
    paper = "a test"

    def score(self, pool):
        return np.arange(len(pool), dtype=float)


class Point:
    def __init__(self, name, result):
        self.name, self._result, self.loads = name, result, 0

    def load(self):
        self.loads += 1
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.fixture
def plugged(monkeypatch):
    """A fresh registry that sees the given entry points."""

    def build(*points):
        monkeypatch.setattr(
            prunebench.methods.entries, "entry_points", lambda group: points if group == "a.group" else ()
        )
        return Registry("method", Pruner, (), "a.group")

    return build


def test_every_file_of_the_packages_is_found():
    assert set(PRUNERS.names()) >= OURS
    for name in OURS:
        assert PRUNERS.get(name).name == name


@pytest.mark.parametrize(
    "before", ["sys", "prunebench.methods.learned.stop, prunebench.methods.controls.random_choice"]
)
def test_names_come_in_taxonomy_order_whatever_was_imported_before(before):
    order = [Quadrant.CONTROL, Quadrant.I, Quadrant.II, Quadrant.III, Quadrant.IV]
    code = f"import {before}; from prunebench.methods.registry import PRUNERS; print(*PRUNERS.names())"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in names if name in OURS]
    assert len(ours) == len(OURS)
    assert ours == sorted(
        ours, key=lambda name: (order.index(PRUNERS.get(name).quadrant()), PRUNERS.get(name).__module__)
    )


@pytest.mark.parametrize(("typed", "meant"), [("deepcof", "deepconf"), ("slimsc", "slim-sc"), ("Stop", "stop")])
def test_a_wrong_name_offers_the_nearest(typed, meant):
    with pytest.raises(UnknownNameError, match=f"unknown method '{typed}': did you mean .*'{meant}'"):
        PRUNERS.get(typed)


def test_a_name_like_nothing_lists_what_there_is():
    with pytest.raises(UnknownNameError, match="known: ") as caught:
        PRUNERS.get("qqqqqq")
    assert all(name in str(caught.value) for name in OURS)


def test_a_taken_name_is_refused_and_the_first_stays(plugged):
    registry = plugged()
    registry.register("flip")(Flip)
    registry.register("flip")(Flip)  # the same class again: a reload, no fault
    other = type("Other", (Flip,), {})
    with pytest.raises(ValueError, match=r"'flip' is taken by .*test_registry\.Flip"):
        registry.register("flip")(other)
    assert registry.get("flip") is Flip


def test_another_base_is_refused(plugged):
    with pytest.raises(TypeError, match="Stranger is not a Pruner"):
        plugged().register("x")(type("Stranger", (), {}))


def test_a_plugin_is_loaded_only_when_it_is_asked_for(plugged):
    point = Point("flip", Flip)
    registry = plugged(point)
    assert registry.names() == ["flip"]
    assert point.loads == 0
    assert registry.get("flip") is Flip
    assert registry.get("flip") is Flip
    assert point.loads == 1
    assert dict(registry.items()) == {"flip": Flip}


def test_a_plugin_cannot_replace_a_built_in(plugged):
    registry = plugged(Point("flip", type("Thief", (Flip,), {})))
    registry.register("flip")(Flip)
    assert registry.names() == ["flip"]
    assert registry.get("flip") is Flip


@pytest.mark.parametrize("fault", [ImportError("no module 'x'"), RuntimeError("boom"), types.SimpleNamespace])
def test_a_broken_plugin_is_a_warning(plugged, fault):
    registry = plugged(Point("broken", fault), Point("flip", Flip))
    with pytest.warns(UserWarning, match="method plugin 'broken' could not be loaded"):
        assert dict(registry.items()) == {"flip": Flip}


def test_importing_all_methods_imports_nothing_heavy():
    code = """
import sys, importlib, pkgutil, prunebench.methods as methods
for found in pkgutil.walk_packages(methods.__path__, "prunebench.methods."):
    importlib.import_module(found.name)
print(sorted({"torch", "sklearn", "scipy", "transformers", "peft", "pandas", "safetensors"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
