"""Rollouts from elsewhere, for the command line."""

from __future__ import annotations

import json

import pytest

ANSWERS = {"q0": "7 7 7 1 2 7 7 3", "q1": "5 1 1 1 5 1 1 1", "q2": "4 4 4 4 4 4 4 4"}
GOLD = {"q0": "7", "q1": "5", "q2": "4"}


@pytest.fixture
def source(tmp_path):
    """Three problems with eight paths of 5 to 12 words, the answer being the last one."""
    path = tmp_path / "mine.jsonl"
    with path.open("w") as file:
        for problem, answers in ANSWERS.items():
            for i, answer in enumerate(answers.split()):
                text = " ".join(["so"] * (4 + i)) + f" \\boxed{{{answer}}}"
                row = {"problem": problem, "prompt": f"what is {problem} ?", "answer": GOLD[problem], "text": text}
                file.write(json.dumps(row) + "\n")
    return path
