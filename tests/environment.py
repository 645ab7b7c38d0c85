"""A virtual environment to install into, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path


class Environment:
    """A virtual environment that sees the packages of the running interpreter, but not this project."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.bin = folder / "bin"
        packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
        (self.packages,) = folder.glob("lib/python*/site-packages")
        # Links that editable installs leave in those folders are not followed from here.
        (self.packages / "running.pth").write_text("\n".join(packages) + "\n")
        self._script("pip", "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)")

    def link(self, project: Path) -> None:
        """This project as it lies here, as an editable installation has it."""
        (self.packages / "prunebench").symlink_to(project)
        self._script("prunebench", "from prunebench.bench.cli import main; main()")

    def _script(self, name: str, body: str) -> None:
        script = self.bin / name
        script.write_text(f"#!{self.bin / 'python'}\n{body}\n")
        script.chmod(0o755)

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command with this environment's programs first, offline, on one thread."""
        variables = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
            variables.pop(name, None)
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables)

    def pip(self, *words: str, cwd: Path) -> None:
        done = self.run("pip", *words, "--no-deps", "--no-build-isolation", cwd=cwd)
        assert done.returncode == 0, done.stderr

    def install(self, source: Path) -> None:
        self.pip("install", "--ignore-installed", str(source), cwd=source.parent)
