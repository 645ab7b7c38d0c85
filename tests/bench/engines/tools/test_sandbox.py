"""The sandbox under attack: every attempt ends in a verdict, and the machine stays as it was."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import pytest

from prunebench.bench.engines.tools import sandbox as module
from prunebench.bench.engines.tools.sandbox import Limits, Sandbox
from prunebench.bench.errors import UserError


@pytest.fixture(scope="session")
def sandbox():
    try:
        return Sandbox.probe()
    except UserError as error:
        warnings.warn(f"NO SANDBOX: tool use is not tested ({error})", stacklevel=1)
        pytest.skip(str(error))


def test_code_runs_and_its_output_comes_back(sandbox):
    assert sandbox.run("print((3 * 4) % 7)\nprint('é')").output == "5\né\n"
    assert sandbox.run("print(2 +").verdict == "error"
    result = sandbox.run("1 / 0")
    assert (result.verdict, result.output) == ("error", "ZeroDivisionError: division by zero\n")
    assert sandbox.run("print({'a', 'b', 'c'})").output == sandbox.run("print({'a', 'b', 'c'})").output
    assert sandbox.run("import sys; sys.exit(3)").verdict == "error"


ATTACKS = {
    "a fork bomb": ("import os\nwhile True:\n    os.fork()", {"timeout", "error", "output"}),
    "processes": ("import subprocess\n[subprocess.Popen(['sleep', '60']) for _ in range(500)]", {"error"}),
    "10 GB": ("x = bytearray(10 << 30)", {"memory"}),
    "10 GB in pieces": ("x = []\nwhile True:\n    x.append(bytearray(1 << 24))", {"memory"}),
    "an endless loop": ("while True: pass", {"timeout"}),
    "a sleeper": ("import time\ntime.sleep(60)", {"timeout"}),
    "endless output": ("while True: print('x' * 1000)", {"output"}),
    "a large file": ("open('/tmp/f', 'wb').write(b'0' * (1 << 28))", {"error", "timeout"}),
    "the home folder": ("import os\nprint(os.listdir('/root'), os.listdir('/home'))", {"error"}),
    "the repository": (f"print(open({str(Path(__file__))!r}).read())", {"error"}),
    "the network": ("import socket\nsocket.create_connection(('1.1.1.1', 53), 3)", {"error"}),
    "loopback": ("import socket\nsocket.create_connection(('127.0.0.1', 22), 3)", {"error"}),
    "writing outside": ("open('/usr/bin/evil', 'w').write('x')", {"error"}),
    "the parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nprint('still here')", None),
    "mounting": ("import subprocess\nsubprocess.run(['mount', '-t', 'tmpfs', 'x', '/usr'], check=True)", {"error"}),
    "ending the limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", {"error"}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_ends_in_a_verdict(sandbox, name):
    code, verdicts = ATTACKS[name]
    started = time.perf_counter()
    result = sandbox.run(code)
    assert time.perf_counter() - started < sandbox.limits.seconds + 5
    if verdicts is not None:
        assert result.verdict in verdicts, result
    assert len(result.output.encode()) <= sandbox.limits.output
    assert sandbox.run("print(1)").output == "1\n", "the next run is not disturbed"


def test_nothing_is_left_behind(sandbox):
    """A child that wants to live on dies with the sandbox."""
    mark = f"prunebench-{os.getpid()}"
    sandbox.run(
        f"import subprocess\nsubprocess.Popen(['sleep', '61.{os.getpid()}'], start_new_session=True)\nprint('{mark}')"
    )
    time.sleep(0.2)
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(file.read_bytes())
        except OSError:
            continue
    assert not [command for command in commands if f"61.{os.getpid()}".encode() in command]


def test_runs_share_no_files(sandbox):
    sandbox.run("open('/tmp/secret', 'w').write('x')")
    assert "FileNotFoundError" in sandbox.run("open('/tmp/secret')").output


def test_a_sandbox_that_leaks_is_refused(sandbox, monkeypatch):
    monkeypatch.setitem(module._ATTEMPTS, "a file of the system", "open('/usr/bin/env', 'rb').read(1)")
    with pytest.raises(UserError, match="tool use is refused: code in the sandbox reaches a file of the system"):
        Sandbox.probe()


def test_without_bubblewrap_tool_use_is_refused(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="bubblewrap is not installed: apt-get install bubblewrap"):
        Sandbox.probe()


def test_where_bubblewrap_may_not_isolate_the_reason_is_told(monkeypatch):
    script = "echo 'No permissions to create new namespace'; exit 1"
    monkeypatch.setattr(module.shutil, "which", lambda _: "/usr/bin/bwrap")
    monkeypatch.setattr(Sandbox, "_command", lambda self: ["/bin/sh", "-c", script])
    with pytest.raises(UserError, match=r"bubblewrap cannot isolate here .*No permissions to create new namespace"):
        Sandbox.probe()


def test_limits_are_those_that_were_asked_for(sandbox):
    small = Sandbox(sandbox.python, sandbox.packages, Limits(seconds=1, output=10))
    assert small.run("print('x' * 50)").output == "x" * 10
    started = time.perf_counter()
    assert small.run("while True: pass").verdict == "timeout" and time.perf_counter() - started < 4
