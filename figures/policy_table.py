"""The policy table: several checks against one check at equal cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunebench.bench.evaluation.results import PolicyRow, Results
from prunebench.bench.files import rows_csv, write_atomically
from prunebench.figures.table_text import markdown_table, number, with_interval

HEADER = ("method", "policy", "tokens", "one check", "its tokens", "Δ avg [95 %]", "Δ maj [95 %]")


@dataclass(frozen=True)
class PolicyTable:
    """Differences in points: the policy minus ``topk`` with the largest k that costs no more, paired over problems."""

    results: Results

    def rows(self) -> list[list[str]]:
        return [
            [
                row.method,
                row.policy,
                number(row.tokens, 0),
                f"topk:{row.one_check_k}",
                number(row.one_check_tokens, 0),
                with_interval(row.avg_difference, row.avg_difference_low, row.avg_difference_high, signed=True),
                with_interval(row.maj_difference, row.maj_difference_low, row.maj_difference_high, signed=True),
            ]
            for row in self.results.policies
        ]

    def markdown(self) -> str:
        return markdown_table(HEADER, self.rows(), texts=2)

    def csv(self) -> str:
        return rows_csv(PolicyRow, self.results.policies)

    def write(self, folder: Path) -> None:
        write_atomically(folder / "policy_table.md", self.markdown().encode())
        write_atomically(folder / "policy_table.csv", self.csv().encode())
