"""The conformance suite: every registered method passes it, and every kind of fault is found by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from methods.base import Cost, LearnablePruner, MissingSignalError, NotFittedError, Pruner, Setting, Signal, Source
from methods.check import PrunerCheckError, check_pruner, example_dataset, example_pool
from methods.controls.oracle import Oracle
from methods.learned.stop import Stop
from methods.registry import PRUNERS

BUILT_IN = [name for name in PRUNERS.names() if PRUNERS.get(name).__module__.startswith("methods.")]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_registered_method_conforms(name):
    kind = PRUNERS.get(name)
    skipped = check_pruner(kind())
    assert bool(skipped) == bool(kind.requires & {Signal.KV_CACHE, Signal.PROBE})


@pytest.mark.parametrize("name", ["slim-sc", "text-classifier", "linear-probe"])
def test_every_configuration_of_the_mini_setting_conforms(name):
    for configuration in PRUNERS.get(name).configurations(Setting(12, 64, 6, 6)):
        assert check_pruner(configuration) is None


def test_stop_conforms_on_an_engine(engine):
    assert check_pruner(Stop(tokens=2, rank=4, epochs=1), engine) is None


def test_the_example_pool_has_every_shape():
    pool, alone = example_pool(), example_pool(1)
    assert len(pool) == 7 and len(alone) == 1
    assert pool.finished.any() and not pool.finished.all() and not alone.finished.any()
    assert len(set(pool.lengths)) > 1
    assert [len(ids) for ids in pool.token_ids] == pool.lengths.tolist()
    assert [len(text.split(" ")) for text in pool.text] == pool.lengths.tolist()
    assert set(pool.signals) == set(Signal) - {Signal.KV_CACHE, Signal.PROBE}
    train, validation = example_dataset(seed=1), example_dataset(seed=2)
    assert not train.problems & validation.problems
    assert not any(one.pool.has(Signal.POTENTIAL) for one in train)


@dataclass
class Good(Pruner):
    name: ClassVar[str] = "good"
    source: ClassVar[Source] = Source.EXTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TOKEN_IDS})
    paper: ClassVar[str] = "a test"

    weight: float = 1.0

    def score(self, pool):
        return np.array([self.weight * float(ids[-1]) for ids in pool.token_ids])


@dataclass
class GoodLearnable(LearnablePruner):
    name: ClassVar[str] = "good-learnable"
    source: ClassVar[Source] = Source.EXTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TOKEN_IDS})
    paper: ClassVar[str] = "a test"

    def score(self, pool):
        if not hasattr(self, "mean_"):
            raise NotFittedError(self.name)
        return np.array([float(ids[-1]) - self.mean_ for ids in pool.token_ids])

    def fit(self, train, validation):
        self.mean_ = float(train.success.mean())
        return self

    def save(self, path):
        path.write_text(repr(self.mean_))

    def load(self, path):
        self.mean_ = float(path.read_text())
        return self


def test_good_ones_pass_and_are_left_alone():
    assert check_pruner(Good(weight=2.0)) is None
    learnable = GoodLearnable()
    assert check_pruner(learnable) is None
    assert not hasattr(learnable, "mean_")


def variant(base: type = Good, **members: Any) -> Pruner:
    """A faulty dataclass made from a good one."""
    return dataclass(type("Faulty", (base,), {"__annotations__": {}, "__module__": __name__, **members}))()


def later(pool):
    later.calls += 1
    return np.full(len(pool), float(later.calls))


later.calls = 0


def modify(self, pool):
    pool.token_ids[0][0] += 1
    return np.zeros(len(pool))


def modify_columns(self, pool):
    _ = pool.token_ids
    pool.lengths.sort()
    pool.lengths[0] = 99
    return np.zeros(len(pool))


def grow(self, pool):
    self.weight += 1
    return np.array([float(ids[-1]) for ids in pool.token_ids])


def catch(self, pool):
    try:
        return np.array([float(ids[-1]) for ids in pool.token_ids])
    except MissingSignalError:
        return np.zeros(len(pool))


def first_of(self, pool):
    return np.array([float(pool.signals[Signal.TOKEN_IDS][i][0]) for i in range(len(pool))])


FAULTS = {
    "NaN": ({"score": lambda self, pool: np.full(len(pool.token_ids), np.nan)}, "NaN or infinity"),
    "float32": ({"score": lambda self, pool: np.zeros(len(pool.token_ids), np.float32)}, "not float32"),
    "shape": ({"score": lambda self, pool: np.zeros((len(pool.token_ids), 1))}, "must give float64"),
    "list": ({"score": lambda self, pool: [0.0 for _ in pool.token_ids]}, "not list"),
    "changing": ({"score": lambda self, pool: later(pool)}, "other values when called again"),
    "modifying": ({"score": modify}, "modifies the pool's signal 'token_ids'"),
    "modifying columns": ({"score": modify_columns}, "modifies pool.lengths"),
    "learning in fields": ({"score": grow}, "Hyper-parameters change in use"),
    "undeclared": ({"requires": frozenset(), "score": Good.score}, "reads 'token_ids' beyond what is there"),
    "catching": ({"score": catch}, "declares 'token_ids' but scores without it"),
    "key error": ({"score": first_of}, "must raise MissingSignalError, not KeyError"),
    "raising": ({"score": lambda self, pool: 1 / 0}, "ZeroDivisionError"),
    "alone": ({"score": lambda self, pool: np.array([float(pool.token_ids[1][0])] * len(pool))}, "N=1"),
    "outcome": ({"requires": frozenset({Signal.OUTCOME})}, "requires outcome: privileged"),
    "own control": ({"source": Source.CONTROL}, "Only the suite's own controls"),
    "name": ({"name": "Not Good"}, "'name' must be lower-case"),
    "no paper": ({"paper": ""}, "'paper' must say"),
    "requires": ({"requires": {Signal.TEXT}}, "must be a frozenset"),
    "learnable": ({"learnable": True}, "'learnable' is True"),
    "draws": ({"draws": 5}, "needs a hyper-parameter 'seed'"),
    "cost": ({"cost": lambda self, pool: Cost(check_tokens=-1)}, "counts of at least 0"),
    "nine": (
        {"configurations": classmethod(lambda cls, setting: [cls(weight=float(i)) for i in range(9)])},
        "it must give 1 to 8",
    ),
    "no configuration": ({"configurations": classmethod(lambda cls, setting: [])}, "it must give 1 to 8"),
    "other class": ({"configurations": classmethod(lambda cls, setting: [Good()])}, "instances of Faulty only"),
    "twice": ({"configurations": classmethod(lambda cls, setting: [cls(), cls()])}, "repeats a configuration"),
    "not JSON": ({"__annotations__": {"extra": Any}, "extra": field(default_factory=frozenset)}, "survive JSON"),
    "constructor state": ({"__post_init__": lambda self: setattr(self, "table", {})}, "it also sets table"),
    "constructor change": ({"__post_init__": lambda self: setattr(self, "weight", self.weight * 2)}, "changes hyper-"),
    "field": ({"__annotations__": {"name": str}, "name": "good"}, "annotate it as ClassVar"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_pruner_is_found(fault):
    members, sentence = FAULTS[fault]
    with pytest.raises(PrunerCheckError) as caught:
        check_pruner(variant(**members))
    assert any(sentence in failure for failure in caught.value.failures)
    assert all(failure.endswith(".") for failure in caught.value.failures)


def forget(self, path):
    self.mean_ = 0.0
    return self


LEARNING_FAULTS = {
    "scores unfitted": (
        {"score": lambda self, pool: np.array([float(ids[-1]) for ids in pool.token_ids])},
        "must raise NotFittedError; it gave scores",
    ),
    "attribute error": (
        {"score": lambda self, pool: np.array([float(ids[-1]) - self.mean_ for ids in pool.token_ids])},
        "must raise NotFittedError, not AttributeError",
    ),
    "fit raises": ({"fit": lambda self, train, validation: 1 / 0}, "fit() raised ZeroDivisionError"),
    "fit gives nothing": (
        {"fit": lambda self, train, validation: GoodLearnable.fit(self, train, validation) and None},
        "fit() must return the pruner itself",
    ),
    "writes nothing": ({"save": lambda self, path: None}, "must write the file"),
    "forgets": ({"load": forget}, "After save() and load() the scores differ"),
}


@pytest.mark.parametrize("fault", LEARNING_FAULTS)
def test_every_fault_of_a_learnable_pruner_is_found(fault):
    members, sentence = LEARNING_FAULTS[fault]
    with pytest.raises(PrunerCheckError) as caught:
        check_pruner(variant(GoodLearnable, **members))
    assert any(sentence in failure for failure in caught.value.failures)


def test_all_failures_come_at_once():
    with pytest.raises(PrunerCheckError) as caught:
        check_pruner(variant(name="Not Good", paper="", requires={Signal.TEXT}))
    assert len(caught.value.failures) == 3
    assert str(caught.value).count("\n- ") == 3


def test_a_class_without_the_decorator_or_the_base_is_refused():
    with pytest.raises(PrunerCheckError, match="decorated with @dataclass"):
        check_pruner(type("Bare", (Good,), {"__module__": __name__})())
    with pytest.raises(PrunerCheckError, match=r"subclass of methods\.base\.Pruner"):
        check_pruner(object())


def test_a_subclass_of_a_control_does_not_inherit_its_privilege():
    with pytest.raises(PrunerCheckError, match="privileged"):
        check_pruner(variant(Oracle))


def test_a_method_of_the_cache_needs_a_generator():
    assert "kv_cache needs a generator" in check_pruner(Stop())
