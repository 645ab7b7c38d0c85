"""One self-contained HTML file about one run: words, tables, figures, a calculator and every path."""

from prunebench.figures.report.page import write_report

__all__ = ["write_report"]
