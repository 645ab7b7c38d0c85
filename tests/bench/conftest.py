from __future__ import annotations

import sys

import pytest

from prunebench.bench import cli


@pytest.fixture
def prunebench(monkeypatch, capsys, tmp_path):
    """Runs the command line here, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # processes beside this one take longer to start than to sample
    monkeypatch.setattr("prunebench.bench.cli.trial._PILOT_SECONDS", 1.0)  # it may take longer than what it plans

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prunebench", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return run


def refused(answer: tuple[int, str, str]) -> str:
    """The one sentence on stderr of a refused call."""
    code, _, err = answer
    lines = [line for line in err.splitlines() if line.startswith("prunebench: ")]
    assert code == 2
    assert "Traceback" not in err
    assert len(lines) == 1
    return lines[0]
