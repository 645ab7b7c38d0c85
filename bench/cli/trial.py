"""A few short paths, to know within seconds how a model answers, how long its paths are, and how fast it is here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Request, Rollout, Sampling
from prunebench.bench.engines.chat import template_of
from prunebench.bench.perf.clock import seconds_of
from prunebench.bench.rollouts.first_look import remedy
from prunebench.bench.rollouts.sampling import stored_problem
from prunebench.tasks.task import Problem, Task

SECONDS, TOKENS = 12.0, 64
"""What a trial may take, and how long its paths become: longer only where that is asked for."""
_FIRST_TOKENS = 8
_PROBLEMS = 4
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

    def mean_tokens(self, cap: int) -> int | None:
        """The mean length of a path that ``cap`` ends at the latest; None where none came to its end.

        Where some are still going on, it is what a constant chance to end at every token gives.
        """
        if not self.ended:
            return None
        return max(1, min(cap, round(sum(self.lengths) / self.ended)))


def tried(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, seed: int, tokens: int, seconds: float = SECONDS
) -> Trial:
    """Sample to ``tokens`` tokens, or to as many as ``seconds`` allow, going by the first few."""
    trial = _sampled(engine, requests, replace(sampling, max_new_tokens=min(_FIRST_TOKENS, tokens)), seed)
    steps = int(seconds / trial.seconds * trial.cap) - trial.cap
    if trial.ended == len(trial.lengths) or min(steps, tokens) <= trial.cap:
        return trial
    return _sampled(engine, requests, replace(sampling, max_new_tokens=min(steps, tokens)), seed)


def _sampled(engine: Engine, requests: Sequence[Request], sampling: Sampling, seed: int) -> Trial:
    rollouts: list[Rollout] = []
    seconds = seconds_of(lambda: rollouts.extend(engine.sample(requests, sampling, seed)))
    return Trial(rollouts, sampling.max_new_tokens, max(seconds, 1e-6))


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
