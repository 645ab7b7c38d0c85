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


def test_in_a_file_a_stretch_that_ends_is_one_line_and_what_takes_long_is_said(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO())
    shown = Bars(console)
    monkeypatch.setattr(shown.shown, "get_time", lambda: now[0])
    with shown.shown:
        tick, tokens = shown.stretch("sampling " * 12, 4), shown.tokens()
        now[0] = 10.0
        tokens(500)
        tick(4)
        tick(0)
        assert capsys.readouterr().err == f"{'sampling ' * 12}: 4 of 4, 500 tokens, 50/s, 10 s\n"
        now[0] = 45.0
        shown.beat()
        shown.beat()
        assert capsys.readouterr().err == f"after {'sampling ' * 12}: at work, 35 s\n"
        shown.stretch("scoring", 9)
        now[0] = 80.0
        shown.beat()
        assert capsys.readouterr().err == "scoring: 0 of 9, 35 s\n"
    assert console.file.getvalue() == ""
