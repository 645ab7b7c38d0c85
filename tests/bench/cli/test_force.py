"""A run whose first problem has no answers stops, unless it is told to go on."""

from __future__ import annotations

import pytest

from tests.bench.cli.test_experiment import five  # noqa: F401 - a fixture
from tests.bench.conftest import refused

SHORT = ("--task", "five.yaml", "--set", "n=8", "--set", "k=2", "--set", "max_new_tokens=20")
"""Paths of the shipped reasoner are longer."""
COMMANDS = {
    "rollouts": (*SHORT, "--set", "prefix_tokens=10", "--out", "o"),
    "compare": (*SHORT, "--prefix", "10", "--methods", "entropy,none", "--out", "o"),
    "run": (*SHORT, "--set", "prefix_tokens=10", "--set", "methods=entropy,none", "--out", "o"),
    "advise": (*SHORT, "--prefix", "10", "--methods", "entropy,random", "--out", "o"),
}


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("command", COMMANDS)
def test_paths_that_are_all_cut_off_stop_it(prunebench, tmp_path, command):
    arguments = COMMANDS[command]
    sentence = refused(prunebench(command, *arguments))
    assert " were cut off at 20 tokens: no table can come of that; one of them: '" in sentence
    first = "of 16 paths of the first 2 problems" if command == "advise" else "of 8 paths of the first problem (five/"
    assert first in sentence
    assert "--set max_new_tokens=40" in sentence and sentence.endswith("or go on all the same: --force")
    assert not list(tmp_path.rglob("*.parquet")), "nothing is stored of it"
    code, out, err = prunebench(command, "--force", *arguments)
    assert code == 0, err
    assert "note: of " in out and list(tmp_path.rglob("*.parquet"))


@pytest.mark.usefixtures("five")
def test_rollouts_that_are_there_are_looked_at_too(prunebench):
    assert prunebench("rollouts", *COMMANDS["rollouts"], "--force")[0] == 0
    stored = ("compare", "--store", "o", "--methods", "entropy,none", "--out", "c")
    assert "8 were cut off at 20 tokens" in refused(prunebench(*stored))
    assert prunebench(*stored, "--force")[0] == 0


@pytest.mark.parametrize("command", ["demo", "list", "figures"])
def test_no_other_command_takes_it(prunebench, command):
    assert f"--force: {command} makes no use of it; leave it out" in refused(prunebench(command, "--force"))
