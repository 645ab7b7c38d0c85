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
    problem. ``contradicted``: paths whose own answer is not what their text states; ``repeated``: those that say word
    by word what another of the problem does; ``unjoined``: those whose tokens do not make up their text. ``missing``:
    paths without a signal, per signal and problem; ``dropped``: where a signal did not have one finite value per token,
    and why. ``left_out``: paths of the source that are not complete; ``unread``: fields of its rows that nobody reads.
    ``tokens``: as in the manifest. ``guessed``: the answer type that nobody named, unless it is the usual one.
    ``promptless``: problems without a prompt. ``lengths``: of every path, in tokens.
    """

    tokens: str
    guessed: str | None = None
    problems: int = 0
    paths: int = 0
    already: int = 0
    verdicts: int = 0
    left_out: int = 0
    unread: set[str] = field(default_factory=set)
    promptless: int = 0
    lengths: list[int] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    ungradable: Counter[str] = field(default_factory=Counter)
    disagreements: Counter[str] = field(default_factory=Counter)
    contradicted: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    unjoined: Counter[str] = field(default_factory=Counter)
    missing: dict[str, Counter[str]] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def count(self, problem: str, source: SourcePath, stored: StoredPath) -> None:
        """Count one path."""
        self.paths += 1
        self.lengths.append(stored.length)
        if not stored.length:
            self.empty[problem] += 1
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
                self.missing.setdefault(signal, Counter())[problem] += 1
        for signal in ("logprobs", "entropy"):
            values = getattr(source, signal)
            if values is not None and signal not in stored.signals:
                wrong = "a value is missing" if len(values) == stored.length else f"{len(values)} of {stored.length}"
                self.dropped.setdefault(signal, []).append(f"{problem} path {stored.path}: {wrong}")

    def _lacking(self, signal: str) -> int:
        return self.missing.get(signal, Counter[str]()).total()

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
            ("paths whose own answer is not the one that their text states, and counts", self.contradicted),
            ("paths that repeat another of the problem word by word", self.repeated),
            ("paths whose tokens do not make up their text, so that their prefixes have none", self.unjoined),
            ("paths without a single token, behind all others for every method", self.empty),
        ):
            if counts:
                lines.append(f"{what}: {counts.total()} ({_listed(counts)})")
        for signal, places in self.dropped.items():
            listed = "; ".join(places[:LISTED]) + (f"; and {len(places) - LISTED} more" if len(places) > LISTED else "")
            lines.append(f"{signal}: dropped where there is not one finite value per token ({listed})")
        if self.paths:
            nowhere = [signal for signal in _looked_for() if self._lacking(signal) == self.paths]
            lines += [f"missing: {', '.join(nowhere)}"] if nowhere else []
            lines += [
                f"missing for {counts.total()} of {self.paths} paths: {signal} ({_listed(counts)}); no method that "
                "reads it takes part, unless these rows are mended or taken out before they are imported"
                for signal, counts in self.missing.items()
                if counts.total() < self.paths
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
