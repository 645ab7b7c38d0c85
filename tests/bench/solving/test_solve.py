"""What is solved online is what a replay of whole paths decides, from the same seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from prunebench.bench import solve
from prunebench.bench.cli.at_hand import EMBEDDED
from prunebench.bench.cli.solve import _votes
from prunebench.bench.config import preset
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import replay
from prunebench.bench.policies import TopK
from prunebench.bench.policies.votes import Majority
from prunebench.bench.progress import Spoken
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.training.loading import Judges, load_method, reads_of
from prunebench.tasks import catalogue
from prunebench.tasks.questions import Questions
from tests.bench.conftest import refused

N, K, PROBLEMS = 16, 4, 3
TASK = "synthetic/power"


@pytest.fixture(scope="module")
def reasoner():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def config():
    return preset("demo", tasks=(TASK,), problems=PROBLEMS, n=N, k=K)


@pytest.fixture(scope="module")
def stored(reasoner, config, tmp_path_factory):
    problems = problems_of([catalogue.get(TASK)], "test", PROBLEMS, 0)
    store = sample_rollouts(
        reasoner, problems, tmp_path_factory.mktemp("store"), n=N, sampling=config.sampling, seed=0,
        recording=config.recording,
    )  # fmt: skip
    return list(store.read())


@pytest.mark.parametrize(
    "method",
    ["stop", "otv", "linear-probe", "step", "entropy", "agreement", "p-true", "prm", "mean-rank(stop,entropy)"],
)
def test_online_and_replay_keep_the_same_paths_and_spend_the_same_tokens(reasoner, config, stored, method):
    pruner = load_method(method, EMBEDDED.learned, reasoner.digest, config.prefix_tokens, Judges({})).pruner
    solutions = list(solve(catalogue.get(TASK), method=method, n=N, k=K, engine=reasoner, limit=PROBLEMS))
    assert [solution.problem for solution in solutions] == [problem.problem for problem in stored]
    for solution, problem in zip(solutions, stored, strict=True):
        record = record_of(reasoner, problem, config.prefix_tokens, None, reads_of([method]))
        played = replay(pruner, TopK(K), record.complete, config.prefix_tokens)
        assert solution.kept == tuple(np.flatnonzero(played.keep))
        assert solution.answers == tuple(problem.paths[path].answer for path in solution.kept)
        np.testing.assert_allclose(solution.scores, played.scores, rtol=1e-3, atol=1e-4)
        ledger, cost = solution.ledger, played.cost
        assert ledger.launch_tokens == np.minimum(record.lengths, config.prefix_tokens).sum()
        assert ledger.launch_tokens + ledger.resume_tokens == played.decoded.sum()
        assert ledger.check_tokens == cost.check_tokens + cost.probe_tokens + cost.reencoded_tokens
        outcome = Majority().elect(record.answer_class[played.keep])
        classes = {problem.paths[row].answer: int(record.answer_class[row]) for row in solution.kept}
        assert classes.get(solution.answer, -1) in (outcome.winners or (-1,))
        assert ledger.whole_tokens == pytest.approx(record.lengths.sum(), rel=0.3), "an estimate of all whole paths"
        assert 0 < solution.tokens_saved < 1


def test_all_paths_are_kept_without_a_method(reasoner, stored):
    (solution,) = solve(catalogue.get(TASK), method="none", n=N, k=K, engine=reasoner, limit=1)
    assert solution.kept == tuple(range(N))
    assert solution.answers == tuple(path.answer for path in stored[0].paths)
    assert solution.tokens_saved == pytest.approx(0)
    assert sum(solution.votes.values()) <= N
    assert solution.share == pytest.approx(max(solution.votes.values()) / N)


def test_what_was_solved_is_not_solved_again(reasoner, config, tmp_path, monkeypatch):
    questions = [
        problem.prompt.removesuffix(" \n\n") for _, problem in problems_of([catalogue.get(TASK)], "test", 5, 0)
    ]

    def asked(count, **settings):
        return solve(questions[:count], n=N, k=K, engine=reasoner, out=tmp_path, **settings)

    said: list[str] = []
    first = list(asked(2, progress=Spoken(said.append)))
    most = 2 * (N * 40 + K * (config.max_new_tokens - 40))
    assert said[-1].startswith(f"2 problems: {N} paths each to token 40, {K} of them on to their ends")
    assert said[-1].endswith(f"{2 * N * 40:,} to {most:,} tokens")
    with (tmp_path / "answers.jsonl").open("ab") as file:
        file.write(b'\n{"settings": "cut o')  # by a kill
    launched = []
    launch = TransformersEngine.launch
    monkeypatch.setattr(
        TransformersEngine,
        "launch",
        lambda self, requests, *rest: launched.extend(requests) or launch(self, requests, *rest),
    )
    again = list(asked(4, progress=Spoken(said.append)))
    assert said[-1].startswith("2 of 4 problems are answered already; 2 problems: ")
    assert again[:2] == first
    assert [request.problem for request in launched] == ["questions/3", "questions/4"]
    assert [solution.answer for solution in again] == [solution.answer for solution in asked(4)]
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [row["problem"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["tokens_saved"] == pytest.approx(first[0].tokens_saved)
    with pytest.raises(UserError, match="answers of other settings; choose another --out"):
        list(asked(4, seed=1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "potential"}, "it reads potential, which nobody knows of a new problem"),
        ({"method": "stopp"}, "did you mean 'stop'"),
        ({"k": 99}, "k = 99 paths cannot be kept"),
        ({"policy": "topk:2"}, "policy: solving makes no use of it"),
        ({"vote": "boorda"}, "borda"),
        ({"n": 4, "tempperature": 1.0}, "did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_run_is_refused(reasoner, options, sentence):
    with pytest.raises(UserError, match=sentence):
        list(solve(["1 + 1"], **{"n": N, "k": K, **options}, engine=reasoner))


def test_questions_are_texts_or_rows():
    task = Questions(["one ?", {"problem": "two ?"}, {"question": "three ?", "id": "x"}])
    assert [(problem.id, problem.prompt.partition("\n")[0]) for problem in task.problems()] == [
        ("1", "one ?"), ("2", "two ?"), ("x", "three ?")
    ]  # fmt: skip
    with pytest.raises(
        UserError, match=r"question 2: no text in any of the fields .* \(there are: text\); .*new task NAME"
    ):
        Questions(["one", {"text": "two"}])
    with pytest.raises(UserError, match="the id 'a' stands twice"):
        Questions([{"question": "one", "id": "a"}, {"question": "two", "id": "a"}])


def test_a_vote_may_read_scores_and_entropies(reasoner):
    for vote in ("borda", "inverse-entropy"):
        (solution,) = solve(catalogue.get(TASK), method="entropy", vote=vote, n=N, k=K, engine=reasoner, limit=1)
        assert 0 < solution.share <= 1


def test_the_command_line_solves_a_file(prunebench, tmp_path):
    prompts = [problem.prompt.removesuffix(" \n\n") for _, problem in problems_of([catalogue.get(TASK)], "test", 2, 0)]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"id": f"q{i}", "question": text}) + "\n" for i, text in enumerate(prompts)))
    code, out, _ = prunebench("solve", file, "--n", N, "--k", K, "--out", tmp_path / "o", "--set", "limit=1")
    plan, first, last = out.splitlines()
    assert plan.startswith(f"1 problem: {N} paths each to token 40, {K} of them on to their ends")
    assert code == 0 and first.startswith("q0: ") and f"% of {K} paths" in first
    assert last.startswith("1 problem: ")
    code, out, _ = prunebench("solve", prompts[1], "--n", N, "--k", K, "--method", "entropy", "--out", tmp_path / "p")
    assert code == 0 and out.splitlines()[1].startswith("1: ")
    of_task = ("solve", "synthetic/power", "--n", N, "--k", K, "--set", "limit=1", "--set", "split=train")
    code, out, err = prunebench(*of_task, "--out", tmp_path / "t")
    assert code == 0 and "synthetic/power: its problems of the split train" in out and "\n1 problem: " in out, err
    assert "no file of questions" in refused(prunebench("solve", "nothing"))
    assert "no such file" in refused(prunebench("solve", "nothing.jsonl"))
    said = refused(prunebench("solve", file, "--recommended", tmp_path / "soon"))
    assert said.endswith(
        "no recommendation there; make it with: prunebench advise --task TASK --out " + str(tmp_path / "soon")
    )
    assert "unknown method 'stpo': did you mean 'stop'" in refused(prunebench("solve", file, "--method", "stpo"))
    assert "the first ones only are --set limit=NUMBER" in refused(prunebench("solve", file, "--set", "problems=2"))


def test_the_names_of_fields_are_read_in_capitals_or_not():
    (problem,) = Questions([{"Question": "1 + 1", "ID": "a"}]).problems()
    assert problem.id == "a" and problem.prompt.startswith("1 + 1")


def test_a_line_says_who_voted_and_whether_others_have_as_many():
    (found,) = solve(["power mod 11 : g = 3 ; e = 2 ; find g ^ e"], model="embedded", method="entropy", n=4, k=2)
    split = replace(found, answers=("3", "4", None), kept=(0, 1, 2), votes={"3": 1.0, "4": 1.0}, share=1 / 3)
    assert _votes(split) == "33% of 3 paths, 1 of which state no answer, as many as 1 other answer has"
    alone = replace(found, answers=("3", "3"), kept=(0, 1), votes={"3": 2.0}, share=1.0)
    assert _votes(alone) == "100% of 2 paths"


def test_what_would_go_unheeded_is_refused(prunebench, tmp_path, monkeypatch):
    advice = SimpleNamespace(worth_it=False, none_paths=16, model="embedded", choice=SimpleNamespace(prefix=40))
    monkeypatch.setattr("prunebench.bench.guideline.recommendation.Recommendation.read", lambda folder: advice)
    question = "power mod 11 : g = 3 ; e = 2 ; find g ^ e"
    said = refused(prunebench("solve", question, "--recommended", "advice", "--k", "4", "--method", "entropy"))
    assert "advice: recommends no pruning, of 16 paths all are kept; leave out --method, --k" in said
    said = refused(prunebench("solve", "synthetic/power", "--set", "answer_type=integr"))
    assert "answer_type: synthetic/power says itself how its answers are read" in said
    said = refused(prunebench("solve", question, "--n", "8", "--k", "16"))
    assert "n = 8" in said and "k = 16" in said and "(with " in said
