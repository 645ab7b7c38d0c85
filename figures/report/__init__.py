"""One self-contained HTML file about a run: words, tables, figures, a calculator and every path; or about several."""

from prunebench.figures.report.leaderboard import write_leaderboard
from prunebench.figures.report.page import write_report

__all__ = ["write_leaderboard", "write_report"]
