from __future__ import annotations

import json
import re

import pytest

from prunebench.bench.cli.own_task import examination, write_python_task, write_task
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.tasks import catalogue
from prunebench.tasks.answer_types import names
from prunebench.tasks.dataset_task import DatasetTask
from tests.bench.conftest import refused
from tests.tasks.test_answer_types import OWN as DATE
from tests.tasks.test_answer_types import forgotten  # noqa: F401


def written(tmp_path, rows, **options):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"problem": None, "answer": None, "shipped_model": False, **options}
    return write_task("mine", tmp_path / "p.jsonl", tmp_path / "deep", **options)


def rows(*answers, question="question", answer="answer"):
    return [{question: f"What gives {i}?", answer: text} for i, text in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "kind", "sentence"),
    [
        (["1", "025", "-3"], "integer", "all answers are of type integer"),
        (["A", "b", "(C)"], "choice", "all answers are of type choice"),
        (
            ["1", "1/2", "3"],
            "math",
            "answers of mixed form; 2 of them are integers, the first other is line 2: '1/2': type math was taken",
        ),
        (["Paris", "Rome", "Oslo"], "text", "answers of mixed form: type text was taken"),
    ],
)
def test_the_written_task_loads_and_has_the_narrowest_type(tmp_path, answers, kind, sentence):
    file, about = written(tmp_path, rows(*answers))
    task = catalogue.get(str(file))
    assert isinstance(task, DatasetTask) and task.answer_type == kind and sentence in about
    assert sum(len(problems) for problems in task._loaded.splits.values()) == 3
    assert 'data: "../p.jsonl"' in file.read_text()
    assert all(f"{name}, " in file.read_text() for name in names())


def test_columns_are_guessed_or_named(tmp_path):
    file, said = written(tmp_path, rows("1", "2", "3", question="QUESTION", answer="reply"), answer="reply")
    assert "the problem is taken from column 'QUESTION'" in said and "the answer is taken" not in said
    assert catalogue.get(str(file)).problems("train")
    german = {"data": _file(tmp_path, rows("1", question="Frage")), "folder": tmp_path, "shipped_model": False}
    with pytest.raises(UserError, match=r"has Frage, answer; say which is the problem: --set problem=COLUMN$"):
        write_task("other", **german, problem=None, answer=None)
    both = german | {"data": _file(tmp_path, rows("1", question="Frage", answer="Lösung"))}
    with pytest.raises(
        UserError, match=r"which is the problem and which the answer: --set problem=COLUMN --set answer="
    ):
        write_task("other", **both, problem=None, answer=None)
    _file(tmp_path, rows("1", question="Frage"))
    with pytest.raises(UserError, match=r"no column 'nope'; it has Frage, answer"):
        write_task("other", **german, problem="nope", answer=None)


def _file(tmp_path, content):
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, content)))
    return tmp_path / "q.jsonl"


def test_nothing_is_overwritten_and_names_stay_in_the_folder(tmp_path):
    written(tmp_path, rows("1"))
    with pytest.raises(UserError, match=r"mine\.yaml is there already"):
        written(tmp_path, rows("1"))
    with pytest.raises(UserError, match=r"name '\.\./up'"):
        write_python_task("../up", tmp_path)
    with pytest.raises(UserError, match="holds no rows"):
        write_task("empty", _file(tmp_path, []), tmp_path, problem=None, answer=None, shipped_model=False)


def test_what_a_written_task_leaves_out_is_said_at_once(prunebench, tmp_path):
    blemished = [*rows(*map(str, range(30))), *rows("0"), {"question": "no answer?", "answer": ""}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, blemished)))
    code, out, err = prunebench("new", "task", "mine", "--data", "p.jsonl")
    remarks = list(catalogue.get(str(tmp_path / "mine.yaml")).remarks())
    assert code == 0 and remarks and all(remark in out for remark in remarks), (out, err)


def test_two_answers_to_one_question_are_told_when_the_task_is_written(prunebench, tmp_path):
    rows = [{"question": "1 + 1", "answer": "2"}, {"question": "1 + 1", "answer": "3"}]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = prunebench("new", "task", "two", "--data", "two.jsonl")
    assert code == 0 and "no task yet, mend this first: " in out and "the question of line 1 again" in out


def test_rows_without_names_of_columns_are_told(prunebench, tmp_path):
    (tmp_path / "bare.csv").write_text("What is 1 plus 3?,4\nWhat is 2 plus 2?,4\n")
    said = refused(prunebench("new", "task", "bare", "--data", "bare.csv"))
    assert "if its first line is a problem already, write one above it that names the columns" in said
    (tmp_path / "odd.csv").write_text("frage,antwort\na,4\n")
    assert "first line" not in refused(prunebench("new", "task", "odd", "--data", "odd.csv"))


def test_answers_are_counted_as_they_are_read(tmp_path):
    file, _ = written(tmp_path, rows("7", "12", "12.0"), shipped_model=True)
    assert any(
        line.startswith("2 different answers; the most frequent, '12.0', 2 times")
        for line in examination(catalogue.get(str(file)))
    )


def test_a_python_task_is_written_and_its_splits_are_apart(tmp_path):
    file = write_python_task("small-sums", tmp_path)
    task = catalogue.get(str(file))
    ids = {split: {problem.id for problem in task.problems(split, 200)} for split in ("train", "validation", "test")}
    assert task.name == "small-sums" and not ids["train"] & ids["test"] and len(ids["test"]) == 200
    first = task.problems("test", 1)[0]
    assert task.grade(task.answer_of(rf"so \boxed{{{first.answer}}}"), first.answer).correct


def test_an_examination_shows_what_the_model_will_see(tmp_path):
    file, _ = written(tmp_path, rows(*map(str, range(60))), shipped_model=True)
    lines = list(examination(catalogue.get(str(file)), TransformersEngine.load("embedded")))
    text = "\n".join(lines)
    assert lines[0] == "task mine: 24 train, 9 validation, 27 test"
    assert text.count("as the model gets it") == 3 and "gold answer '" in text
    assert "tokens per prompt: " in text and "60 prompts have words that the tokenizer does not know" in text
    assert "intervals will be wide" not in text


def test_an_examination_warns(tmp_path):
    content = [{"question": f"{'very ' * 1200}long {i}?", "answer": "7"} for i in range(6)]
    file, _ = written(tmp_path, content, shipped_model=True)
    text = "\n".join(examination(catalogue.get(str(file)), TransformersEngine.load("embedded")))
    assert "NOT POSSIBLE: the prompt of" in text and "3 test problems: intervals will be wide" in text
    assert "1 different answers; the most frequent, '7', 6 times" in text
    assert re.search(r"3 test problems nearly repeat .*: \S*p.jsonl, line \d and \S*p.jsonl, line \d share", text)
    assert re.search(r"6 prompts have words .* \(the first: \S*p.jsonl, line \d\)", text)


def test_questions_in_another_language_than_the_shipped_models_are_told_at_once(tmp_path):
    english = [{"question": f"How much is {number} and one?", "answer": str(number + 1)} for number in range(20)]
    _, about = written(tmp_path, english, shipped_model=True)
    assert "will refuse 20 of 20 questions, whose words it does not know (the first: 'How')" in about
    own = [{"question": "3 + 4 mod 7", "answer": "0"}] * 20
    assert "refuse" not in written(tmp_path / "own", own, shipped_model=True)[1]


def test_a_shipped_task_is_examined_by_a_few_of_its_problems():
    assert next(examination(catalogue.get("synthetic/power"))) == (
        "task synthetic/power: 20 train, 20 validation, 20 test"
    )


@pytest.mark.usefixtures("forgotten")
def test_an_answer_type_of_ones_own_is_guessed_and_checked(prunebench, tmp_path):
    (tmp_path / "date.py").write_text(DATE)
    (tmp_path / "days.csv").write_text("question,answer\nThe day after 2024-02-28?,2024-02-29\n")
    code, out, _ = prunebench("new", "task", "days", "--data", "days.csv", "--plugin", "date.py")
    assert code == 0 and "all answers are of type date" in out
    assert 'prompt: "{problem}\\n\\nEnd with the date, as in 2024-02-29."' in (tmp_path / "days.yaml").read_text()
    assert "next: prunebench check days.yaml --plugin date.py" in out
    assert "0 test problems: intervals will be wide, and advise recommends nothing below 20; add rows" in out
    code, out, _ = prunebench("check", "days.yaml", "--plugin", "date.py")
    assert code == 0 and "gold answer '2024-02-29'" in out


@pytest.fixture
def sums(tmp_path):
    """Two problems of the shipped reasoner."""
    content = [{"question": "power mod 11 : g = 2 ; e = 3 ; find g ^ e", "answer": "8"},
               {"question": "power mod 11 : g = 3 ; e = 2 ; find g ^ e", "answer": "9"}]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, content)))
    write_task("sums", tmp_path / "p.jsonl", tmp_path, problem=None, answer=None, shipped_model=True)


@pytest.mark.usefixtures("sums")
def test_two_short_paths_show_what_is_read_out_of_them(prunebench):
    code, out, err = prunebench("check", "sums.yaml", "--model", "embedded")
    assert code == 0, err
    assert "as embedded really gets it, without a chat template, " in out
    assert out.count("=> read out of it: '") == 2 and "seconds per path on this machine" in out
    assert "cut off" not in out and "would take" not in out


@pytest.mark.usefixtures("sums")
def test_the_prompt_is_shown_behind_its_chat_template(prunebench, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ bos_token }}plan : {{ messages[0]['content'] }}")
    code, out, err = prunebench("check", "sums.yaml", "--model", "embedded", "--set", "chat_template=t.jinja",
                                "--set", "max_new_tokens=3")  # fmt: skip
    assert code == 0, err
    assert "really gets it, through its chat template, " in out and "plan : power mod 11" in out.partition("really")[2]
    assert out.count("3 tokens, then cut off here:\n") == 2 and out.count("=> no answer is read out of it") == 2
    assert "a path that runs to max_new_tokens = 3 would take" in out
