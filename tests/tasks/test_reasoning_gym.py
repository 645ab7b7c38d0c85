"""Data sets of reasoning-gym as tasks: drawn and scored in a process of their own, by its package as it is."""

from __future__ import annotations

import importlib.util
import json
import pickle
import time
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.rollouts.generator import PoolGenerator
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.sampling import sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem
from prunebench.tasks import catalogue, reasoning_gym
from prunebench.tasks.answering_process import AnsweringProcess
from prunebench.tasks.errors import UserError
from prunebench.tasks.near_duplicates import near_duplicates
from tests.bench.conftest import prunebench, refused  # noqa: F401
from tests.bench.engines.checkpoints import checkpoint

PRESENT = importlib.util.find_spec("reasoning_gym") is not None
pytestmark = pytest.mark.skipif(not PRESENT, reason="NOT TESTED: pip install 'prunebench[reasoning-gym]'")


def named(name):
    return catalogue.get(f"reasoning-gym:{name}")


def test_splits_share_no_question_and_are_the_same_again():
    task = named("chain_sum")
    splits = {split: task.problems(split, 60) for split in ("train", "validation", "test", "reasoner")}
    questions = [problem.prompt for problems in splits.values() for problem in problems]
    assert len(set(questions)) == len({p.id for problems in splits.values() for p in problems}) == 240
    assert task.problems("test", 60) == splits["test"] and task.problems("test", 5) == splits["test"][:5]
    assert not {p.prompt for p in task.problems("test", 60, seed=1)} & set(questions)
    assert splits["test"][0].prompt.endswith("put your final answer within \\boxed{}.")
    again = pickle.loads(pickle.dumps(task))
    assert again.problems("train", 5) == splits["train"][:5]


def test_a_question_that_two_seeds_draw_belongs_to_one_split(tmp_path):
    """Of sums of two digits there are few: every split ends, and together they hold each question once."""
    (tmp_path / "few.yaml").write_text(
        "name: few\nreasoning_gym: chain_sum\n"
        "settings: {min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1}\nprompt: 'Q: {problem}'\n"
    )
    task = catalogue.get(str(tmp_path / "few.yaml"))
    held = []
    for split in ("train", "validation", "test", "reasoner"):
        with pytest.raises(UserError, match=rf"few: its split '{split}' has \d+ different questions; ask for no more"):
            for _, entry in task.entries(split):
                held.append(entry["question"])
    assert len(held) == len(set(held)) and 100 < len(held) < 400
    assert all(str(question).startswith("State the final answer") for question in held)


def test_near_duplicates_across_splits_are_found_as_templates_repeat():
    task = named("gsm_symbolic")
    train, test = ({p.id: p.prompt for p in task.problems(split, 60)} for split in ("train", "test"))
    assert near_duplicates(test, train), "the same template with other numbers"


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("gsm_symbolic", lambda gold: {gold: True, f"{gold}.00": True, f"${gold}$": True, f"{gold} cm": True,
                                       f"{int(gold) + 1}": False, f"1{gold}": False}),
        ("fraction_simplification", lambda gold: {gold: True, gold.strip("$"): True, twice(gold): False, "1/2": False}),
        ("power_function", lambda gold: {gold: True, f"{float(gold):.2e}": True, f"{float(gold) * 1.1:.6g}": False}),
        ("countdown", lambda gold: {gold: True, f"({gold})": True, f"{gold} + 1": False, "one": False}),
        ("n_queens", lambda gold: {gold: True, gold[::-1][:3]: False, "Q": False}),
        ("spiral_matrix", lambda gold: {gold: True, gold[2:]: False, f"[{gold[2:]}]": False}),
        ("simple_integration", lambda gold: {gold: True, gold.replace("+ C", "+ 7"): True, "x**99 + C": False}),
    ],
)  # fmt: skip
def test_answers_are_graded_by_our_reading_or_by_the_data_set(name, answers):
    task = named(name)
    for problem in task.problems("test", 3):
        wanted = answers(problem.answer)
        found = {answer: task.verdict(problem.id, answer, problem.answer).correct for answer in wanted}
        assert found == wanted, problem
        assert task.verdict(problem.id, None, problem.answer).correct is False


def twice(gold):
    top, bottom = [int(part) for part in gold.replace("\\dfrac", "").replace("\\frac", "").strip("${}").replace(
        "}{", "/").split("/")]  # fmt: skip
    return f"{2 * top}/{2 * bottom}"


def test_where_there_is_no_gold_answer_the_data_set_decides():
    task = named("graph_color")
    (problem,) = task.problems("test", 1)
    (_, entry) = next(iter(task.entries("test")))
    puzzle = entry["metadata"]["puzzle"]
    colours = {}
    for vertex in puzzle["vertices"]:  # greedily, with backtracking where greed fails
        colours[str(vertex)] = None

    def colour(left):
        if not left:
            return True
        near = {b if a == left[0] else a for a, b in puzzle["edges"] if left[0] in (a, b)}
        for one in puzzle["color_options"]:
            if all(colours[str(other)] != one for other in near):
                colours[str(left[0])] = one
                if colour(left[1:]):
                    return True
                colours[str(left[0])] = None
        return False

    assert colour(puzzle["vertices"]) and problem.answer == reasoning_gym.ANY
    assert task.verdict(problem.id, json.dumps(colours), problem.answer).correct
    assert not task.verdict(problem.id, json.dumps(dict.fromkeys(colours, 1)), problem.answer).correct


def test_answers_are_read_as_they_stand():
    task = named("n_queens")
    (problem,) = task.problems("test", 1)
    for text in (f"So \\boxed{{{problem.answer}}}.", f"x <answer>no</answer>\n<answer>\n{problem.answer}\n</answer>"):
        assert task.found_in(text).answer == problem.answer
    sums = named("chain_sum")
    assert sums.found_in("The answer is 42 apples.").answer == "42"
    assert sums.found_in("42").answer == "42" and sums.found_in("1. First, we add 3 and") is None


def test_right_answers_that_differ_are_one_class_in_a_vote():
    task = named("countdown")
    (problem,) = task.problems("test", 1)
    answers = ["1 + 1", problem.answer, f"({problem.answer})", "1 + 2", None]
    paths = [
        StoredPath(n, np.array([1]), "", "stop", one, task.verdict(problem.id, one, problem.answer).correct, "x")
        for n, one in enumerate(answers)
    ]
    stored = StoredProblem(task.name, problem.id, problem.prompt, np.array([1]), problem.answer, paths)
    assert PoolGenerator.of(None, task, stored).classes(answers).tolist() == [0, 1, 1, 3, -1]


def test_a_text_that_a_model_wrote_does_not_run(tmp_path):
    """Some data sets give answers to eval, others to SymPy's parser, which calls it."""
    there = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(there)!r}).touch()"
    for name in ("spiral_matrix", "n_queens", "binary_matrix", "string_insertion", "countdown", "puzzle24",
                 "simple_integration", "polynomial_multiplication"):  # fmt: skip
        task = named(name)
        (problem,) = task.problems("test", 1)
        for answer in (code, f"[{code}]", f"[[{code}]]", f"({code}, 1)", f"exec(chr(95)) or {code}", "().__class__"):
            assert not task.verdict(problem.id, answer, problem.answer).correct
    assert not there.exists()


def test_an_answer_that_takes_for_ever_is_not_graded_and_the_next_one_is():
    task = named("countdown")
    (problem,) = task.problems("test", 1)
    started = time.perf_counter()
    assert task.verdict(problem.id, "9**9**9**9", problem.answer).correct is not True
    assert time.perf_counter() - started < 20
    assert task.verdict(problem.id, problem.answer, problem.answer).correct


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("reasoning-gym:chain_sm", "no data set 'chain_sm'; did you mean chain_sum"),
        ("reasoning-gym:", "name = 'reasoning-gym:'"),
        ("reasoning-gym:composite", "composite refuses its settings (AssertionError: Must specify"),
        ("reasoning-gym:game_of_life_halting", "nobody can grade its answers: its own scoring takes anything"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(text, sentence):
    with pytest.raises(UserError) as error:
        catalogue.expand([text])[0].problems("test", 1)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"settings": {"max_trms": 3}}, "chain_sum has no setting 'max_trms'; did you mean 'max_terms'?"),
        ({"settings": {"min_terms": 9, "max_terms": 2}}, "chain_sum refuses its settings (AssertionError: "),
        ({"setings": {}}, "mine.yaml: unknown key 'setings'; did you mean 'settings'?"),
        ({"prompt": "Q"}, "task mine: prompt must contain {problem}"),
        ({"seed": -1}, "mine.yaml: seed = -1"),
        ({"name": "gsm8k"}, "name = 'gsm8k' is that of a shipped task"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, keys, sentence):
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"name": "mine", "reasoning_gym": "chain_sum", **keys}))
    with pytest.raises(UserError) as error:
        catalogue.get(str(file))
    assert sentence in str(error.value)


def test_data_that_nothing_reads_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UserError, match="its problems are made here, no data can stand for them"):
        catalogue.expand(["reasoning-gym:chain_sum"], {"reasoning-gym:chain_sum": tmp_path / "x.json"})


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(reasoning_gym, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reasoning-gym is not installed: pip install 'prunebench\[reasoning-gym\]'"):
        named("chain_sum")


def test_paths_of_a_task_in_a_file_are_stored_and_graded_again(tmp_path):
    engine = TransformersEngine.load(str(checkpoint(tmp_path / "model")))
    (tmp_path / "sums.yaml").write_text("name: sums\nreasoning_gym: chain_sum\nsettings: {max_terms: 3}\nseed: 4\n")
    task = catalogue.get(str(tmp_path / "sums.yaml"))
    problems = [(task, problem) for problem in task.problems("test", 2)]
    sampling = Sampling(max_new_tokens=4)
    sample_rollouts(engine, problems, tmp_path / "store", n=2, sampling=sampling, seed=0, recording=Recording())
    store = RolloutStore.open(tmp_path / "store")
    again = task_of(store, "sums")
    for (_, problem), stored in zip(problems, store.read(), strict=True):
        assert stored.gold == problem.answer and Fraction(stored.gold) is not None
        assert again.verdict(stored.problem, problem.answer, stored.gold).correct
    assert again.problems("test", 2) == [problem for _, problem in problems]


def test_prunebench_check_shows_it(prunebench):  # noqa: F811
    code, out, err = prunebench("check", "reasoning-gym:gsm_symbolic")
    assert code == 0, err
    assert "task reasoning-gym:gsm_symbolic: 20 train, 20 validation, 20 test" in out
    assert "did you mean chain_sum" in refused(prunebench("check", "reasoning-gym:chain_sm"))


def test_equal_seeds_make_equal_problems_whatever_was_drawn_before():
    """list_functions draws from the random numbers of the process, others walk through sets."""
    task = named("list_functions")
    first = [entry["question"] for _, entry in islice(task.entries("test"), 5)]
    reasoning_gym._process().stop()
    [*islice(named("word_ladder").entries("train"), 3)]
    assert [entry["question"] for _, entry in islice(task.entries("test"), 5)] == first


def test_what_a_process_writes_does_not_land_where_one_works(tmp_path, monkeypatch):
    """Some data sets run programs of theirs, which write files."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "writes.py"
    script.write_text(
        "import json, sys\nprint(json.dumps('ready'), flush=True)\n"
        "for _ in sys.stdin:\n    open('file_1.txt', 'w').close()\n    print(json.dumps(True), flush=True)\n"
    )
    process = AnsweringProcess(script, writes=True)
    assert process.ask("write")
    process.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["writes.py"]
