"""The shipped benchmarks over data sets of our own in their layouts, read by the same code as those on the hub."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from prunebench.tasks import catalogue
from prunebench.tasks.errors import UserError


def dataset(folder: Path, content: dict[str, list[dict]], config: str = "default") -> Path:
    """A folder as the hub has it: Parquet files by split, and a card that names those of every configuration."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    files = []
    for split, lines in content.items():
        files.append({"split": split, "path": f"data/{config}-{split}.parquet"})
        pq.write_table(pa.Table.from_pylist(lines), folder / files[-1]["path"])
    card = folder / "README.md"
    metadata = yaml.safe_load(card.read_text().strip("-\n")) if card.exists() else {"configs": []}
    metadata["configs"].append({"config_name": config, "data_files": files})
    card.write_text(f"---\n{yaml.safe_dump(metadata)}---\n")
    return folder


MATH = [{"id": i, "problem": f"Find {i}.", "solution": "...", "answer": f"{i:03d}", "url": ""} for i in range(1, 31)]


@pytest.mark.parametrize(
    ("name", "split", "content"),
    [
        ("aime24", "train", MATH),
        ("aime25", "test", [{"problem": f"P{i}", "answer": str(i), "id": str(i)} for i in range(30)]),
        (
            "hmmt25",
            "train",
            [{"problem_idx": i, "problem": f"P{i}", "answer": rf"\frac{{{i}}}{{7}}"} for i in range(30)],
        ),
        ("brumo25", "train", [{"problem_idx": i, "problem": f"P{i}", "answer": f"2^{{{i}}}"} for i in range(30)]),
        (
            "math500",
            "test",
            [{"problem": f"P{i}", "answer": f"({i}, 1)", "unique_id": f"test/{i}"} for i in range(500)],
        ),
    ],
)
def test_mathematics_from_a_folder_in_the_layout_of_the_hub(tmp_path, name, split, content):
    task = catalogue.get(name, {name: dataset(tmp_path / "d", {split: content})})
    problems = task.problems("test")
    assert len(problems) == len(content) == task.expected and task.remarks() == []
    assert [problem.answer for problem in problems] == [row["answer"] for row in content]
    assert problems[0].prompt.endswith("put your final answer within \\boxed{}.")


def test_one_problem_less_is_remarked(tmp_path):
    task = catalogue.get("aime24", {"aime24": dataset(tmp_path / "d", {"train": MATH[:29]})})
    assert len(task.problems("test")) == 29
    assert task.remarks() == ["task aime24: 29 test problems, but the benchmark has 30"]


def test_gsm8k_finds_its_answer_behind_the_mark(tmp_path):
    content = [{"question": f"Q{i}", "answer": f"<<1+{i}={i}>> so\n#### {i},000"} for i in range(1, 4)]
    task = catalogue.get("gsm8k", {"*": dataset(tmp_path / "d", {"train": content[:1], "test": content[1:]}, "main")})
    assert [problem.answer for problem in task.problems("test")] == ["2,000", "3,000"]
    assert [len(task.problems(split)) for split in ("train", "test")] == [1, 2]


def test_gsm8k_from_the_files_of_its_repository(tmp_path):
    for split, count in (("train", 2), ("test", 3)):
        rows = [{"question": f"{split} {i}?", "answer": f"so\n#### {i}"} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "test_socratic.jsonl").write_text("another layout")
    both = catalogue.get("gsm8k", {"gsm8k": tmp_path})
    assert [len(both.problems(split)) for split in ("train", "test")] == [2, 3]
    assert both.remarks() == ["task gsm8k: 3 test problems, but the benchmark has 1319"]
    (tmp_path / "mine.jsonl").write_text((tmp_path / "test.jsonl").read_text())
    (tmp_path / "packed").mkdir()
    for split in ("train", "test"):
        packed = gzip.compress((tmp_path / f"{split}.jsonl").read_bytes())
        (tmp_path / "packed" / f"{split}.jsonl.gz").write_bytes(packed)
    assert catalogue.get("gsm8k", {"gsm8k": tmp_path / "packed"}).problems("test") == both.problems("test")
    for file, split in (("test.jsonl", "test"), ("train.jsonl", "train"), ("mine.jsonl", "test"),
                        ("packed/train.jsonl.gz", "train")):  # fmt: skip
        one = catalogue.get("gsm8k", {"gsm8k": tmp_path / file})
        assert one.problems(split)[0].prompt.startswith(f"{split} 0?")
        assert f"{file} stands for its split '{split}'; for train, test give a folder" in one.remarks()[-1]


WORD_PROBLEMS = {
    "svamp": ("SVAMP.json", [{"ID": "chal-1", "Body": "Ann had $ 3. If Bob had $ 4", "Question": "How many?",
                              "Equation": "( 4.0 - 3.0 )", "Answer": 1.0, "Type": "Subtraction"}],
              "Ann had $ 3. If Bob had $ 4 How many?", "1", {"1.00": True, "1.5": False}),
    "multiarith": ("dataset/MultiArith/MultiArith.json", [{"iIndex": 0, "lAlignments": [1], "lEquations": ["X=2.0*3.0"],
                                                           "lSolutions": [6.0], "sQuestion": " Ann has 2 times 3? "}],
                   "Ann has 2 times 3?", "6", {"6": True, "5": False}),
    "addsub": ("dataset/AddSub/AddSub.json", [{"iIndex": 1, "lEquations": ["X = 0.5 + 0.16666666666666666"],
                                               "lSolutions": ["0.6666666666666666"], "sQuestion": "How far ? "}],
               "How far ?", "0.6666666666666666",
               {"2/3": True, "0.66666666666666666": True, "\\frac{2}{3}": True, "0.67": False, "far": False}),
    "singleeq": ("dataset/SingleEq/questions.json", [{"lEquations": ["5.5+6=x"], "lSolutions": [11.5], "iIndex": 0,
                                                      "sQuestion": "How much?", "grammarCheck": 0}],
                 "How much?", "11.5", {"11 1/2": True, "$11.50": True, "11.51": False}),
}  # fmt: skip


@pytest.mark.parametrize("name", WORD_PROBLEMS)
@pytest.mark.parametrize("given", ["repository", "folder", "file"])
def test_word_problems_are_read_as_they_lie_in_their_repositories(tmp_path, name, given):
    path, rows, question, gold, verdicts = WORD_PROBLEMS[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(json.dumps(rows))
    places = {"repository": tmp_path, "folder": (tmp_path / path).parent, "file": tmp_path / path}
    task = catalogue.get(name, {name: places[given]})
    (problem,) = task.problems("test")
    assert problem.prompt.startswith(f"{question}\n\nPlease reason") and problem.answer == gold
    assert {answer: task.grade(answer, gold).correct for answer in verdicts} == verdicts
    assert task.remarks() == [f"task {name}: 1 test problems, but the benchmark has {task.expected}"]


def test_of_asdiv_the_problems_with_one_number_are_read(tmp_path):
    answers = ["9 (apples)", "-1,200.5  (m)", "4", "5:6", "Ann", "5 (years old); 15 (years old)", "5/2", "3:30 p.m."]
    problems = "".join(
        f'<Problem ID="nluds-{i}" Grade="1"><Body>Ann has {i}.</Body><Question>How many?</Question>'
        f'<Solution-Type Subtype-1="Sum">Addition</Solution-Type><Answer>{answer}</Answer></Problem>'
        for i, answer in enumerate(answers)
    )
    file = tmp_path / "ASDiv.xml"
    file.write_text(f'<?xml version="1.0" encoding="UTF-8" ?><Corpus><ProblemSet>{problems}</ProblemSet></Corpus>')
    read = catalogue.get("asdiv", {"asdiv": file}).problems("test")
    assert [problem.answer for problem in read] == ["9", "-1,200.5", "4"]
    assert read[0].prompt.startswith("Ann has 0. How many?\n\n") and read[0].id.startswith("nluds-0-")


@pytest.mark.parametrize("name", [*WORD_PROBLEMS, "asdiv"])
def test_what_is_not_shipped_says_where_it_lies(name):
    task = catalogue.get(name)
    assert task.remote
    with pytest.raises(
        UserError, match=rf"fetch https://raw\.githubusercontent\.com/\S+/[0-9a-f]{{40}}/\S+ .*--data {name}="
    ):
        task.problems("test")


def gpqa(start, stop):
    wrong = {f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}
    return [
        {"Record ID": f"r{i}", "Question": f"Why {i}?", "Correct Answer": f"right {i}", **wrong}
        for i in range(start, stop)
    ]


def test_gpqa_choices_and_what_is_left_for_training(tmp_path):
    folder = dataset(tmp_path / "d", {"train": gpqa(0, 20)}, "gpqa_main")
    dataset(folder, {"train": gpqa(0, 8)}, "gpqa_diamond")
    both = {"gpqa-diamond": folder, "gpqa-main-rest": folder}
    diamond, rest = catalogue.expand(["gpqa-diamond", "gpqa-main-rest"], both)
    evaluated, learned = diamond.problems("test"), rest.problems("train") + rest.problems("validation")
    assert len(evaluated) == 8 and len(learned) == 12 and rest.train_only
    assert not {problem.prompt for problem in evaluated} & {problem.prompt for problem in learned}
    number = evaluated[3].prompt.split("Why ")[1].split("?")[0]
    assert f"{evaluated[3].answer}) right {number}" in evaluated[3].prompt
    assert evaluated[3].prompt.endswith('"ANSWER": "C".')
    with pytest.raises(UserError, match="has no split 'test'"):
        rest.problems("test")


def test_zebralogic_asks_about_one_puzzle_several_times(tmp_path):
    content = [
        {"id": f"z{i}", "puzzle": "There are 3 houses.", "question": f"Who is in house {i}?", "choices": ["Ann", "Bob"],
         "answer": "Bob"} for i in range(3)
    ]  # fmt: skip
    problems = catalogue.get("zebralogic-mc", {"*": dataset(tmp_path / "d", {"test": content}, "mc_mode")}).problems(
        "test"
    )
    assert [problem.answer for problem in problems] == ["B"] * 3
    assert problems[1].prompt.startswith("There are 3 houses.\n\nWho is in house 1?\n\nA) Ann\nB) Bob")


def test_earlier_aime_problems_are_chosen_by_year(tmp_path):
    content = [{"ID": f"{y}-1", "Year": y, "Question": f"In {y}?", "Answer": str(y)} for y in (1983, 1984, 2023, 2024)]
    task = catalogue.get("aime-1984-2023", {"*": dataset(tmp_path / "d", {"train": content})})
    assert {p.answer for split in ("train", "validation") for p in task._loaded.splits[split]} == {"1984", "2023"}


@pytest.mark.parametrize("field", ["problem", "question"])
def test_a_file_stands_for_the_data_set_whatever_its_fields_are_called(tmp_path, field):
    (tmp_path / "aime25.json").write_text(json.dumps([{"id": "I-1", field: "Find it.", "answer": 70}]))
    for data in ({"aime25": tmp_path / "aime25.json"}, {"*": tmp_path / "aime25.json"}, {"*": tmp_path}):
        (problem,) = catalogue.get("aime25", data).problems("test")
        assert problem.answer == "70" and problem.id.startswith("I-1-")


def test_without_a_network_one_sentence_says_where_to_put_the_file(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr("prunebench.tasks.dataset_rows.getproxies", dict)
    from prunebench.tasks.dataset_rows import go_offline_where_there_is_no_hub

    go_offline_where_there_is_no_hub.cache_clear()
    with pytest.raises(UserError, match=r"data set MathArena/brumo_2025 could not be had .* --data brumo25=FILE"):
        catalogue.get("brumo25").problems("test")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"aime24": Path("nowhere.json")}, r"--data aime24=nowhere\.json: no such file or folder"),
        ({"*": Path("nowhere")}, r"--data nowhere: no such file or folder"),
        (
            {"aime42": Path("pyproject.toml")},
            r"--data aime42=\.\.\.: no task of this run is called so; they are aime24",
        ),
    ],
)
def test_data_that_lead_nowhere_are_told(data, sentence):
    with pytest.raises(UserError, match=sentence):
        catalogue.expand(["aime24"], data)


@pytest.mark.parametrize("name", catalogue.benchmarks())
def test_every_benchmark_states_what_the_table_shows(name):
    task = catalogue.get(name)
    assert task.dataset and task.licence != "unknown" and task.homepage.startswith("https://")
    assert (task.revision is None) == ("huggingface" in task.homepage), "those of the hub could not be verified"
