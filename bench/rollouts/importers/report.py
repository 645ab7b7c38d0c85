"""What an import found, and what it could not find: missing answers, verdicts and signals, never filled in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import mean, median

from prunebench.bench.rollouts.importers.contract import SourcePath
from prunebench.bench.rollouts.importers.units import SOURCE, WORDS
from prunebench.bench.rollouts.store import StoredPath
from prunebench.methods.signals import PRIVILEGED, Signal

LISTED = 8
"""So many problems are named in one line."""


@dataclass
class Report:
    """Counts over the problems that this call imported; ``already`` counts those that were in the store before.

    ``unanswered`` and ``ungradable``: paths per problem whose answer could not be parsed, or not be compared with the
    gold answer. ``verdicts``: paths that the source had graded; ``disagreements``: those graded otherwise here, per
    problem. ``missing``: paths without a signal, per signal; ``dropped``: signals that did not have one finite value
    per token. ``left_out``: paths of the source that are not complete; ``unread``: fields of its rows that nobody
    reads. ``tokens``: as in the manifest. ``guessed``: the answer type that nobody named, unless it is the usual one.
    ``promptless``: problems without a prompt.
    ``lengths``: of every path, in tokens.
    """

    tokens: str
    guessed: str | None = None
    problems: int = 0
    paths: int = 0
    already: int = 0
    empty: int = 0
    verdicts: int = 0
    left_out: int = 0
    unread: set[str] = field(default_factory=set)
    promptless: int = 0
    lengths: list[int] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    ungradable: Counter[str] = field(default_factory=Counter)
    disagreements: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def count(self, problem: str, source: SourcePath, stored: StoredPath) -> None:
        """Count one path."""
        self.paths += 1
        self.lengths.append(stored.length)
        self.empty += stored.length == 0
        if stored.finish == "length":
            self.cut[problem] += 1
        if stored.answer is None:
            self.unanswered[problem] += 1
        elif stored.correct is None:
            self.ungradable[problem] += 1
        self.verdicts += source.correct is not None
        if None not in (source.correct, stored.correct) and source.correct != stored.correct:
            self.disagreements[problem] += 1
        for signal in _looked_for():
            if signal not in _signals(stored):
                self.missing[signal] += 1
        for signal in ("logprobs", "entropy"):
            if getattr(source, signal) is not None and signal not in stored.signals:
                self.dropped[signal] += 1

    def lines(self) -> list[str]:
        """The report for a terminal."""
        lines = [f"imported {self.problems} problems with {self.paths} paths"]
        if self.already:
            lines[0] += f"; {self.already} problems were there already"
        if self.left_out:
            lines.append(f"left out: {self.left_out} paths that the source had stopped early")
        if self.tokens == WORDS:
            lines.append("tokens: words, not the model's tokens (--set tokenizer=FOLDER_OR_ID counts those)")
        elif self.tokens != SOURCE:
            lines.append(f"tokens: those of {self.tokens}")
        if self.lengths:
            unit = "words" if self.tokens == WORDS else "tokens"
            lines.append(
                f"lengths of paths: mean {mean(self.lengths):,.0f} {unit} (guideline --task-length), median "
                f"{median(self.lengths):,.0f}"
            )
        if self.guessed:
            lines.append(f"answers: {self.guessed}, as every gold answer is a letter (--answer-type says otherwise)")
        if self.unread:
            lines.append(
                f"fields that are not read (docs/importing.md has the others): {', '.join(sorted(self.unread))}"
            )
        if self.verdicts:
            lines.append(f"verdicts of the source: {self.verdicts}")
        if self.promptless:
            lines.append(f"problems without a prompt: {self.promptless}")
        for what, counts in (
            ("paths that were cut off at their length", self.cut),
            ("paths without an answer that could be parsed", self.unanswered),
            ("paths with an answer that could not be graded", self.ungradable),
            (f"paths graded otherwise than by the source, which graded {self.verdicts}", self.disagreements),
        ):
            if counts:
                lines.append(f"{what}: {counts.total()} ({_listed(counts)})")
        if self.empty:
            lines.append(f"paths without a single token: {self.empty}")
        for signal, count in self.dropped.items():
            lines.append(f"{signal}: dropped for {count} paths, because they do not have one finite value per token")
        if self.paths:
            nowhere = [signal for signal in _looked_for() if self.missing[signal] == self.paths]
            lines += [f"missing: {', '.join(nowhere)}"] if nowhere else []
            lines += [
                f"missing for {count} of {self.paths} paths: {signal}"
                for signal, count in self.missing.items()
                if count < self.paths
            ]
        return lines


def _looked_for() -> tuple[str, ...]:
    """What methods may read of paths that are sampled here."""
    return ("prefix text", *(signal.name for signal in Signal if signal not in {Signal.TEXT, *PRIVILEGED}))


def _signals(stored: StoredPath) -> set[str]:
    beside = {"token_ids": stored.token_ids, "prefix text": stored.ends, "forced_answers": stored.probed}
    return {*stored.signals, *(name for name, column in beside.items() if column is not None)}


def _listed(counts: Counter[str]) -> str:
    named = [f"{problem}: {count}" for problem, count in list(counts.items())[:LISTED]]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f" and {rest} more problems" if rest else "")
