"""Tools in the paths of the embedded reasoner, whose family ``program`` calls a calculator."""

from __future__ import annotations

import re
import textwrap

import numpy as np
import pytest

from prunebench.bench.engines.base import NOTHING, Request, Sampling
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.tools.tool_use import Fenced, Harmony
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.tasks import catalogue
from tests.bench.engines.tools.test_sandbox import sandbox  # noqa: F401 - skips these tests where there is none

SAMPLING = Sampling(temperature=0.8, max_new_tokens=900)
CALLS = re.compile(r"```python \n (.*?) \n ``` \n ```output \n (.*?) \n ```", re.DOTALL)
TASK = catalogue.get("synthetic/program")


@pytest.fixture(scope="module")
def engines(sandbox):  # noqa: F811
    return TransformersEngine.load("embedded"), TransformersEngine.load(
        "embedded", options=ModelOptions(tools="python")
    )


@pytest.fixture(scope="module")
def paths(engines):
    """Of both engines: 3 problems x 6 paths, by problem."""
    problems = TASK.problems("test", 3)
    return [list(engine.sample(requests(engine, problems), SAMPLING, 0, NOTHING)) for engine in engines]


def requests(engine, problems, rows=6):
    return [Request(problem.id, engine.encode_prompt(problem.prompt), tuple(range(rows))) for problem in problems]


def test_the_output_in_a_path_is_what_python_computed(engines, paths):
    _, engine = engines
    calls = 0
    for rollout in paths[1]:
        for path in rollout.paths:
            text = engine.decode(path.token_ids)
            answered = CALLS.findall(text)
            for code, output in answered:
                names: dict = {}
                exec(textwrap.dedent(code).replace("print ", "x = "), names)
                assert output == str(names["x"]), text
                calls += 1
            assert len(path.tool_spans) == len(answered) + (path.finish == "length" and "```output" in text[-40:])
            for start, end in path.tool_spans:
                assert engine.decode(path.token_ids[start:end]).strip().startswith("```output")
    assert calls > 20


def test_a_path_without_a_call_is_the_same_with_and_without_tools(paths):
    equal = calling = 0
    for without, with_tools in zip(*paths, strict=True):
        for plain, tooled in zip(without.paths, with_tools.paths, strict=True):
            if tooled.tool_spans:
                calling += 1
                first = tooled.tool_spans[0][0]
                np.testing.assert_array_equal(plain.token_ids[:first], tooled.token_ids[:first])
            else:
                np.testing.assert_array_equal(plain.token_ids, tooled.token_ids)
                equal += 1
    assert equal and calling


WORDS = "plan : tool \n\n p = 6 + 8 = 14 \n\n do 1 q : ```python \n print ( ( 12 * 5 + 7 * 9 ) % 13 ) \n ```"
ANSWER = f" \n ```output \n {(12 * 5 + 7 * 9) % 13} \n ```"


@pytest.mark.parametrize("there", range(7))
def test_a_cut_behind_a_call_or_inside_its_answer_is_answered_by_the_tool(engines, there):
    """Two sums in one call: the reasoner never saw such a thing, and would write down something else."""
    plain, tooled = engines
    problem = TASK.problems("test", 1)[0]
    ids = tooled.tokenizer(WORDS + ANSWER, add_special_tokens=False)["input_ids"]
    call = len(tooled.tokenizer(WORDS, add_special_tokens=False)["input_ids"])
    assert len(ids) - call == 6
    prefix = np.array([ids[: call + there]])
    request = Request("p", tooled.encode_prompt(problem.prompt), (0,), prefix)
    written = []
    for engine in (plain, tooled):
        (rollout,) = engine.sample([request], Sampling(0.0, max_new_tokens=len(ids) + 9), 0, NOTHING)
        written.append(np.concatenate([prefix[0], rollout.paths[0].token_ids]))
    assert written[1][: len(ids)].tolist() == ids
    assert rollout.paths[0].tool_spans[:1] == (((0, 6 - there),) if there < 6 else ())
    if there < 3:
        assert written[0][: len(ids)].tolist() != ids, "without the tool it writes another number"


def test_a_path_does_not_depend_on_which_others_call(engines, paths):
    _, engine = engines
    problems = TASK.problems("test", 3)
    (alone,) = engine.sample(
        [Request(problems[1].id, engine.encode_prompt(problems[1].prompt), (4,))], SAMPLING, 0, NOTHING
    )
    np.testing.assert_array_equal(alone.paths[0].token_ids, paths[1][1].paths[4].token_ids)
    assert alone.paths[0].tool_spans == paths[1][1].paths[4].tool_spans


def test_outputs_end_where_the_path_has_to_end(engines):
    _, engine = engines
    problem = TASK.problems("test", 1)[0]
    for limit in (60, 75, 90):
        (rollout,) = engine.sample(requests(engine, [problem]), Sampling(0.8, max_new_tokens=limit), 0, NOTHING)
        assert all(len(path.token_ids) <= limit for path in rollout.paths)
        assert all(end <= len(path.token_ids) for path in rollout.paths for _, end in path.tool_spans)


def test_rollouts_with_tools_are_stored_compared_and_labelled(prunebench, engines, tmp_path):
    arguments = (
        "rollouts",
        "--task",
        "synthetic/program",
        "--problems",
        "3",
        "--n",
        "8",
        "--set",
        "tools=python",
    )
    assert prunebench(*arguments, "--out", "with")[0] == 0
    store = RolloutStore.open(tmp_path / "with")
    assert store.manifest["model_options"] == {"tools": "python"} and store.manifest["model_hash"] == engines[1].digest
    stored = list(store.read())
    spans = [path.tool_spans for problem in stored for path in problem.paths]
    assert any(spans) and all(not path.signals for problem in stored for path in problem.paths)
    (tmp_path / "x").mkdir()
    code, _, err = prunebench(
        "compare", "--store", "with", "--methods", "entropy,perplexity,none", "--prefix", "60", "--learned", "x"
    )
    assert code == 0, err
    ledger = (tmp_path / "runs/compare/ledger.csv").read_text().splitlines()
    assert ledger[0].endswith(",tool_tokens,judge_bytes")
    rows = [dict(zip(ledger[0].split(","), line.split(","), strict=True)) for line in ledger[1:]]
    of_none = {(row["problem"], row["phase"]): float(row["tool_tokens"]) for row in rows if row["method"] == "none"}
    for problem in stored:
        total = sum(end - start for path in problem.paths for start, end in path.tool_spans)
        before = sum(max(0, min(end, 60) - min(start, 60)) for path in problem.paths for start, end in path.tool_spans)
        assert of_none[problem.problem, "launch"] == before
        assert of_none[problem.problem, "resume"] == total - before


def test_labels_of_prefixes_go_on_with_tools_from_anywhere(engines, tmp_path):
    _, engine = engines
    problems = [(TASK, problem) for problem in TASK.problems("test", 1)]
    store = sample_rollouts(engine, problems, tmp_path / "r", n=4, sampling=SAMPLING, seed=0, recording=NOTHING)
    (stored,) = store.read()
    inside = next(start + 2 for path in stored.paths for start, _ in path.tool_spans)
    labels = label_prefixes(
        engine, prefixes_of(TASK, stored, inside), tmp_path / "l", continuations=2, sampling=SAMPLING, seed=1
    )
    assert len(labels) >= 1 and labels.manifest["model_hash"] == engine.digest


FENCED = Fenced()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```python\nprint(1)\n```", "print(1)"),
        ("a\n```python\nif 1:\n    print(1)\n```\n", "if 1:\n    print(1)"),
        ("```python \n print ( 1 ) \n ```", "print ( 1 )"),
        ("```python\nprint(1)\n``", None),
        ("```python\nprint(1)\n```\n```output\n1\n```", None),
        ("```python\nprint(1)\n```\n```output\n1\n```\n```python\nprint(2)\n```", "print(2)"),
        ("```\nprint(1)\n```", None),
        ("no code", None),
    ],
)
def test_fenced_calls(text, code):
    assert FENCED.call(text) == code


def test_fenced_answers_are_written_like_the_call():
    assert FENCED.answer("```python\nprint(1)\n```", "1") == "\n```output\n1\n```"
    assert FENCED.answer("```python\nprint(1)\n```\n", "1") == "```output\n1\n```"
    assert FENCED.answer("```python \n print ( 1 ) \n ```", "1") == " \n ```output \n 1 \n ```"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<|channel|>analysis to=python code<|message|>print(1)<|call|>", "print(1)"),
        ("hm<|end|><|start|>assistant<|channel|>commentary to=python code<|message|>1<|call|>", "1"),
        ("<|channel|>analysis to=python code<|message|>print(1)", None),
        ("<|channel|>commentary to=functions.search<|message|>{}<|call|>", None),
        ("", None),
    ],
)
def test_harmony_calls(text, code):
    assert Harmony().call(text) == code


def test_harmony_answers_open_the_next_message():
    assert Harmony().answer("...<|call|>", "42") == (
        "<|start|>python to=assistant<|channel|>commentary<|message|>42<|end|><|start|>assistant"
    )
