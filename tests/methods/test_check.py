"""The conformance suite: every registered method passes it, and every kind of fault is found by it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from prunebench.methods.base import LearnablePruner, MissingSignalError, NotFittedError, Pruner, Signal, Source
from prunebench.methods.check import LEARNING_RULES, RULES, PrunerCheckError, check_pruner, checked
from prunebench.methods.confidence.entropy import Entropy
from prunebench.methods.controls.oracle import Oracle
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.examples import EXAMPLE_SETTING, example_dataset, example_pool
from prunebench.methods.learned.stop import Stop
from prunebench.methods.registry import PRUNERS

BUILT_IN = [name for name in PRUNERS.names() if PRUNERS.get(name).__module__.startswith("prunebench.methods.")]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_registered_method_conforms(name, engine):
    kind = PRUNERS.get(name)
    pruner = kind(steps=8) if issubclass(kind, Stop) else kind()  # the suite does not ask how well it learns
    assert bool(check_pruner(pruner, engine)) == (not pruner.ready)


@pytest.mark.parametrize("name", ["slim-sc", "text-classifier", "linear-probe"])
def test_every_configuration_of_the_example_setting_conforms(name):
    for configuration in PRUNERS.get(name).configurations(EXAMPLE_SETTING):
        assert check_pruner(configuration) is None


def test_stop_conforms_on_an_engine(engine):
    assert check_pruner(Stop(tokens=2, rank=4, epochs=1), engine) is None


def test_an_ensemble_conforms_through_its_members(engine):
    ensemble = MeanRank("entropy,slim-sc")
    assert "it has no members; call join() first" in check_pruner(ensemble)
    assert check_pruner(ensemble.join([Entropy(), Careless()])) is None
    with pytest.raises(PrunerCheckError, match="reads 'text' beyond what is there; it declares entropy, token_ids"):
        check_pruner(MeanRank("entropy,peeping").join([Entropy(), variant(score=lambda self, pool: words(pool))]))


def test_the_example_pool_has_every_shape():
    pool, alone = example_pool(), example_pool(1)
    assert len(pool) == 7 and len(alone) == 1
    assert pool.finished.any() and not pool.finished.all() and not alone.finished.any()
    assert len(set(pool.lengths)) > 1
    assert [len(ids) for ids in pool.token_ids] == pool.lengths.tolist()
    assert [len(text.split(" ")) for text in pool.text] == pool.lengths.tolist()
    assert set(pool.signals) == set(Signal) - {Signal.KV_CACHE, Signal.PROBE, Signal.FORCED_ANSWERS}
    train, validation = example_dataset(seed=1), example_dataset(seed=2)
    assert not train.problems & validation.problems
    assert not any(labelled.pool.has(Signal.POTENTIAL) for labelled in train)


@dataclass
class Good(Pruner):
    name = "good"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TOKEN_IDS})
    paper = "a test"

    weight: float = 1.0

    def score(self, pool):
        return np.array([self.weight * float(ids[-1]) for ids in pool.token_ids])


@dataclass
class GoodLearnable(LearnablePruner):
    name = "good-learnable"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TOKEN_IDS})
    paper = "a test"

    def score(self, pool):
        if not hasattr(self, "mean_"):
            raise NotFittedError(self.name)
        return np.array([float(ids[-1]) - self.mean_ for ids in pool.token_ids])

    def fit(self, train, validation):
        self.mean_ = float(train.success.mean())
        return self

    def save(self, path):
        save_file({"mean": np.array([self.mean_])}, str(path))

    def load(self, path):
        self.mean_ = float(load_file(str(path))["mean"][0])
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


def words(pool):
    return np.array([float(len(text.split())) for text in pool.text])


def standardise(self, pool):
    last = np.array([float(ids[-1]) for ids in pool.token_ids])
    with np.errstate(invalid="ignore"):
        return (last - last.mean()) / last.std() if len(last) > 1 else last


def against_the_unfinished(self, pool):
    last = np.array([float(ids[-1]) for ids in pool.token_ids])
    return last - last[~pool.finished][0]


def drawn_in_sequence(self, pool):
    return np.random.default_rng(len(pool.token_ids)).random(len(pool))


def earlier_rows_first(self, pool):
    return np.array([float(len(ids)) - row / 100 for row, ids in enumerate(pool.token_ids)])


def indexed_by_path(self, pool):
    return np.array([float(ids[-1]) for ids in pool.token_ids])[pool.paths]


def against_the_mean(self, pool):
    last = np.array([float(ids[-1]) for ids in pool.token_ids])
    return last - last.mean()


def novelty(self, pool):
    """Kept between pools: how many problems came before."""
    self.seen_ = {*getattr(self, "seen_", ()), pool.problem}
    return np.array([float(ids[-1]) + len(self.seen_) for ids in pool.token_ids])


def first_problem(self, pool):
    """Kept from the first pool for ever."""
    self.origin_ = getattr(self, "origin_", None) or float(pool.token_ids[0][-1])
    return np.array([float(ids[-1]) - self.origin_ for ids in pool.token_ids])


def seeded_by_the_clock(self, pool):
    self.salt_ = getattr(self, "salt_", None) or np.random.default_rng().random()
    return np.array([float(ids[-1]) * self.salt_ for ids in pool.token_ids])


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


def charged_once(self, pool):
    if not hasattr(self, "charged_"):
        self.charged_ = pool.charge(check_tokens=3)
    return np.array([float(ids[-1]) for ids in pool.token_ids])


def charged_by_the_pool(self, pool):
    pool.charge(check_tokens=len(pool))
    return np.array([float(ids[-1]) for ids in pool.token_ids])


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
    "equal prefixes": ({"score": standardise}, "On a pool of equal prefixes, score() gives NaN"),
    "finished": ({"score": against_the_unfinished}, "On a pool of finished paths, score() raised IndexError"),
    "drawn in sequence": ({"score": drawn_in_sequence}, "depend on the order of the paths (path 1: "),
    "row order": ({"score": earlier_rows_first}, "break ties by path id"),
    "paths as rows": ({"score": indexed_by_path}, "path ids are not the row numbers, score() raised IndexError"),
    "remembering": ({"score": novelty}, "After other pools, score() gives other values for the same pool; keep"),
    "remembering the first": ({"score": first_problem}, "A second pruner of the same hyper-parameters scores"),
    "clock": ({"score": seeded_by_the_clock}, "A second pruner of the same hyper-parameters scores differently"),
    "not pointwise": ({"pointwise": True, "score": against_the_mean}, "It claims pointwise = True, but path 0 scores"),
    "no probability": ({"probability": True}, "but it claims to give probabilities"),
    "raising": ({"score": lambda self, pool: 1 / 0}, "ZeroDivisionError"),
    "alone": ({"score": lambda self, pool: np.array([float(pool.token_ids[1][0])] * len(pool))}, "N=1"),
    "outcome": ({"requires": frozenset({Signal.OUTCOME})}, "requires outcome: privileged"),
    "own control": ({"source": Source.CONTROL}, "Only the suite's own controls"),
    "name": ({"name": "Not Good"}, "'name' must be lower-case"),
    "no paper": ({"paper": ""}, "'paper' must say"),
    "requires": ({"requires": {Signal.TEXT}}, "must be a frozenset"),
    "learnable": ({"learnable": True}, "'learnable' is True"),
    "draws": ({"draws": 5}, "needs a hyper-parameter 'seed'"),
    "negative charge": ({"score": lambda self, pool: pool.charge(check_tokens=-1)}, "give numbers of at least 0"),
    "charged once": ({"score": charged_once}, "charge what it costs every time"),
    "charged by the pool": ({"pointwise": True, "score": charged_by_the_pool}, "charge each path by itself"),
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


def test_a_pruner_that_brings_its_own_cost_is_told_what_to_do_now():
    with pytest.raises(ValueError, match=r"Faulty.cost\(\) is never called: charge .* with pool.charge\(") as caught:
        variant(cost=lambda self, pool: 3)
    assert str(caught.value).count(". ") == 0
    assert check_pruner(variant(__annotations__={"cost": float}, cost=0.5)) is None, "a hyper-parameter is no method"


@dataclass
class Careless(Good):
    """Equal prefixes in the order of their rows: they may swap their scores."""

    name = "careless"

    def score(self, pool):
        before: dict[bytes, int] = {}
        scores = []
        for ids in pool.token_ids:
            before[ids.tobytes()] = before.get(ids.tobytes(), 0) + 1
            scores.append(float(ids[-1]) - before[ids.tobytes()] / 10)
        return np.array(scores)


def test_paths_with_equal_prefixes_may_swap_their_scores():
    pool = example_pool().take([0, 1, 0])
    assert len(set(Careless().score(pool))) == 3
    assert check_pruner(Careless()) is None


def reading(*signals: Signal, score: Any) -> Pruner:
    return variant(requires=frozenset(signals), score=lambda self, pool: score(pool))


def cached(pool):
    return pool.kv().layers[0][0].double().abs().sum((1, 2, 3)).numpy()


def probed(pool):
    return np.array([float(logprobs.sum()) for logprobs in pool.probe(3).token_logprobs])


def test_what_reads_the_cache_or_probes_conforms_on_an_engine(engine):
    assert check_pruner(reading(Signal.PROBE, score=probed), engine) is None
    assert check_pruner(reading(Signal.PROBE, score=lambda pool: pool.opinion()[:, 0]), engine) is None
    assert check_pruner(reading(Signal.KV_CACHE, score=cached), engine) is None


@pytest.mark.parametrize(
    ("declared", "score", "read"),
    [
        (Signal.KV_CACHE, lambda pool: cached(pool) + probed(pool), "probe"),
        (Signal.KV_CACHE, lambda pool: cached(pool) + pool.opinion()[:, 0], "probe"),
        (Signal.PROBE, lambda pool: cached(pool) + probed(pool), "kv_cache"),
        (Signal.PROBE, lambda pool: probed(pool) + [len(ids) for ids in pool.token_ids], "token_ids"),
    ],
)
def test_an_engine_answers_what_is_declared_only(declared, score, read, engine):
    with pytest.raises(PrunerCheckError, match=f"reads '{read}' beyond what is there; it declares {declared.name}"):
        check_pruner(reading(declared, score=score), engine)


def forget(self, path):
    self.mean_ = 0.0
    return self


def adapt(self, pool):
    """Goes on learning: the mean moves with every problem that it has not seen yet."""
    if not hasattr(self, "mean_"):
        raise NotFittedError(self.name)
    self.seen_ = {*getattr(self, "seen_", ()), pool.problem}
    return np.array([float(ids[-1]) - self.mean_ * len(self.seen_) for ids in pool.token_ids])


def fit_unseeded(self, train, validation):
    self.mean_ = float(np.random.default_rng().random())
    return self


def save_pickle(self, path):
    path.write_bytes(pickle.dumps(self.mean_))


def load_pickle(self, path):
    self.mean_ = pickle.loads(path.read_bytes())
    return self


def save_beside(self, path):
    GoodLearnable.save(self, path)
    path.with_suffix(".pkl").write_bytes(pickle.dumps(self.mean_))


def save_where(self, path):
    GoodLearnable.save(self, path)
    type(self).where = path


LEARNING_FAULTS = {
    "goes on learning": ({"score": adapt}, "After other pools, score() gives other values for the same pool; learn in"),
    "unseeded fit": ({"fit": fit_unseeded}, "A second pruner fitted to the same data with the same hyper-parameters"),
    "pickle": ({"save": save_pickle, "load": load_pickle}, "What save(path) writes is no safetensors file"),
    "two files": ({"save": save_beside}, "save(path) writes learned.pkl besides 'path'"),
    "another file": (
        {"save": save_where, "load": lambda self, path: GoodLearnable.load(self, self.where)},
        "save(), load() or score() after load() raised FileNotFoundError",
    ),
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


def test_what_is_scored_is_no_problem_of_the_fit():
    fitted, scored = set(), set()

    def fit(self, train, validation):
        fitted.update(train.problems, validation.problems)
        return GoodLearnable.fit(self, train, validation)

    def score(self, pool):
        scored.add(pool.problem)
        return GoodLearnable.score(self, pool)

    assert check_pruner(variant(GoodLearnable, fit=fit, score=score)) is None
    assert len(fitted) == 9
    assert len(scored) == 7
    assert not fitted & scored


def test_what_was_checked_can_be_told():
    assert checked(Good()) == RULES
    assert checked(GoodLearnable()) == (*RULES, *LEARNING_RULES)


def test_all_failures_come_at_once():
    with pytest.raises(PrunerCheckError) as caught:
        check_pruner(variant(name="Not Good", paper="", requires={Signal.TEXT}))
    assert len(caught.value.failures) == 3
    assert str(caught.value).count("\n- ") == 3


def test_a_class_without_the_decorator_or_the_base_is_refused():
    bare = type("Bare", (Good,), {"__module__": __name__, "__annotations__": {"window": int}, "window": 3})
    with pytest.raises(PrunerCheckError, match="decorated with @dataclass, so that window can be set"):
        check_pruner(bare())
    check_pruner(type("Plain", (Good,), {"__module__": __name__})())
    with pytest.raises(PrunerCheckError, match=r"subclass of prunebench\.methods\.base\.Pruner"):
        check_pruner(object())


def test_a_subclass_of_a_control_does_not_inherit_its_privilege():
    with pytest.raises(PrunerCheckError, match="privileged"):
        check_pruner(variant(Oracle))


def test_a_method_of_the_cache_needs_a_generator():
    assert "kv_cache needs a generator" in check_pruner(Stop())
