"""The conformance suite of a pruner, for the built-in ones and for plugins: ``check_pruner(MyPruner())``."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import (
    LearnablePruner,
    MissingSignalError,
    NotFittedError,
    Pruner,
    Scores,
    Signal,
    UsesJudge,
)
from prunebench.methods.declarations import configuration_faults, declaration_faults, hyperparameter_faults, named
from prunebench.methods.ensembles.mean_rank import MeanRank, signals_read
from prunebench.methods.examples import example_dataset, example_pool
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.meter import Cost, Meter
from prunebench.methods.pool import Generator, Pool, PrefixDataset

P = TypeVar("P", bound=Pruner)

_FROM_GENERATOR = frozenset({Signal.KV_CACHE, Signal.PROBE, Signal.FORCED_ANSWERS})
RULES = (
    "declarations and hyper-parameters",
    "1 to 8 distinct configurations",
    "float64 scores of shape (N,), all finite",
    "one path, equal prefixes, finished paths",
    "the same scores when asked again, after other pools and by an equal pruner",
    "the same scores in any order of the paths",
    "the same scores and charges in a part of the pool, where it says so (pointwise)",
    "declared signals only, an error where one is missing",
    "nothing in the pool is modified",
    "the same charges when asked again",
)
LEARNING_RULES = (
    "an error before it is fitted",
    "fit() repeats itself and leaves its data alone",
    "learns in fit() only",
    "one safetensors file holds all that was learned",
)


class PrunerCheckError(ValueError):
    """A pruner breaks its contract; ``failures`` holds one sentence per fault."""

    def __init__(self, name: str, failures: Iterable[str]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"'{name}' does not conform:\n" + "\n".join(f"- {failure}" for failure in self.failures))


def check_pruner(pruner: Pruner, generator: Generator | None = None) -> str | None:
    """Check one configuration of a pruner on small pools. ``pruner`` itself is neither fitted nor changed.

    Raises :class:`PrunerCheckError` with all failures. Returns None, or the reason why the scores were not checked: a
    method that reads the KV cache or probes needs the ``generator``, a judge its model, an ensemble its members.
    :func:`checked` lists what is looked at.
    """
    failures: list[str] = []
    failures += declaration_faults(pruner)
    if not failures:
        failures += hyperparameter_faults(pruner)
        failures += configuration_faults(type(pruner))
    skipped = None
    if not failures:
        wanted = " and ".join(sorted(signal.name for signal in signals_read(pruner) & _FROM_GENERATOR))
        if not pruner.ready:
            lack = "no judge; call bind() first" if isinstance(pruner, UsesJudge) else "no members; call join() first"
            skipped = f"the scores of '{pruner.name}' were not checked: it has {lack}"
        elif wanted and generator is None:
            skipped = f"the scores of '{pruner.name}' were not checked: {wanted} needs a generator"
        else:
            failures += _behaviour(pruner, generator)
    if failures:
        raise PrunerCheckError(str(getattr(pruner, "name", type(pruner).__name__)), failures)
    return skipped


def cost_of(pruner: Pruner, pool: Pool) -> Cost:
    """What scoring a pool charges: for the tests of a pruner."""
    return _charged(pruner, pool)[1].cost


def checked(pruner: Pruner) -> tuple[str, ...]:
    """What :func:`check_pruner` looks at in a pruner of this kind, a few words each."""
    return (*RULES, *LEARNING_RULES) if isinstance(pruner, LearnablePruner) else RULES


def _behaviour(pruner: Pruner, generator: Generator | None) -> Iterator[str]:
    cases = {case: _visible(pruner, pool) for case, pool in _cases(generator).items()}
    first, *others = cases.values()
    ready, twin = _fresh(pruner), _fresh(pruner)
    if isinstance(ready, LearnablePruner) and isinstance(twin, LearnablePruner):
        yield from _unfitted(ready, first)
        try:
            yield from _fit(ready, twin, generator)
        except Exception as error:
            yield f"fit() raised {named(error)}."
            return
    faults = [fault for case, pool in cases.items() for fault in _scores(ready, pool, case)]
    yield from faults
    if not faults:
        yield from _memory(ready, twin, first, others)
        yield from _order(ready, generator)
        if ready.pointwise:
            yield from _alone(ready, first)
    for signal in sorted(signals_read(pruner), key=lambda signal: signal.name):
        yield from _absence(ready, first, signal)
    if isinstance(ready, LearnablePruner):
        yield from _round_trip(ready, list(cases.values()))
    if ready.hyperparameters() != pruner.hyperparameters():
        yield "Hyper-parameters change in use; what is learned goes into attributes that end in '_'."


def _cases(generator: Generator | None) -> dict[str, Pool]:
    pool = example_pool(generator=generator)
    finished = np.flatnonzero(pool.finished).tolist()
    return {
        f"On a pool of N={len(pool)}": pool,
        "On a pool of N=1": example_pool(1, problem="example-alone", generator=generator),
        "On a pool of equal prefixes": _rows(replace(pool, problem="example-equal"), [0] * 5),
        "On a pool of finished paths": _rows(replace(pool, problem="example-finished"), finished),
    }


def _rows(pool: Pool, rows: Sequence[int]) -> Pool:
    """The pool of ``rows``, repeated ones too, as paths 0, 1, ..."""
    return replace(pool.take(rows), paths=np.arange(len(rows)))


def _unfitted(pruner: LearnablePruner, pool: Pool) -> Iterator[str]:
    try:
        pruner.score(pool)
    except NotFittedError:
        return
    except Exception as error:
        yield f"Before fit() or load(), score() must raise NotFittedError, not {named(error)}."
    else:
        yield "Before fit() or load(), score() must raise NotFittedError; it gave scores."


def _fit(ready: LearnablePruner, twin: LearnablePruner, generator: Generator | None) -> Iterator[str]:
    """Fit both to the same data, none of whose problems is scored later. Raises what fit() raises."""
    train = _seen(ready, example_dataset(seed=1, generator=generator))
    validation = _seen(ready, example_dataset(3, seed=2, generator=generator))
    with _unmodified(labelled.pool for labelled in (*train, *validation)) as changed:
        if ready.fit(train, validation) is not ready:
            yield "fit() must return the pruner itself."
    yield from (f"fit() modifies {name}." for name in changed)
    twin.fit(train, validation)


def _scores(pruner: Pruner, pool: Pool, case: str) -> Iterator[str]:
    try:
        with _unmodified([pool]) as changed:
            scores: Any
            (scores, charged), (repeated, recharged) = _charged(pruner, pool), _charged(pruner, pool)
    except MissingSignalError as error:
        declared = ", ".join(sorted(signal.name for signal in signals_read(pruner))) or "nothing"
        yield f"{case}, score() reads '{error.signal.name}' beyond what is there; it declares {declared}."
        return
    except Exception as error:
        yield f"{case}, score() raised {named(error)}."
        return
    yield from (f"{case}, score() modifies {name}." for name in changed)
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.shape != (len(pool),):
        what = f"{scores.dtype}{scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
        yield f"{case}, score() must give float64({len(pool)},), not {what}."
    else:
        if not np.isfinite(scores).all():
            yield f"{case}, score() gives NaN or infinity."
        elif pruner.probability and not ((scores >= 0) & (scores <= 1)).all():
            wrong = scores[(scores < 0) | (scores > 1)][0]
            yield f"{case}, score() gives {wrong:g}, but it claims to give probabilities (probability = True)."
        if not np.array_equal(scores, repeated, equal_nan=True):
            yield f"{case}, score() gives other values when called again; key random numbers by seed and problem."
    if charged.cost != recharged.cost:
        yield f"{case}, score() charges {charged.cost}, then {recharged.cost}; charge what it costs every time."


def _charged(pruner: Pruner, pool: Pool) -> tuple[Any, Meter]:
    """The scores of a pool, and the meter of that check."""
    meter = Meter()
    return pruner.score(pool.metered(meter)), meter


def _memory(pruner: Pruner, twin: Pruner, first: Pool, others: Sequence[Pool]) -> Iterator[str]:
    """Whether scoring leaves something behind, and whether an equal pruner is equal."""
    learned = isinstance(pruner, LearnablePruner)
    before = pruner.score(first)
    for pool in others:
        unseen = replace(pool, problem=f"{pool.problem}-later")
        pruner.score(unseen)
        twin.score(unseen)
    if not np.array_equal(before, pruner.score(first)):
        advice = "learn in fit() only, from its training problems" if learned else "keep nothing from pool to pool"
        yield f"After other pools, score() gives other values for the same pool; {advice}."
    elif not _close(before, twin.score(first)):
        equal = "fitted to the same data with the same hyper-parameters" if learned else "of the same hyper-parameters"
        yield (
            f"A second pruner {equal} scores differently; take random numbers from a generator seeded with the "
            "hyper-parameter 'seed', and keep nothing from pool to pool."
        )


def _order(pruner: Pruner, generator: Generator | None) -> Iterator[str]:
    """Whether scores go with their paths when the rows change places; paths with equal prefixes may swap theirs."""
    pool = example_pool(generator=generator)
    rows = [*range(len(pool)), 3]
    pool = replace(pool.take(rows), paths=3 * np.arange(len(rows)) + 1)
    order = np.random.default_rng(0).permutation(len(pool))
    back: Scores = np.empty(len(pool))
    seen = _visible(pruner, pool)
    try:
        straight = pruner.score(seen)
        back[order] = pruner.score(seen.take(order))
    except Exception as error:
        yield f"On a pool whose path ids are not the row numbers, score() raised {named(error)}."
        return
    groups: dict[bytes, list[int]] = {}
    for row, ids in enumerate(pool.token_ids):
        groups.setdefault(ids.tobytes(), []).append(row)
    for equal in groups.values():
        before, after = np.sort(straight[equal]), np.sort(back[equal])
        if not _close(before, after):
            yield (
                f"The scores depend on the order of the paths (path {pool.paths[equal[0]]}: {before[0]:g}, then "
                f"{after[0]:g}); key random numbers by seed, task, problem and path id, and break ties by path id."
            )
            return


def _alone(pruner: Pruner, pool: Pool) -> Iterator[str]:
    """Whether a path scores the same with only a part of the pool beside it, as ``pointwise`` claims."""
    whole, meter = _charged(pruner, pool)
    for rows in ([0], list(range(0, len(pool), 2))):
        some = pool.take(rows)
        part, charged = _charged(pruner, some)
        if Cost.of(charge.of(some.paths) for charge in meter.charges) != charged.cost:
            yield (
                f"It claims pointwise = True, but charges paths otherwise in a pool of {len(rows)} than in one of "
                f"{len(pool)}; charge each path by itself, or leave pointwise at False."
            )
            return
        if not _close(part, whole[rows]):
            row = int(np.argmax(np.abs(part - whole[rows])))
            yield (
                f"It claims pointwise = True, but path {pool.paths[rows[row]]} scores {whole[rows][row]:g} in a pool "
                f"of {len(pool)} and {part[row]:g} in one of {len(rows)}; leave pointwise at False."
            )
            return


def _close(scores: Scores, others: Scores) -> bool:
    """Equal but for rounding: sums in another order, rows in another place of a batch."""
    return np.allclose(scores, others, rtol=1e-4, atol=1e-6)


def _absence(pruner: Pruner, pool: Pool, signal: Signal) -> Iterator[str]:
    if signal in _FROM_GENERATOR:
        pool = replace(pool, generator=None)
    else:
        pool = replace(pool, signals={key: value for key, value in pool.signals.items() if key != signal})
    try:
        pruner.score(pool)
    except MissingSignalError:
        return
    except Exception as error:
        yield f"Without '{signal.name}', score() must raise MissingSignalError, not {named(error)}."
    else:
        yield f"It declares '{signal.name}' but scores without it."


def _round_trip(pruner: LearnablePruner, pools: list[Pool]) -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "saved" / "learned.safetensors"
            path.parent.mkdir()
            pruner.save(path)
            if not path.is_file():
                yield "save(path) must write the file 'path'."
                return
            beside = sorted(file.name for file in path.parent.iterdir() if file != path)
            if beside:
                yield f"save(path) writes {', '.join(beside)} besides 'path'; all that was learned goes into one file."
            if fault := _unreadable(path):
                yield f"What save(path) writes is no safetensors file ({fault}); use safetensors.numpy.save_file()."
            moved = path.rename(Path(folder) / "moved.safetensors")
            fresh = _fresh(pruner)
            if fresh.load(moved) is not fresh:
                yield "load() must return the pruner itself."
        if any(not np.array_equal(pruner.score(pool), fresh.score(pool)) for pool in pools):
            yield "After save() and load() the scores differ."
    except Exception as error:
        yield f"save(), load() or score() after load() raised {named(error)}."


def _unreadable(path: Path) -> str:
    """What is wrong with a safetensors file; empty if nothing is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            list(file.keys())
    except SafetensorError as error:
        return str(error)
    return ""


def _fresh(pruner: P) -> P:
    """The same hyper-parameters, and what ``bench`` puts in: nothing that was learned."""
    fresh = type(pruner)(**copy.deepcopy(pruner.hyperparameters()))
    if isinstance(fresh, MeanRank) and isinstance(pruner, MeanRank) and pruner.ready:
        fresh.join(pruner.pruners_)
    if isinstance(fresh, UsesJudge) and isinstance(pruner, UsesJudge) and hasattr(pruner, "source_"):
        fresh.bind(pruner.source_, pruner.generate_, pruner.device_)
    return fresh


def _visible(pruner: Pruner, pool: Pool) -> Pool:
    """Only the declared signals."""
    reads = signals_read(pruner)
    generator = None
    if pool.generator is not None and reads & _FROM_GENERATOR:
        generator = _Declared(pool.generator, reads, dict(zip(pool.paths.tolist(), pool.token_ids, strict=True)))
    return replace(
        pool,
        signals={signal: pool.signals[signal] for signal in pool.signals if signal in reads},
        generator=generator,
    )


class _Declared:
    """A generator that answers what a method declares. It knows the prefixes by path: the pool need not show them."""

    def __init__(self, generator: Generator, reads: frozenset[Signal], prefixes: dict[int, NDArray[np.int64]]) -> None:
        self._generator, self._reads, self._prefixes = generator, reads, prefixes

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        asked = Signal.FORCED_ANSWERS if Signal.FORCED_ANSWERS in self._reads else Signal.PROBE
        return self._generator.probe(self._whole(pool, asked), suffix_ids, max_new_tokens)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self._generator.next_logprobs(self._whole(pool, Signal.PROBE), suffix_ids, token_ids)

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self._generator.kv(self._whole(pool, Signal.KV_CACHE), rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        return self._generator.behind(self._whole(pool, Signal.KV_CACHE), learned)

    @property
    def replay_seconds(self) -> float:
        return self._generator.replay_seconds

    def _whole(self, pool: Pool, asked: Signal) -> Pool:
        if asked not in self._reads:
            raise MissingSignalError(asked)
        prefixes = tuple(self._prefixes[path] for path in pool.paths.tolist())
        return replace(pool, signals={Signal.TOKEN_IDS: prefixes, **pool.signals})


def _seen(pruner: Pruner, dataset: PrefixDataset) -> PrefixDataset:
    return PrefixDataset(tuple(replace(labelled, pool=_visible(pruner, labelled.pool)) for labelled in dataset))


def _arrays(pool: Pool) -> Iterator[tuple[str, Any]]:
    for name in ("prompt_ids", "paths", "lengths", "finished", "answer_class"):
        yield f"pool.{name}", getattr(pool, name)
    for signal, value in pool.signals.items():
        yield from ((f"the pool's signal '{signal.name}'", array) for array in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
    """The arrays in a column: one, one per path, or either of these per layer."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ():
        yield from _leaves(part)
    if not isinstance(value, (dict, tuple)):
        yield np.asarray(value)


@contextmanager
def _unmodified(pools: Iterable[Pool]) -> Iterator[list[str]]:
    """Compare all arrays with copies at the end; what changed is in the list."""
    kept = [(name, array, array.copy()) for pool in pools for name, array in _arrays(pool)]
    changed: list[str] = []
    yield changed
    changed += dict.fromkeys(name for name, array, before in kept if not np.array_equal(array, before))
