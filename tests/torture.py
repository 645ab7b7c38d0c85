"""Commands that are killed, and go on: shared by the tests and by `make torture`, which runs it as a program.

`python -m tests.torture KILLS` kills every command so many times with SIGKILL at random moments, one kill after another
until the command gets through, and compares what it leaves with an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prunebench.bench.evaluation.results import Results
from prunebench.bench.rollouts.store import RolloutStore

TASK = "synthetic/power"
PREFIX = "20"


def commands(base: Path, out: Path) -> dict[str, list[str]]:
    """The command lines, small; ``base`` holds what they start from, ``out`` is where they write."""
    sampled = ["--task", TASK, "--n", "8", "--set", f"prefix_tokens={PREFIX}", "--set", "record=entropy,logprobs"]
    return {
        "rollouts": ["rollouts", *sampled, "--problems", "9", "--set", "seed=3", "--out", str(out / "rollouts")],
        "label": ["label", str(base / "rollouts"), "--continuations", "2", "--prefix", PREFIX, "--set", "prefixes=4",
                  "--out", str(out / "labels")],
        "train": ["train", "linear-probe", "step", "--data", str(base / "data"), "--set", f"prefix={PREFIX}",
                  "--out", str(out / "learned")],
        "compare": ["compare", "--store", str(base / "rollouts"), "--prefix", PREFIX, "--k", "2", "--methods",
                    "entropy,deepconf,perplexity", "--learned", str(base / "none"), "--out", str(out / "compare")],
    }  # fmt: skip


def prepare(base: Path, run: Any) -> None:
    """What the commands start from: rollouts, and labelled data of two splits. ``run`` runs one command line."""
    (base / "none").mkdir(parents=True, exist_ok=True)
    run(commands(base, base)["rollouts"])
    for split in ("train", "validation"):
        folder = base / "data" / split / "power"
        run(["rollouts", "--task", TASK, "--n", "8", "--problems", "3", "--set", f"prefix_tokens={PREFIX}",
             "--set", f"split={split}", "--out", str(folder / "rollouts")])  # fmt: skip
        run(["label", str(folder / "rollouts"), "--continuations", "2", "--prefix", PREFIX,
             "--out", str(folder / "labels")])  # fmt: skip


def left_by(command: str, out: Path) -> Any:
    """What a command left, but for measured seconds and what was typed; None where it is not there."""
    try:
        if command == "rollouts":
            return RolloutStore.open(out / "rollouts").digest(), RolloutStore.open(out / "rollouts").lengths()
        if command == "compare":
            results = Results.read(out / "compare" / "results.json")
            rows = [{key: cell for key, cell in row.flat().items() if "seconds" not in key} for row in results.rows]
            files = sorted(path.name for path in (out / "compare").iterdir() if path.is_file())
            tables = results.model_dump(include={"equal_cost", "votes", "hashes"})
            return json.dumps([rows, tables, files], default=str)
        folder = out / ("labels" if command == "label" else "learned")
        wanted = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        return [(path.name, content_of(path)) for path in wanted if path.suffix != ".lock"]
    except FileNotFoundError:
        return None


def content_of(path: Path) -> Any:
    """A file by its checksum; a card without the seconds that training took."""
    card = json.loads(path.read_text()) if path.suffix == ".json" else {}
    if "train_seconds" in card:
        return {**card, "train_seconds": None}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(out: Path) -> list[str]:
    """Temporary files that are there after a finished run; a killed one may leave some."""
    return [path.name for path in out.rglob("*.tmp")]


def killed_once(line: list[str], after: float) -> bool:
    """Run the command in a process that is killed after so many seconds; whether it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prunebench.bench.cli", *line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise AssertionError(f"{line}: ended with {process.returncode}: {errors.decode()[-500:]}")
    return True


def tortured(command: str, base: Path, kills: int, seed: int) -> str:
    """Kill ``command`` at ``kills`` random moments; a sentence about it. Raises AssertionError for another result."""
    generator = random.Random(f"{command}/{seed}")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        started = time.perf_counter()
        assert killed_once(commands(base, whole)[command], 600)
        seconds = time.perf_counter() - started
        wanted = left_by(command, whole)
        assert wanted
        done, runs = 0, 0
        while done < kills:
            out = Path(folder) / f"run-{runs}"
            runs += 1
            line = commands(base, out)[command]
            # Python's start takes the first part of a run; kills are spread over the rest.
            while done < kills and not killed_once(line, generator.uniform(0.4, 1.0) * seconds):
                done += 1
            assert killed_once(line, 600)
            assert left_by(command, out) == wanted, f"{command}: another result after {done} kills"
    return f"{command}: {kills} kills over {runs} runs of {seconds:.1f} s, every result equal to the uninterrupted one"


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        prepare(base, lambda line: killed_once(line, 600))
        for command in commands(base, base):
            print(tortured(command, base, kills, seed=0), flush=True)


if __name__ == "__main__":
    main()
