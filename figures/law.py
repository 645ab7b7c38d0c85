"""The fitted retention law over the measured optima (STOP paper, Figure 6), with what resampling makes of it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prunebench.bench.files import csv_text
from prunebench.bench.guideline.forms import inverse_of
from prunebench.bench.guideline.guideline import Guideline
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, MUTED, WIDTH_INCHES, new_figure, theme, thousands

TASK_STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "^"),
    ("#009E73", "s"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    ("#E69F00", "P"),
)
HEIGHT, TOP, FOOT, LEFT = 2.05, 0.48, 0.62, 0.40


@figure(
    "law", "The fitted law of the best retention ratio over the measured optima.", needs="prunebench sweep", place=80
)
def draw(run: RunFolder) -> Drawing:
    return Drawing(law(run.guideline), law_csv(run.guideline))


def law_csv(guideline: Guideline) -> str:
    """A line per measured optimum: its ratios that are as good, and what each form gives there."""
    columns = ("task", "task_length", "prefix", "budget", "gamma", "as_good_low", "as_good_high", "law", "constant",
               "log_linear")  # fmt: skip
    rows = (
        (
            optimum.task, optimum.task_length, optimum.prefix, optimum.budget, optimum.gamma,
            min(optimum.as_good), max(optimum.as_good),
            *(1 / guideline.inverse_gamma(form, optimum.budget, optimum.prefix, optimum.task_length)
              for form in ("law", "constant", "log-linear")),
        )
        for optimum in guideline.optima
    )  # fmt: skip
    return csv_text(columns, rows)


def law(guideline: Guideline) -> Figure:
    """A panel per prefix length: measured optima with all ratios that are as good, and the law with its band.

    Points of several tasks at one budget stand side by side; the curve is that of the mean task length.
    """
    wide = (WIDTH_INCHES - LEFT - 0.06 - 0.08 * (len(guideline.prefixes) - 1)) / len(guideline.prefixes)
    tasks = list(guideline.lengths)
    length = float(np.mean(list(guideline.lengths.values())))
    budgets = np.geomspace(min(guideline.budgets), max(guideline.budgets), 40)
    fit = guideline.fit("law")
    largest = 1 / min(guideline.gammas)
    with theme():
        figure = new_figure(HEIGHT)
        constants = ", ".join(f"{name} = {constant.mean:.2g}" for name, constant in fit.constants.items())
        figure.text(0.02, 1 - 0.05 / HEIGHT, f"{guideline.method}: 1/γ = a Cᵇ Lpᶜ / Ltᵈ", va="top", fontsize=7.5)
        figure.text(0.02, 1 - 0.21 / HEIGHT, f"{constants}; band: 95 % of resamples",
                    va="top", fontsize=6, color=MUTED)  # fmt: skip
        for index, prefix in enumerate(guideline.prefixes):
            left = (LEFT + index * (wide + 0.08)) / WIDTH_INCHES
            ax = figure.add_axes((left, FOOT / HEIGHT, wide / WIDTH_INCHES, 1 - (FOOT + TOP + 0.14) / HEIGHT))
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.set(xlim=(budgets[0] / 1.5, budgets[-1] * 1.5), ylim=(0.75, largest * 1.35))
            ax.xaxis.set_major_locator(FixedLocator(guideline.budgets[:: max(1, len(guideline.budgets) // 2)]))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x / 1024 * 1000)))
            ax.yaxis.set_major_locator(FixedLocator([2.0**i for i in range(int(np.log2(largest)) + 1)]))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0f}"))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_minor_locator(NullLocator())
            ax.tick_params(pad=1, length=0)
            if index:
                ax.set_yticklabels([])
            ax.set_title(f"Lp = {prefix}", fontsize=7, pad=2, loc="left")
            band = np.array([[inverse_of("law", drawn, c, prefix, length) for c in budgets] for drawn in fit.resampled])
            low, high = np.percentile(band, [2.5, 97.5], axis=0)
            ax.fill_between(
                budgets, np.clip(low, 0.7, None), np.clip(high, 0.7, largest * 2), color="#DDDDDD", zorder=1
            )
            ax.plot(budgets, [guideline.inverse_gamma("law", c, prefix, length) for c in budgets], color=INK, zorder=3)
            _optima(ax, guideline, prefix)
        figure.text(0.5, 0.31 / HEIGHT, "budget C, tokens per problem", ha="center", fontsize=7)
        figure.text(0.03, (FOOT + (HEIGHT - FOOT - TOP) / 2) / HEIGHT, "best 1/γ", rotation=90, ha="center",
                    va="center", fontsize=7)  # fmt: skip
        handles = [
            Line2D([], [], color=TASK_STYLES[i % len(TASK_STYLES)][0], marker=TASK_STYLES[i % len(TASK_STYLES)][1],
                   markersize=3, linestyle="none", label=task.rpartition("/")[2])
            for i, task in enumerate(tasks)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.01), ncols=len(handles),
                      handletextpad=0.1, columnspacing=0.8, borderaxespad=0)  # fmt: skip
    return figure


def _optima(ax: Axes, guideline: Guideline, prefix: int) -> None:
    tasks = list(guideline.lengths)
    for optimum in guideline.optima:
        if optimum.prefix != prefix:
            continue
        index = tasks.index(optimum.task)
        color, marker = TASK_STYLES[index % len(TASK_STYLES)]
        x = optimum.budget * 1.13 ** (index - (len(tasks) - 1) / 2)
        ends = [1 / max(optimum.as_good), 1 / min(optimum.as_good)]
        ax.plot([x, x], ends, color=color, linewidth=0.7, alpha=0.6)
        ax.plot([x], [1 / optimum.gamma], color=color, marker=marker, markersize=3, linestyle="none", zorder=4,
                markeredgecolor="white", markeredgewidth=0.3)  # fmt: skip
