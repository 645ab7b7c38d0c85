"""The commands for a machine with a GPU, tried at toy size on a CPU: each does its part, and goes on where it was."""

import json
import subprocess
import sys
from pathlib import Path

from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.label_plans import RECIPES

ROOT = Path(__file__).parents[1]


def make(target, folder):
    return subprocess.run(
        ["make", "-f", ROOT / "Makefile", target, "NAME=toy", "DEVICE=cpu", "WORKERS=2", f"PY={sys.executable}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_weights_rollouts_and_labels_are_made_in_turn(tmp_path):
    def run(target):
        done = make(target, tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]

    run("gpu-train")
    training = json.loads((tmp_path / "runs/toy/weights/training.json").read_text())
    assert training["plan"]["tokens"] == 20_000
    run("gpu-rollouts")
    (data,) = (tmp_path / "runs/reasoner").glob("*-*-toy")
    rollouts = {path: path.stat().st_mtime_ns for path in data.rglob("shard-*")}
    assert len(rollouts) >= 12
    run("gpu-label")
    assert {path: path.stat().st_mtime_ns for path in rollouts} == rollouts, "it goes on from the rollouts"
    for split in ("train", "validation", "test"):
        for family in ("recurrence", "power", "congruence", "program"):
            assert len(RolloutStore.open(data / split / family / "rollouts").problems()) == 1
            labels = LabelStore.open(data / split / family / "labels")
            assert len(labels) >= 1
            assert labels.manifest["continuations"] == RECIPES["toy"].test_continuations
    shipped = LabelStore.open(tmp_path / "runs/toy/labels/power")
    assert len(shipped) == len(LabelStore.open(data / "test" / "power" / "labels"))
