"""The table of votes: what pruning gains, and what a weighted vote gains on top of it, apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunebench.bench.evaluation.formats import number, with_interval
from prunebench.bench.evaluation.results import Results, rows_csv
from prunebench.bench.files import write_atomically
from prunebench.figures.table_text import markdown_table

HEADER = ("method", "voters", "vote", "accuracy", "pruning gain [95 %]", "vote gain [95 %]", "ties %")


@dataclass(frozen=True)
class VoteTable:
    """One row per method, voters and vote."""

    results: Results

    def rows(self) -> list[list[str]]:
        return [
            [
                row.method,
                row.voters,
                row.vote,
                number(row.accuracy),
                with_interval(row.pruning_gain, signed=True),
                with_interval(row.vote_gain, signed=True),
                number(row.tie_rate),
            ]
            for row in self.results.votes
        ]

    def markdown(self) -> str:
        if not self.results.votes:
            return f"{NO_VOTES}\n"
        return f"{markdown_table(HEADER, self.rows(), texts=3)}\n{LEGEND}\n"

    def write(self, folder: Path) -> None:
        """``vote_table.md`` and, where there are votes, ``.csv``."""
        write_atomically(folder / "vote_table.md", self.markdown().encode())
        if not self.results.votes:
            return
        write_atomically(folder / "vote_table.csv", rows_csv(self.results.votes).encode())


NO_VOTES = (
    "No votes are told apart here: no method of this comparison scores every path once and lets the paths that it "
    "keeps vote with their final answers."
)
LEGEND = (
    "voters: the k paths that the method kept, or all N with its scores as weights. pruning gain: majority over these "
    "voters minus majority over all N. vote gain: this vote minus majority, over the same voters. Ties count their "
    "expected value."
)
