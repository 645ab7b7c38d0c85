"""A Python script in a process of its own that answers one JSON line per JSON line, and may be killed by a question."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


class AnsweringProcess:
    """Starts with the first question, and again after one that killed it. Threads take turns.

    The script answers once unasked, when it is ready. ``environment`` is added to that of this process. ``writes``: it
    may write files, which go to a folder of its own that ends with this process.
    """

    def __init__(self, script: Path, environment: Mapping[str, str] | None = None, *, writes: bool = False) -> None:
        self.script, self.environment = script.resolve(), dict(environment or {})
        self._folder = TemporaryDirectory() if writes else None
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._turn = threading.Lock()
        atexit.register(self.stop)

    def ask(self, *question: object) -> Any:
        """The answer; EOFError where the question killed the process. Raises RuntimeError where it does not start."""
        with self._turn:
            try:
                return self._answer(question)
            except (BrokenPipeError, EOFError):
                self.stop()
                raise EOFError(self.script.name) from None

    def _answer(self, question: object) -> Any:
        mine = self._process is not None and self._owner == os.getpid()  # after a fork it is the parent's
        if not mine or self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(self.script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | self.environment,
            cwd=self._folder.name if self._folder else None,
        )  # fmt: skip
        self._owner = os.getpid()
        try:
            self._reply()
        except EOFError as error:
            self.stop()
            raise RuntimeError(f"the process of {self.script.name} did not start; its message is above") from error

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()
