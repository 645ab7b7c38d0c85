"""A command that works shows it, in a file as well."""

from __future__ import annotations

import io

from rich.console import Console

from prunebench.bench.cli import bars
from prunebench.bench.cli.bars import Bars


def test_tokens_stand_beside_the_paths():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    shown = Bars(console)
    with shown.shown:
        tick = shown.stretch("sampling", 4)
        shown.tokens()(12_345)
        tick(2)
    text = console.file.getvalue()
    assert "2/4" in text and "12,345 tokens" in text


def test_the_rate_of_a_stretch_that_ended_stays(monkeypatch):
    now = [0.0]
    shown = Bars(Console(file=io.StringIO(), force_terminal=True, width=160))
    monkeypatch.setattr(shown.shown, "get_time", lambda: now[0])
    tick, tokens = shown.stretch("sampling", 4), shown.tokens()
    tokens(1_000)
    now[0] = 10.0
    tick(4)
    now[0] = 50.0
    (task,) = shown.shown.tasks
    assert bars.tokens_of(task, 1_000) == "1,000 tokens, 100/s"


def test_where_no_terminal_is_a_line_comes_from_time_to_time(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    shown = Bars(Console(file=io.StringIO()))
    tick, tokens = shown.stretch("sampling", 4), shown.tokens()
    tokens(100)
    assert capsys.readouterr().err == ""
    now[0] = 31.0
    tokens(400)
    tick(1)
    assert capsys.readouterr().err.startswith("sampling: 0 of 4, 500 tokens, ")
    now[0] = 62.0
    tick(1)
    assert capsys.readouterr().err.startswith("sampling: 2 of 4, 500 tokens, ")
