"""Pruning on a batch-served cluster, simulated: arrivals, memory for keys and values, waiting at checkpoints.

A replica steps all its paths together. Between two events (a path reaches its checkpoint or its end, a problem arrives,
memory runs out) only lengths change, so whole stretches of steps are added up in closed form. Policies are the suite's
own and get made-up scores. A path that waits at its checkpoint for the others of its problem has been scored already,
by what it holds; where others need the room its keys and values go, and are encoded again if it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.policies import CheckRecord, Policy

Lengths = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step: ``fixed``, ``per_row``, and ``per_token`` of keys and values read; ``encoded``: of one token
    that is encoded again."""

    fixed: float
    per_row: float
    per_token: float
    encoded: float

    def seconds(self, rows: int, read: int, steps: int = 1) -> float:
        """``steps`` steps of ``rows`` rows that attend to ``read`` tokens in the first of them."""
        grown = rows * steps * (steps - 1) / 2
        return steps * (self.fixed + self.per_row * rows) + self.per_token * (steps * read + grown)

    @classmethod
    def fitted(cls, steps: Sequence[tuple[int, int, float]], encoded: float) -> StepCost:
        """From measured (rows, tokens read, seconds): non-negative, by least squares of the relative errors."""
        from scipy.optimize import nnls

        rows, read, seconds = np.array(steps, np.float64).T
        terms, _ = nnls(np.column_stack([np.ones_like(rows), rows, read]) / seconds[:, None], np.ones_like(rows))
        fixed, per_row, per_token = map(float, terms)
        return cls(fixed, per_row, per_token, encoded)

    @classmethod
    def of_machine(
        cls,
        weights: float,
        kv_bytes: float,
        parameters: float,
        bandwidth: float,
        flops: float,
        share: float,
        fixed: float,
    ) -> StepCost:
        """From bytes, bytes/s and FLOP/s, of which ``share`` is reached; ``fixed`` seconds come on top of each step."""
        product = 2 * parameters / flops / share
        return cls(fixed + weights / bandwidth / share, product, kv_bytes / bandwidth / share, product)


@dataclass(frozen=True)
class Arrival:
    """A problem: seconds until it comes, tokens of its prompt, lengths of its paths int64 (N,), made-up scores (N,)."""

    at: float
    prompt: int
    lengths: Lengths
    scores: Array


@dataclass(frozen=True)
class Replica:
    """``capacity`` tokens of keys and values; new paths are let in as long as no more than ``rows`` are stepped.

    A path is let in where there is room for it up to its next checkpoint, or up to ``planned`` tokens where no other
    check comes (0: whatever it has).
    """

    cost: StepCost
    capacity: int
    rows: int = 1 << 30
    planned: int = 0


@dataclass
class Served:
    """What came of it. ``latency`` (problems,) in seconds since arrival; tokens by kind; ``recomputed`` were encoded
    again after their place was needed; ``occupancy``: mean share of the memory in use while steps were taken."""

    latency: list[float] = field(default_factory=list)
    seconds: float = 0.0
    busy_seconds: float = 0.0
    decoded: int = 0
    checked: int = 0
    recomputed: int = 0
    evicted: int = 0
    peak_held: int = 0
    held_seconds: float = 0.0

    def occupancy(self, capacity: int) -> float:
        return self.held_seconds / self.busy_seconds / capacity if self.busy_seconds else 0.0


def serve(
    arrivals: Sequence[Arrival],
    policy: Policy | None,
    position: int,
    replicas: Sequence[Replica],
    check_tokens: int = 0,
) -> Served:
    """All problems on a cluster, dealt out in turn. Without a ``policy`` nothing is pruned.

    ``check_tokens`` are read per path in every check. Raises UserError for a path that fits into no replica.
    """
    together = Served()
    for number, replica in enumerate(replicas):
        dealt = list(arrivals[number :: len(replicas)])
        if not dealt:
            continue
        served = _Simulation(dealt, policy, position, replica, check_tokens).run()
        together.latency += served.latency
        together.seconds = max(together.seconds, served.seconds)
        together.peak_held = max(together.peak_held, served.peak_held)
        for name in ("busy_seconds", "decoded", "checked", "recomputed", "evicted", "held_seconds"):
            setattr(together, name, getattr(together, name) + getattr(served, name))
    return together


ABSENT, QUEUED, ACTIVE, WAITING, DONE = range(5)
"""A path that has not arrived; wants a place; is stepped; waits for others at a checkpoint; is over."""


class _Simulation:
    """One replica. Columns over all paths, problem by problem; the earlier one goes first."""

    def __init__(
        self, arrivals: Sequence[Arrival], policy: Policy | None, position: int, replica: Replica, check_tokens: int
    ) -> None:
        self.arrivals, self.policy, self.replica, self.check_tokens = arrivals, policy, replica, check_tokens
        self.checkpoints = policy.checkpoints(position) if policy else ()
        counts = [len(arrival.lengths) for arrival in arrivals]
        self.starts = np.cumsum([0, *counts])
        self.problem = np.repeat(np.arange(len(arrivals)), counts)
        self.length = np.concatenate([arrival.lengths for arrival in arrivals]).astype(np.int64)
        self.state = np.full(len(self.length), ABSENT)
        self.decoded = np.zeros_like(self.length)
        self.resident = np.zeros(len(self.length), np.bool_)
        self.target = np.zeros_like(self.length)
        self.checks = np.zeros(len(arrivals), np.int64)
        self.history: list[list[CheckRecord]] = [[] for _ in arrivals]
        self.kept = np.ones(len(self.length), np.bool_)
        self.prompts = np.array([arrival.prompt for arrival in arrivals], np.int64)
        self.clock, self.served, self.come = 0.0, Served(latency=[0.0] * len(arrivals)), 0
        most = int(self.prompts.max() + self.length.max())
        if most + 1 > replica.capacity:
            raise UserError(f"a path of {most} tokens with its prompt exceeds the room for {replica.capacity}")

    def run(self) -> Served:
        while (self.state != DONE).any():
            self._arrive()
            self._admit()
            active = np.flatnonzero(self.state == ACTIVE)
            if not len(active):
                if not (self.state == QUEUED).any():
                    self.clock = max(self.clock, self.arrivals[self.come].at)
                elif not self._evict(WAITING):
                    raise AssertionError("room is taken by nobody")
                continue
            room = self.replica.capacity - self._held()
            if room < len(active):
                if not self._evict(WAITING):
                    self._evict(ACTIVE)
                continue
            self._step(active, min(int((self.target[active] - self.decoded[active]).min()), room // len(active)))
            self._settle(active)
        self.served.seconds = self.clock
        return self.served

    def _held(self) -> int:
        """Tokens in memory: those of paths, and the prompts of problems that have any there (shared by their paths)."""
        return int(self.decoded[self.resident].sum() + self.prompts[np.unique(self.problem[self.resident])].sum())

    def _arrive(self) -> None:
        while self.come < len(self.arrivals) and self.arrivals[self.come].at <= self.clock:
            paths = slice(self.starts[self.come], self.starts[self.come + 1])
            self.state[paths] = QUEUED
            self._aim(self.come)
            self.come += 1

    def _aim(self, problem: int) -> None:
        """The next checkpoint of a problem's paths, or their ends."""
        paths = slice(self.starts[problem], self.starts[problem + 1])
        done = self.checks[problem]
        ahead = self.checkpoints[done] if done < len(self.checkpoints) else np.iinfo(np.int64).max
        self.target[paths] = np.minimum(self.length[paths], ahead)

    def _reserved(self, paths: NDArray[np.int64]) -> Lengths:
        """Tokens that each is let in with."""
        last = self.checks[self.problem[paths]] >= len(self.checkpoints)
        planned = np.where(last, self.replica.planned, self.target[paths])
        return np.maximum(np.minimum(planned, self.target[paths]), self.decoded[paths])

    def _admit(self) -> None:
        """In order, as many as there are rows and room for; what they had decoded is encoded again."""
        queued = np.flatnonzero(self.state == QUEUED)
        active = np.flatnonzero(self.state == ACTIVE)
        queued = queued[: max(0, self.replica.rows - len(active))]
        if not len(queued):
            return
        here = np.unique(self.problem[self.resident])
        waiting = self.resident & (self.state == WAITING)
        taken = self._reserved(active).sum() + self.decoded[waiting].sum() + self.prompts[here].sum()
        first = np.diff(self.problem[queued], prepend=-1) != 0
        new_prompt = np.where(first & ~np.isin(self.problem[queued], here), self.prompts[self.problem[queued]], 0)
        # One more token each, or a path that was let in might have to go before its first step.
        needed = np.cumsum(self._reserved(queued) + new_prompt) + np.arange(1, len(queued) + 1) + len(active)
        entering = queued[needed + taken <= self.replica.capacity]
        recomputed = int(self.decoded[entering].sum())
        self.served.recomputed += recomputed
        self._spend((recomputed + int(new_prompt[: len(entering)].sum())) * self.replica.cost.encoded)
        self.state[entering], self.resident[entering] = ACTIVE, True

    def _evict(self, state: int) -> bool:
        """Take the last one's place away; whether there was one."""
        there = np.flatnonzero(self.resident & (self.state == state))
        if not len(there):
            return False
        last = there[-1]
        self.resident[last] = False
        if state == ACTIVE:
            self.state[last] = QUEUED
        self.served.evicted += 1
        return True

    def _step(self, active: NDArray[np.int64], steps: int) -> None:
        """So many steps of all of them, but not beyond the next arrival by more than one."""
        held, cost = self._held(), self.replica.cost
        read = int(self.decoded[active].sum() + self.prompts[self.problem[active]].sum())
        if self.come < len(self.arrivals):
            ahead = self.arrivals[self.come].at - self.clock
            steps = max(1, min(steps, int(np.ceil(ahead / cost.seconds(len(active), read)))))
        self._spend(cost.seconds(len(active), read, steps), held + len(active) * steps // 2)
        self.decoded[active] += steps
        self.served.decoded += len(active) * steps
        self.served.peak_held = max(self.served.peak_held, held + len(active) * steps)

    def _spend(self, seconds: float, held: int = 0) -> None:
        self.clock += seconds
        self.served.busy_seconds += seconds
        self.served.held_seconds += seconds * held

    def _settle(self, active: NDArray[np.int64]) -> None:
        """What the paths that have reached their aim do next."""
        there = active[self.decoded[active] == self.target[active]]
        ended = there[self.decoded[there] == self.length[there]]
        self.state[there], self.state[ended] = WAITING, DONE
        self.resident[ended] = False
        for problem in np.unique(self.problem[there]):
            paths = np.arange(self.starts[problem], self.starts[problem + 1])
            if (self.state[paths] == DONE).all():
                self._over(problem)
            elif np.isin(self.state[paths], (WAITING, DONE)).all():
                self._check(problem, paths)

    def _over(self, problem: int) -> None:
        self.served.latency[problem] = self.clock - self.arrivals[problem].at

    def _check(self, problem: int, paths: NDArray[np.int64]) -> None:
        """Ask the policy; the paths that it keeps and that have not ended go on."""
        assert self.policy is not None
        alive, position = self.kept[paths], self.checkpoints[self.checks[problem]]
        read = int(alive.sum()) * self.check_tokens
        if read:
            self.served.checked += read
            self._spend(self.replica.cost.seconds(read, int(self.decoded[paths[alive]].sum())))
        scores = np.where(alive, self.arrivals[problem].scores, np.nan)
        nothing = np.full(len(paths), -1)
        record = CheckRecord(position, scores, self.length[paths] <= position, nothing, alive)
        self.history[problem].append(record)
        decision = self.policy.decide(self.history[problem])
        self.kept[paths] = decision.keep
        gone = paths[~decision.goes_on]
        self.state[gone], self.resident[gone] = DONE, False
        self.checks[problem] += 1
        self._aim(problem)
        on = paths[self.state[paths] == WAITING]
        self.state[on] = np.where(self.resident[on], ACTIVE, QUEUED)
        if not len(on):
            self._over(problem)
