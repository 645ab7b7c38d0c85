"""Code that a model wrote, run where it can do no harm: bubblewrap, no network, no home, hard limits, another user.

Nothing is promised beyond what :meth:`Sandbox.probe` has tried on this machine at the start: that the network, other
processes and the files of users are out of reach, and that the limits hold. Where that fails, tool use is refused.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Literal

from prunebench.bench.errors import UserError

Verdict = Literal["ok", "error", "timeout", "memory", "output"]

NOBODY = 65534
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_OUT_OF_MEMORY = 99
_LAUNCHER = """
import resource, sys
seconds, memory, files, processes = map(int, sys.argv[1:5])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path += sys.argv[5:]
code = sys.stdin.read()
sys.argv[1:] = []
try:
    exec(compile(code, "<tool>", "exec"), {"__name__": "__main__"})
except MemoryError:
    print("MemoryError")
    sys.stdout.flush()
    import os
    os._exit(99)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
"""
_ATTEMPTS = {
    "the network": "import socket\nsocket.create_connection(('127.0.0.1', 1), 1)",
    "sockets": "import socket\nsocket.getaddrinfo('example.org', 80)",
    "the home folders": "import os\nassert os.listdir('/root') or os.listdir('/home')",
    "files outside": "open('/usr/prunebench-was-here', 'w')",
    "other processes": "import os\nassert [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 100]",
    "much memory": "x = bytearray(8 << 30)",
}
"""What code must not reach, and code that reaches it where nothing is in its way."""


@dataclass(frozen=True)
class ToolResult:
    """What a run printed, cut at the limit, and how it ended; ``seconds`` are measured."""

    output: str
    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds of wall clock and CPU, bytes of memory per process, of a file, and of output; processes."""

    seconds: int = 5
    memory: int = 512 << 20
    file: int = 16 << 20
    output: int = 4096
    processes: int = 32


@dataclass(frozen=True)
class Sandbox:
    """Runs Python in isolation. ``python`` is the interpreter, ``packages`` folders that it may import from."""

    python: Path
    packages: tuple[Path, ...] = ()
    limits: Limits = Limits()

    @classmethod
    def probe(cls, limits: Limits = Limits()) -> Sandbox:
        """A sandbox that was tried: harmless code runs, and nothing in :data:`_ATTEMPTS` succeeds.

        Raises UserError with the reason where isolation cannot be had.
        """
        if shutil.which("bwrap") is None:
            raise UserError("tool use needs isolation, and bubblewrap is not installed: apt-get install bubblewrap")
        failures = []
        for python, packages in _interpreters():
            sandbox = cls(python, packages, limits)
            answer = sandbox.run("print(6 * 7)")
            if answer.output.strip() != "42":
                failures.append(f"{python}: {answer.output.strip()[:160] or answer.verdict}")
                continue
            for what, code in _ATTEMPTS.items():
                if sandbox.run(code).verdict == "ok":
                    raise UserError(f"tool use is refused: code in the sandbox reaches {what} on this machine")
            return sandbox
        raise UserError(f"tool use is refused: bubblewrap cannot isolate here ({'; '.join(failures)})")

    def run(self, code: str) -> ToolResult:
        """Run ``code`` with nothing but a temporary folder; it and all that it started are dead when this returns."""
        started = time.perf_counter()
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen(  # type: ignore[call-overload]
            self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd="/", env={}, start_new_session=True, **as_nobody,
        )  # fmt: skip
        reader = _Reader(process.stdout, self.limits.output)
        verdict: Verdict | None = None
        try:
            _feed(process.stdin, code)
            end = started + self.limits.seconds
            while process.poll() is None and not reader.full and time.perf_counter() < end:
                time.sleep(0.002)
            if reader.full:
                verdict = "output"
            elif process.poll() is None:
                verdict = "timeout"
        finally:
            _kill(process)
            reader.join(1.0)
        return ToolResult(reader.text(), verdict or _verdict(process.returncode), time.perf_counter() - started)

    def _command(self) -> list[str]:
        limits = self.limits
        numbers = (limits.seconds, limits.memory, limits.file, limits.processes)
        return [
            "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox",
            *_read_only(_SYSTEM), *_read_only([str(self.python.parents[1]), *map(str, self.packages)], system=False),
            "--proc", "/proc", "--dev", "/dev", "--size", str(limits.file), "--tmpfs", "/tmp",  # noqa: S108
            "--chdir", "/tmp", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "HOME", "/tmp",  # noqa: S108
            "--cap-drop", "ALL", "--", str(self.python), "-P", "-s", "-c", _LAUNCHER,
            *map(str, numbers), *map(str, self.packages),
        ]  # fmt: skip


def _read_only(places: Sequence[str], system: bool = True) -> list[str]:
    """Arguments that show folders, and links between them, as they are; others do not exist inside."""
    options: list[str] = []
    for place in places:
        if system and Path(place).is_symlink():
            options += ["--symlink", str(Path(place).readlink()), place]
        elif Path(place).is_dir() and (system or not place.startswith(_SYSTEM)):
            options += ["--ro-bind", place, place]
    return options


def _interpreters() -> list[tuple[Path, tuple[Path, ...]]]:
    """Pythons to try: our own with its packages, then that of the system, which another user can read as well."""
    here = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    packages = Path(sysconfig.get_paths()["purelib"])
    pairs = [(here, (packages,)), (here, ()), (Path("/usr/bin/python3"), ())]
    return [(python, folders) for python, folders in pairs if python.exists()]


def _feed(stream: IO[bytes] | None, code: str) -> None:
    assert stream is not None
    try:
        stream.write(code.encode("utf-8", "replace"))
        stream.close()
    except BrokenPipeError:  # it did not start; its output says why
        pass


def _kill(process: subprocess.Popen[bytes]) -> None:
    """bwrap dies, and with it the namespace's first process, and with that all others."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _verdict(code: int) -> Verdict:
    """bwrap gives 128 + n for a child that signal n killed."""
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return "timeout"
    if code == _OUT_OF_MEMORY:
        return "memory"
    return "ok" if code == 0 else "error"


class _Reader(Thread):
    """Reads what a process prints, up to a limit."""

    def __init__(self, stream: IO[bytes] | None, limit: int) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        self._stream, self._limit, self._content, self.full = stream, limit, b"", False
        self.start()

    def run(self) -> None:
        while piece := os.read(self._stream.fileno(), 65536):
            self._content += piece
            if len(self._content) > self._limit:
                self.full = True
                return

    def text(self) -> str:
        return self._content[: self._limit].decode("utf-8", "replace")
