"""Every command that writes is stopped at its writes, killed for real, and met by a disk that takes nothing.

By default a command is stopped at its first and its last write; with PRUNEBENCH_SURVIVE=1 at every one of them (of
a training at 16, evenly spread), and killed three times.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prunebench.bench import cli, files
from tests.bench.conftest import prunebench, refused  # noqa: F401 - a fixture
from tests.torture import commands, left_by, leftovers, prepare, tortured

MOST_WRITES = 16
THOROUGH = os.environ.get("PRUNEBENCH_SURVIVE") == "1"
COMMANDS = ("rollouts", "label", "train", "compare")


class Stopped(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """What the commands start from."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, lambda line: called(patch, line))
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """Where a command that nothing stopped wrote, and how many writes it made; each is called once."""
    made = {}

    def unstopped(command):
        if command not in made:
            out = tmp_path_factory.mktemp("whole")
            with pytest.MonkeyPatch.context() as patch:
                count = stopping(patch, None, before=False)
                called(patch, commands(base, out)[command])
            assert left_by(command, out) and not leftovers(out)
            made[command] = out, count[0]
        return made[command]

    return unstopped


def called(patch, line):
    patch.setattr("sys.argv", ["prunebench", *line])
    patch.setenv("COLUMNS", "140")
    patch.setattr("os.cpu_count", lambda: 1)  # processes beside this one take longer to start than to sample
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def stopping(patch, at, before):
    """Renames are the moments at which something comes to stand; the ``at``-th is the last. None: only count."""
    rename, count = Path.replace, [0]

    def replace(path, target):
        count[0] += 1
        if before and count[0] == at:
            raise Stopped
        done = rename(path, target)
        if not before and count[0] == at:
            raise Stopped
        return done

    patch.setattr(Path, "replace", replace)
    return count


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_stopped_at_any_write_ends_as_if_it_had_not_been(base, whole, tmp_path, command, monkeypatch):
    """Stopped before and after every single write, and then called again."""
    unstopped, writes = whole(command)
    assert writes >= 3
    # A training writes its state again and again.
    for at in sorted({round(x) for x in np.linspace(1, writes, min(writes, MOST_WRITES if THOROUGH else 2))}):
        for before in (True, False):
            out = tmp_path / "out"
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stopping(patch, at, before)
                called(patch, commands(base, out)[command])
            with monkeypatch.context() as patch:
                called(patch, commands(base, out)[command])
            assert left_by(command, out) == left_by(command, unstopped), (at, before)
            shutil.rmtree(out)


@pytest.mark.skipif(not THOROUGH, reason="PRUNEBENCH_SURVIVE=1 asks for it")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_three_times_ends_as_if_it_had_not_been(base, command):
    assert "3 kills" in tortured(command, base, kills=3, seed=1)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_one_sentence_and_loses_nothing(
    base, whole, tmp_path, command, reason, monkeypatch, prunebench  # noqa: F811
):  # fmt: skip
    """The second write fails; with room again the same command ends as if there had always been."""
    out, written, sync = tmp_path / "out", [], os.fsync

    def full(descriptor):
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(reason, os.strerror(reason))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        told = refused(prunebench(*commands(base, out)[command]))
    assert f"({os.strerror(reason)}): make room or choose another folder; what is finished is kept" in told
    assert not leftovers(out)
    called(monkeypatch, commands(base, out)[command])
    assert left_by(command, out) == left_by(command, whole(command)[0])


@pytest.mark.parametrize("command", ["rollouts", "label"])
def test_a_second_process_is_refused_with_the_first_ones_number_and_machine(
    base, whole, tmp_path, command, monkeypatch, prunebench  # noqa: F811
):  # fmt: skip
    """The first one is another process, held in the middle; afterwards the refused command goes through."""
    out = shutil.copytree(whole(command)[0], tmp_path / "out")
    folder = out / command if command == "rollouts" else out / "labels"
    (folder / "shards.json").unlink()  # all of it is to be made again
    holds = "import fcntl, sys, time; lock = open(sys.argv[1], 'a+'); fcntl.flock(lock, fcntl.LOCK_EX);"
    tells = "lock.truncate(0); lock.write('process 4711 on elsewhere'); lock.flush(); print(); input()"
    first = subprocess.Popen(
        [sys.executable, "-c", holds + tells, folder / "writer.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    first.stdout.readline()
    told = refused(prunebench(*commands(base, out)[command]))
    assert f"{folder}: process 4711 on elsewhere is writing here; wait for it to end" in told
    first.communicate(b"\n")
    called(monkeypatch, commands(base, out)[command])
    assert left_by(command, out) == left_by(command, whole(command)[0])


def test_a_folder_that_cannot_be_made_is_named(base, tmp_path, prunebench):  # noqa: F811
    (tmp_path / "file").write_text("in the way")
    code, _, err = prunebench(*commands(base, tmp_path / "file")["rollouts"])
    assert (code, "Traceback" in err) == (2, False)
    assert f"{tmp_path / 'file'}" in err


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        files.write_atomically(tmp_path / "a", b"x")
    assert not list(tmp_path.iterdir())
