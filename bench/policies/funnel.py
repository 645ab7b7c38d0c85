"""Several checks, each of which leaves fewer paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from prunebench.bench.errors import UserError
from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, Policy, keep_best, policy, require
from prunebench.bench.policies.keep_all import KeepAll


@policy
@dataclass(frozen=True)
class Funnel(Policy):
    """Fewer and fewer: ``funnel:64@32,32@64,16@96`` checks 64 paths at 32 tokens, 32 at 64 and 16 at 96.

    K@L reads "K paths are checked at L tokens". Each check keeps as many as the next one names, and the last one
    ``last``, written ``:8`` behind the stages (default: half of its own): 64 -> 32 -> 16 -> 8, the STOP paper's future
    work (arXiv 2604.16029). The checkpoints are the stages' own, whatever the experiment's is. Raises UserError for
    stages that do not go down in paths and up in tokens, and when there are not as many paths as the first one names.
    """

    kind = "funnel"
    example = "funnel:64@32,32@64,16@96:8"

    stages: tuple[tuple[int, int], ...]
    last: int | None = None
    finished: FinishedRule = "rank"

    def __post_init__(self) -> None:
        require(self, len(self.stages) > 0, "there must be a stage PATHS@TOKENS")
        require(self, all(a < b for a, b in pairwise([0, *self.checkpoints(0)])), "tokens must go up")
        paths = [*(k for k, _ in self.stages), self.kept]
        require(self, all(a > b for a, b in pairwise(paths)), "paths must go down")
        require(self, self.kept >= 1, "the last check must keep at least 1")

    @property
    def kept(self) -> int:
        """How many paths the last check keeps."""
        return max(1, self.stages[-1][0] // 2) if self.last is None else self.last

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return tuple(tokens for _, tokens in self.stages)

    def scaled(self, paths: int, of: int) -> Policy:
        """The stages in proportion; those that would leave no fewer paths than the one behind them are no checks."""
        kept = max(1, round(self.kept * paths / of))
        stages: list[tuple[int, int]] = []
        for count, tokens in reversed(self.stages):
            least = stages[0][0] if stages else kept
            if (after := round(count * paths / of)) > least:
                stages.insert(0, (after, tokens))
        return Funnel(tuple(stages), kept, self.finished) if stages else KeepAll()

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        count = len(history[0].scores)
        if count != self.stages[0][0]:
            raise UserError(
                f"policy {self} begins with {self.stages[0][0]} paths, but there are {count}; "
                f"name all of them first, as in {Funnel(((count, self.stages[0][1]),)) if count > 1 else self.example}"
            )
        after = [*(k for k, _ in self.stages[1:]), self.kept]
        return Decision(keep_best(history[-1], after[len(history) - 1], self.finished))

    def __str__(self) -> str:
        end = "" if self.last is None else f":{self.last}"
        return f"{self.kind}:{','.join(f'{k}@{tokens}' for k, tokens in self.stages)}{end}{self.finished_suffix}"
