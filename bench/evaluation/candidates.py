"""Who takes part in a comparison: pruners under policies, with their cards, and why others are left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.served import refusal
from prunebench.bench.errors import UserError
from prunebench.bench.policies import Policy, parse_policy
from prunebench.bench.policies.procedures import NONE, PROCEDURES, Procedure
from prunebench.bench.rollouts.store import IMPORTED
from prunebench.bench.training.cards import Card, describe
from prunebench.bench.training.loading import Judges, Learned, load_method, parts_of, reads_of, uses_judge
from prunebench.methods.base import LearnablePruner, Pruner, Signal, Source
from prunebench.methods.registry import PRUNERS
from prunebench.methods.signals import PRIVILEGED


@dataclass(frozen=True)
class Candidate:
    """A pruner under a policy, its card where it was tuned, and a remark for its row.

    ``procedure``: where it runs under a policy of its own; all others run under that of the comparison. ``reads``: the
    signals that it and its members read. ``members``: the same, trained with further seeds; its row is the mean.
    """

    name: str
    pruner: Pruner
    policy: Policy
    card: Card | None = None
    note: str = ""
    procedure: Procedure | None = None
    reads: frozenset[Signal] = field(default=frozenset())
    members: tuple[Pruner, ...] = ()

    @property
    def is_control(self) -> bool:
        """Whether it is none of the methods that are compared, but a line to hold them against."""
        return self.pruner.source is Source.CONTROL

    @property
    def competes(self) -> bool:
        """Whether it is one of the methods that are compared: no control, and tuned as all others.

        A procedure keeps the settings of its source, and as many paths as it sees fit.
        """
        return not self.is_control and self.procedure is None

    @property
    def configuration(self) -> str:
        return describe(self.pruner)

    def policy_for(self, paths: int, config: RunConfig) -> Policy:
        """Its policy for a pool of so many ``paths``, at the retention ratio of the comparison."""
        if self.procedure is None:
            return self.policy.scaled(paths, config.n)
        return self.procedure.policy(paths, max(1, round(config.k / config.n * paths)), config.prefix_tokens)


def comparison_policy(config: RunConfig) -> Policy:
    """What all methods run under that have no policy of their own."""
    return parse_policy(config.policy or f"topk:{config.k}")


def choose(
    config: RunConfig, learned: Learned, model_hash: str, judges: Judges, readable: bool = True
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Candidates ready to run, and why others are left out.

    Where prefixes are not ``readable``, the model being on a server, these are the methods that look from outside. A
    method that was asked for by name must run: its error is raised. With no names, every registered one is tried.
    """
    candidates: dict[str, Candidate] = {}
    left_out: dict[str, str] = {}
    for name in config.methods or [*PRUNERS.names(), *PROCEDURES]:
        try:
            if model_hash == IMPORTED:
                refuse_learned(name)
            if not readable and (reason := refusal(name, _reads(name))):
                raise UserError(reason)
            candidates[name] = _candidate(name, config, learned, model_hash, judges)
        except UserError as error:
            if config.methods:
                raise
            left_out[name] = str(error)
    for control in ("random", "none"):
        if control not in candidates:  # every difference is taken to these two
            candidates = {control: _candidate(control, config, learned, model_hash, judges), **candidates}
    return candidates, left_out


def _procedure(name: str) -> Procedure | None:
    return NONE if name == "none" else PROCEDURES.get(name)


def method_of(name: str) -> str | None:
    """The method behind a name: itself, or the one that a procedure scores with, if any."""
    procedure = _procedure(name)
    return name if procedure is None else procedure.method


def _reads(name: str) -> frozenset[Signal]:
    method = method_of(name)
    return reads_of([method]) if method else frozenset()


def reads_again(name: str) -> bool:
    """Whether a method or procedure looks at more than is stored of the prefixes, or has a judge who reads them."""
    stored = {signal for signal in Signal if signal.recorded} | {Signal.TEXT, Signal.TOKEN_IDS, *PRIVILEGED}
    return bool(_reads(name) - stored) or any(map(uses_judge, parts_of(method_of(name) or "none")))


def refuse_learned(name: str) -> None:
    """Raises UserError for what is fitted to labels of the generating model, which imported rollouts lack."""
    procedure = _procedure(name)
    method = name if procedure is None else procedure.method
    for part in parts_of(method) if method else ():
        if part in PRUNERS.names() and issubclass(PRUNERS.get(part), LearnablePruner):
            raise UserError(
                f"method '{part}' learns from continuations of labelled prefixes; the model of imported rollouts is "
                "not at hand"
            )


def _candidate(name: str, config: RunConfig, learned: Learned, model_hash: str, judges: Judges) -> Candidate:
    procedure = _procedure(name)
    if procedure is None:
        method = load_method(name, learned, model_hash, config.prefix_tokens, judges)
        policy = comparison_policy(config)
        return Candidate(name, method.pruner, policy, method.card, method.note, None, _reads(name), method.members)
    policy = procedure.policy(config.n, config.k, config.prefix_tokens)
    if procedure.method is None:
        return Candidate(name, procedure.pruner(None), policy, procedure=procedure)
    method = load_method(procedure.method, learned, model_hash, config.prefix_tokens, judges)
    pruner = procedure.pruner(method.pruner)
    return Candidate(name, pruner, policy, method.card, method.note, procedure, _reads(name))
