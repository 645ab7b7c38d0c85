"""The miniature's curriculum is right, and its training resumes where it was interrupted."""

import json
import re
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from prunebench.bench.engines.shipped import MiniaturePlan
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.progress import SILENT
from prunebench.bench.reasoner.miniature import training
from prunebench.bench.reasoner.miniature.curriculum import LESSONS, STEP_END, solution, texts
from tests.bench.engines.test_sources import checkpoint

OURS = [lesson for lesson in LESSONS if lesson.data_set != "gsm_symbolic"]
EQUATION = re.compile(r"(-?\d+) ([-+*]) (\d+) = (-?\d+)")
DO = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


@pytest.mark.parametrize("lesson", OURS, ids=lambda lesson: lesson.data_set)
def test_every_step_that_is_written_here_is_right_and_they_end_in_the_answer(lesson):
    task = lesson.task()
    for place, entry in islice(task.entries("reasoner"), 40):
        *steps, last = solution(lesson, entry).split(STEP_END)
        equations = [EQUATION.findall(step) for step in steps]
        assert all(equations), (place, steps)
        for left, sign, right, result in (equation for found in equations for equation in found):
            assert DO[sign](int(left), int(right)) == int(result), (place, steps)
        assert int(equations[-1][-1][3]) == int(entry["answer"]), (place, steps)
        assert last == f"The answer is \\boxed{{{entry['answer']}}}."


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.data_set)
def test_its_own_solutions_are_graded_as_right(lesson):
    task = lesson.task()
    for _, entry in islice(task.entries("reasoner"), 40):
        answer = task.answer_of(solution(lesson, entry))
        assert answer is not None and Fraction(answer) == Fraction(entry["answer"])


def test_what_is_taught_is_in_no_other_split_and_the_same_for_the_same_seed():
    first = list(islice(texts(0), 300))
    assert first == list(islice(texts(0), 300)) != list(islice(texts(1), 300))
    taught = {prompt for prompt, _ in first}
    for lesson in LESSONS:
        assert any(prompt.startswith(lesson.task().problems("test", 1)[0].prompt[:12]) for prompt in taught) or (
            lesson.data_set == "gsm_symbolic"
        )
        for split in ("test", "validation", "train"):
            assert not taught & {problem.prompt for problem in lesson.task().problems(split, 60)}


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    base = checkpoint(tmp_path / "base")
    plan = replace(MiniaturePlan(), base=str(base), tokens=6_000, warmup_tokens=1_000, rank=2, chunk_examples=4)
    training.train_miniature(tmp_path / "whole", tmp_path / "whole-work", plan, "cpu", SILENT)

    class StoppedError(Exception):
        pass

    def stop(sentence):
        if seen.append(sentence) or len(seen) == 2:
            raise StoppedError

    seen: list[str] = []
    spoken = replace_say(stop)
    with pytest.raises(StoppedError):
        training.train_miniature(tmp_path / "twice", tmp_path / "twice-work", plan, "cpu", spoken)
    assert not (tmp_path / "twice" / "training.json").exists()
    training.train_miniature(tmp_path / "twice", tmp_path / "twice-work", plan, "cpu", SILENT)
    whole, twice = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "twice"))
    assert whole.keys() == twice.keys() and all(torch.equal(whole[name], twice[name]) for name in whole)
    assert any(tensor.abs().max() > 0 for name, tensor in whole.items() if "lora_B" in name), "it learned something"
    record = json.loads((tmp_path / "twice" / "training.json").read_text())
    assert record["loss"][-1]["tokens"] >= plan.tokens
    engine = TransformersEngine.load(str(tmp_path / "twice"))
    assert engine.digest != TransformersEngine.load(str(base)).digest


def replace_say(say):
    """A progress that gives each sentence to ``say``."""
    from prunebench.bench.progress import Spoken

    return Spoken(say)
