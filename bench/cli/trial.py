"""A few short paths, to know within seconds how a model answers, how long its paths are, and how fast it is here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Path, Request, Rollout, Sampling
from prunebench.bench.engines.chat import template_of
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.errors import UserError
from prunebench.bench.perf.clock import seconds_of
from prunebench.bench.progress import Progress
from prunebench.bench.rollouts.first_look import FirstLook, remedy
from prunebench.bench.rollouts.sampling import problems_of, stored_problem, tasks_of
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.methods.signals import Signal
from prunebench.tasks.task import Problem, Task

SECONDS, TOKENS = 8.0, 64
"""What a trial may take, about, and how long its paths become unless whole ones are asked for."""
_FEW_PATHS, _FEW_TOKENS, _ROWS_AT_LEAST = 4, 2, 8
_LEAST_TOKENS = 8
"""Of a trial; fewer paths are tried where all of them together would not come so far."""
_PROBLEMS, PILOT_PATHS = 4, 8
_READ_PATHS, _READ_TOKENS, _READ_SECONDS = 64, 64, 2.0
_PILOT_SECONDS = 30.0
_TELLING = 0.25
"""With fewer ended paths than this share, their number says nothing about the length of the others."""
_SHORT_TOKENS = 512
"""Of the paths that ``prunebench check`` shows."""
_SHOWN = 1000


@dataclass(frozen=True)
class Trial:
    """Paths of at most ``cap`` tokens, and the seconds that they took together."""

    rollouts: list[Rollout]
    cap: int
    seconds: float

    @property
    def lengths(self) -> list[int]:
        return [len(path.token_ids) for rollout in self.rollouts for path in rollout.paths]

    @property
    def ended(self) -> int:
        """How many paths came to their end."""
        return sum(path.finish == "stop" for rollout in self.rollouts for path in rollout.paths)

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return sum(self.lengths) / self.seconds

    @property
    def how(self) -> str:
        """What was tried, in words."""
        going = f"{self.tried}, {self.ended} of which ended; extrapolated from there"
        return self.tried if self.ended == len(self.lengths) else going

    @property
    def tried(self) -> str:
        return f"tried {len(self.lengths)} paths of at most {self.cap} tokens for {self.seconds:.1f} s"

    def mean_tokens(self, cap: int) -> int | None:
        """The mean length of paths that ``cap`` ends at the latest; None where too few came to their end to tell.

        Of paths that were still going on it is what a constant chance to end at every token gives.
        """
        if self.cap < cap and self.ended < _TELLING * len(self.lengths):
            return None
        ended = len(self.lengths) if self.cap >= cap else self.ended
        return max(1, min(cap, round(sum(self.lengths) / ended)))


def tried(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, seed: int, tokens: int, seconds: float = SECONDS
) -> Trial:
    """Sample to ``tokens`` tokens, or to as many as ``seconds`` allow, going by a few tokens of a few paths.

    Where all requests would come to next to nothing, the first of them is tried, or a few of its paths.
    """
    few = replace(requests[0], paths=requests[0].paths[:_FEW_PATHS])

    def sampled(asked: Sequence[Request], steps: int) -> Trial:
        return _sampled(engine, asked, replace(sampling, max_new_tokens=steps), seed)

    if not engine.backend:
        sampled([few], 1)  # the first call of a model is a slow one
    trial = sampled([few], min(_FEW_TOKENS, tokens))
    left = seconds - trial.seconds

    def steps_of(longer: float) -> int:
        return min(tokens, int(left * trial.cap / (trial.seconds * longer)))

    for asked in (requests, requests[:1], [few]):
        rows = sum(len(request.paths) for request in asked)
        longer = max(1.0, rows / _ROWS_AT_LEAST)  # a token of all rows takes at most so much longer
        if steps_of(longer) >= min(tokens, _LEAST_TOKENS):
            break
    for slower in (longer,) if engine.backend else (longer, 1.0, 1.0):
        steps = steps_of(slower)
        if steps < min(tokens, 2 * trial.cap):
            break
        trial = sampled(asked, steps)
        left -= trial.seconds
        if steps == tokens or trial.ended == rows:
            break
    return trial


def _sampled(engine: Engine, requests: Sequence[Request], sampling: Sampling, seed: int) -> Trial:
    rollouts: list[Rollout] = []
    seconds = seconds_of(lambda: rollouts.extend(engine.sample(requests, sampling, seed)))
    return Trial(rollouts, sampling.max_new_tokens, max(seconds, 1e-6))


@dataclass(frozen=True)
class Asked:
    """The first problems of an experiment as requests, and the most tokens that the context leaves to their paths."""

    problems: list[tuple[Task, Problem]]
    requests: list[Request]
    cap: int

    @classmethod
    def of(cls, engine: Engine, config: RunConfig, paths: int) -> Asked:
        """So many ``paths`` of each. Raises UserError for a prompt that the model cannot take."""
        few = min(_PROBLEMS, config.problems or _PROBLEMS)  # of every task
        problems = problems_of(tasks_of(config), config.split, few, config.seed)[:_PROBLEMS]
        prompts = [engine.encode_prompt(problem.prompt) for _, problem in problems]
        longest = max(map(len, prompts))
        if longest + 1 >= engine.context:
            raise UserError(
                f"a prompt has {longest} tokens, and the context of {engine.name} is {engine.context} tokens"
            )
        requests = [
            Request(f"{task.name}/{problem.id}", ids, tuple(range(paths)))
            for (task, problem), ids in zip(problems, prompts, strict=True)
        ]
        return cls(problems, requests, min(config.max_new_tokens, engine.context - longest))


@dataclass(frozen=True)
class Speed:
    """What a trial of a few tokens tells for a plan; ``cap``: the most tokens of a path.

    ``mean_tokens``, ``tokens_read_per_second``: None where nobody can tell.
    """

    tokens_per_second: float
    tokens_read_per_second: float | None
    mean_tokens: int | None
    cap: int
    how: str


def speed_of(engine: Engine, config: RunConfig, pilot: Pilot | None = None) -> Speed:
    """From as many paths as are sampled together, and from those of a ``pilot``, whose lengths count.

    Of the two speeds the higher one, as few paths leave a machine idle; of as many paths whole ones tell more. Where
    too few paths end to tell how long they are, a few go on for what is left of the time.
    """
    asked = Asked.of(engine, config, config.n)
    together = asked.requests[: max(1, engine.rows_in_flight // config.n)]
    trials = [pilot.trial] if pilot else []
    if pilot is None or (pilot.mean_tokens is not None and len(together) * config.n > len(pilot.trial.lengths)):
        trials.append(tried(engine, together, config.sampling, config.seed, min(TOKENS, asked.cap)))
    if pilot is None and trials[0].mean_tokens(asked.cap) is None:
        few = [replace(request, paths=request.paths[:PILOT_PATHS]) for request in asked.requests]
        longer = tried(engine, few, config.sampling, config.seed, asked.cap, SECONDS - trials[0].seconds)
        trials = [longer, *trials] if longer.mean_tokens(asked.cap) else trials
    longest, fastest = trials[0], max(trials, key=lambda trial: trial.speed)
    how = longest.how if fastest is longest else f"{fastest.tried}; how long paths are: {longest.how}"
    return Speed(fastest.speed, _read_speed(engine, longest, asked), longest.mean_tokens(asked.cap), asked.cap, how)


def _read_speed(engine: Engine, trial: Trial, asked: Asked) -> float | None:
    """Tokens of prefixes that are read again in a second."""
    if not engine.reads:
        return None

    def seconds(paths: Sequence[Path]) -> float:
        ids = tuple(path.token_ids[:_READ_TOKENS] for path in paths)
        pool = replace(pool_of_ids(ids, asked.requests[0].prompt_ids), generator=engine)
        return seconds_of(lambda: engine.reread(pool, {Signal.HIDDEN_STATE}))

    paths = trial.rollouts[0].paths
    seconds(paths[:1])  # to warm up
    one = seconds(paths[:1])
    some = paths[: max(1, min(_READ_PATHS, int(_READ_SECONDS / max(one, 1e-6))))]
    tokens = sum(min(_READ_TOKENS, len(path.token_ids)) for path in some)
    return tokens / max(1e-6, min(seconds(some), seconds(some)))


@dataclass(frozen=True)
class Pilot:
    """A few paths of a few problems, sampled before all others: how long they are, and what is read out of them."""

    asked: Asked
    trial: Trial

    @property
    def mean_tokens(self) -> int | None:
        """None where too few paths came to their end to tell."""
        return self.trial.mean_tokens(self.asked.cap)

    @property
    def whole(self) -> bool:
        """Whether every path came to its end."""
        return self.trial.cap >= self.asked.cap or self.trial.ended == len(self.trial.lengths)

    @classmethod
    def of(cls, engine: Engine, config: RunConfig, progress: Progress | None) -> Pilot:
        """The first paths of the first problems, to their end; without a ``progress`` as far as seconds allow."""
        asked = Asked.of(engine, config, PILOT_PATHS)
        if progress is None:
            trial = tried(engine, asked.requests, config.sampling, config.seed, asked.cap, _PILOT_SECONDS)
        else:
            count = len(asked.requests) * PILOT_PATHS
            tick = progress.stretch(f"{count} paths, to know how long they are", count)
            requests = [replace(request, tick=progress.tokens()) for request in asked.requests]
            trial = _sampled(engine, requests, replace(config.sampling, max_new_tokens=asked.cap), config.seed)
            tick(count)
        return cls(asked, trial)

    def stored(self, engine: Engine) -> list[StoredProblem]:
        """Its paths, graded."""
        return [
            stored_problem(engine, task, problem, request, rollout)
            for (task, problem), request, rollout in zip(
                self.asked.problems, self.asked.requests, self.trial.rollouts, strict=True
            )
        ]

    def right(self, engine: Engine) -> tuple[float, ...]:
        """Of every problem the share of right paths; empty where paths did not come to their end."""
        if not self.whole:
            return ()
        return tuple(sum(path.correct is True for path in p.paths) / len(p.paths) for p in self.stored(engine))

    def looked_at(self, engine: Engine, look: FirstLook, progress: Progress) -> None:
        """Raises UserError where its paths have next to no answers."""
        look.at(self.stored(engine), {task.name: task for task, _ in self.asked.problems}, progress.say)

    def fitted(self, config: RunConfig, prefix: int | None) -> RunConfig:
        """``config`` with a cap that the context allows, and a checkpoint inside the paths."""
        cap = self.asked.cap
        mean = self.mean_tokens or cap
        position = prefix or (config.prefix_tokens if 2 * config.prefix_tokens <= mean else max(1, mean // 8))
        if position >= cap:
            raise UserError(f"--prefix {position}: paths end at {cap} tokens at the latest; check earlier")
        return config.model_copy(update={"max_new_tokens": cap, "prefix_tokens": position})


def shown_paths(engine: Engine, task: Task, problem: Problem, config: RunConfig) -> Iterator[str]:
    """Two short paths of a problem: the prompt as the model gets it, what was read out of them, what a path takes."""
    ids = engine.encode_prompt(problem.prompt)
    form = "through its chat template" if template_of(engine.tokenizer, engine.options) else "without a chat template"
    yield f"--- {problem.id} as {engine.name} really gets it, {form}, {len(ids)} tokens:"
    yield str(engine.tokenizer.decode(ids.tolist(), skip_special_tokens=False))
    request = Request(f"{task.name}/{problem.id}", ids, (0, 1))
    short = min(config.max_new_tokens, _SHORT_TOKENS, engine.context - len(ids))
    trial = tried(engine, [request], config.sampling, config.seed, short)
    stored = stored_problem(engine, task, problem, request, trial.rollouts[0])
    for path in stored.paths:
        text = (path.text or "").strip()
        yield f"--- path {path.path + 1}, {path.length} tokens{'' if path.finish == 'stop' else ', then cut off here'}:"
        yield text if len(text) <= _SHOWN else f"{text[: _SHOWN // 4]}\n[...]\n{text[-3 * _SHOWN // 4 :]}"
        verdict = {True: "right", False: "wrong", None: "which could not be graded"}[path.correct]
        yield (
            "=> no answer is read out of it"
            if path.answer is None
            else f"=> read out of it: {path.answer!r} ({path.found_by}), {verdict}; gold answer {problem.answer!r}"
        )
    yield "---"
    silent = [path for path in stored.paths if path.answer is None]
    if len(silent) == len(stored.paths) and trial.ended:
        yield f"no answer was read: {remedy(task, silent)}"
    speed = f"{trial.speed:,.0f} tokens/s, two together"
    yield f"{trial.seconds / len(stored.paths):.2g} seconds per path on this machine ({speed})"
    if trial.ended < len(stored.paths):
        whole = trial.seconds * config.max_new_tokens / max(trial.lengths)
        yield f"a path that runs to max_new_tokens = {config.max_new_tokens:,} would take {whole:,.0f} s and more"
