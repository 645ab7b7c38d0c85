"""What is said of the first problem, before hours go into the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem
from prunebench.tasks import catalogue
from prunebench.tasks.imported import ImportedTask
from tests.bench.rollouts.test_sampling import SETTINGS

BOX, NOTHING = "so \\boxed{14}", "I do not know."


class Loose(ImportedTask):
    """Reads stated answers, no last numbers."""


LOOSE, STRICT = Loose("t", "equivalence", "math"), Loose("t", "equivalence", "math", strict=True)


def problem(texts, finish="stop", task=LOOSE, name="1"):
    paths = []
    for number, text in enumerate(texts):
        found = task.found_in(text)
        answer, rule = (found.answer, found.rule) if found else (None, None)
        paths.append(StoredPath(number, None, text, finish, answer, False, "g", length=20, rule=rule))
    return StoredProblem("t", name, "?", np.zeros(0, np.int64), "14", paths)


def said_of(*problems, task=LOOSE, forced=False):
    said: list[str] = []
    passed = list(FirstLook(forced).through(problems, {"t": task}, said.append))
    assert passed == list(problems)
    return said


def test_answers_that_are_read_need_no_word():
    assert said_of(problem([BOX] * 16)) == []
    assert said_of(problem([BOX] * 15 + [NOTHING])) == [], "a hard problem has such paths"


@pytest.mark.parametrize(("silent", "stops"), [(2, False), (14, False), (15, True), (16, True)])
def test_nine_tenths_without_an_answer_stop_and_fewer_are_told(silent, stops):
    texts = [NOTHING] * silent + [BOX] * (16 - silent)
    if not stops:
        assert said_of(problem(texts)) == [f"note: of 16 paths of the first problem (t/1) {silent} state no answer"]
        return
    with pytest.raises(UserError, match=rf"of 16 paths of the first problem \(t/1\) {silent} state no answer") as error:
        said_of(problem(texts))
    assert "'I do not know.'" in str(error.value) and "ask for an answer in the task's prompt" in str(error.value)
    assert str(error.value).endswith("or go on all the same: --force")
    (note,) = said_of(problem(texts), forced=True)
    assert note.startswith("note: ") and "--force" not in note


def test_the_remedy_is_what_would_have_read_them():
    with pytest.raises(UserError, match=r"with 'last_number: true' in a task's file 8 of them have one, such as '14'"):
        said_of(problem(["Adding up gives 14 apples in all."] * 8))
    with pytest.raises(UserError, match=r"with 'strict: false' in a task's file 8 of them have one, such as '14'"):
        said_of(problem(["The answer is: 14"] * 8, task=STRICT), task=STRICT)


def test_paths_that_were_cut_off_stop_though_some_have_an_answer():
    with pytest.raises(UserError, match=r"8 were cut off at 20 tokens: .*--set max_new_tokens=40") as error:
        said_of(problem([BOX] * 8, finish="length"))
    assert "state no answer" not in str(error.value)
    with pytest.raises(UserError, match=r"8 state no answer, 8 were cut off at 20 tokens: .*--set max_new_tokens=40"):
        said_of(problem([NOTHING] * 8, finish="length"))


def test_paths_that_were_cut_off_at_several_lengths_are_told_so():
    cut = problem([BOX] * 8, finish="length")
    cut = replace(cut, paths=[replace(path, length=12 + number) for number, path in enumerate(cut.paths)])
    with pytest.raises(UserError, match=r"8 were cut off at 12 to 19 tokens: "):
        said_of(cut)


def test_few_paths_are_looked_at_together():
    """One path of one problem proves nothing, while there are more."""
    lonely = [problem([NOTHING if number == 1 else BOX], name=str(number)) for number in range(12)]
    assert said_of(*lonely) == ["note: of 8 paths of the first 8 problems 1 state no answer"]
    with pytest.raises(UserError, match="of 2 paths of the first 2 problems 2 state no answer"):
        said_of(*[problem([NOTHING], name=name) for name in "ab"])


def test_a_long_path_is_shown_by_its_ends():
    with pytest.raises(UserError) as error:
        said_of(problem(["Begin. " + "and so on " * 400 + "The end."] * 8))
    assert "'Begin. and so on" in str(error.value) and "[...]" in str(error.value) and "The end.'" in str(error.value)


@pytest.fixture
def problems():
    return problems_of([catalogue.get("synthetic/power")], "validation", 6, 0)


SOME = {**SETTINGS, "n": 8}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_store_holds_nothing_and_takes_the_remedy(engine, problems, tmp_path, processes):
    """The engine is a random one, whose paths end nowhere."""
    with pytest.raises(UserError, match="of 8 paths of the first problem"):
        sample_rollouts(engine, problems, tmp_path, look=FirstLook(), processes=processes, **SOME)
    assert RolloutStore.open(tmp_path).problems() == set()
    other = {**SOME, "seed": 1}
    store = sample_rollouts(engine, problems[:2], tmp_path, look=FirstLook(forced=True), **other)
    assert len(store.problems()) == 2 and store.manifest["seed"] == 1
    with pytest.raises(UserError, match="of 8 paths of the first problem"):
        sample_rollouts(engine, problems, tmp_path, look=FirstLook(), **other)
