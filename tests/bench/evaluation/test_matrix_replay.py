from __future__ import annotations

import json
import random

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.matrix_replay import ReplayRow, replay_matrix


def write(folder, name, problems):
    """``problems``: per problem the gold answer and per path (answer, tokens)."""
    path = folder / f"{name}.json"
    content = [
        {"gold_answer": gold, "probe_freq": 500, "each_branch": [[[], tokens, answer] for answer, tokens in paths]}
        for gold, paths in problems
    ]
    path.write_text(json.dumps(content))
    return path


# random.Random(0).shuffle of four items puts them into the order 2, 0, 1, 3, and random.Random(1) into 3, 0, 2, 1.
ORDERS = {0: [2, 0, 1, 3], 1: [3, 0, 2, 1]}
PROBLEMS = [
    ("5", [("5", 10), ("6", 20), ("5", 30), ("6", 40)]),
    ("7", [("7", 1), ("", 2), ("07", 3), ("8", 4)]),
    ("1", [("1", 100), ("1", 200), ("1", 300), ("1", 400)]),
]


@pytest.mark.parametrize("seed", ORDERS)
def test_the_orders_of_the_hand_computation_are_those_of_the_generator(seed):
    order = list(range(4))
    random.Random(seed).shuffle(order)
    assert order == ORDERS[seed]


def test_a_tiny_matrix_by_hand(tmp_path):
    """Three problems, four paths, window 2, the seeds 0 and 1; strings, so 07 is not 7.

    Self-consistency launches all: problem 0 ties 5 and 6 (1/2), 1 ties 7, 07 and 8 (1/3), 2 is right. Tokens 100, 10,
    1000, longest 40, 4, 400.

    ESC: seed 0 sees [5 5] of problem 0, 40 tokens, longest 30, right; [07 7] [- 8] of 1, all of it; [1 1] of 2, paths 2
    and 0, 400 tokens, longest 300. Seed 1: [6 5] [5 6], [8 7] [07 -], all of both; [1 1], paths 3 and 0: 500 and 400.

    Adaptive consistency at 0.95 wants 4 to 0 (1 - I_{1/2}(5, 1) = 1 - 1/32; three to none is 1 - 1/16): all paths.
    """
    path = write(tmp_path, "tiny", PROBLEMS)
    everything = (100 * (1 / 2 + 1 / 3 + 1) / 3, (100 + 10 + 1000) / 3, (40 + 4 + 400) / 3)
    esc = (
        100 * ((1 + 1 / 3 + 1) + (1 / 2 + 1 / 3 + 1)) / 6,
        ((40 + 10 + 400) + (100 + 10 + 500)) / 6,
        ((30 + 4 + 300) + (40 + 4 + 400)) / 6,
    )
    rows = replay_matrix(path, "string", shuffles=2, paths=4, window=2)
    assert [(row.task, row.method) for row in rows] == [
        ("tiny", "self-consistency"),
        ("tiny", "esc"),
        ("tiny", "adaptive-consistency"),
    ]
    for row, expected in zip(rows, (everything, esc, everything), strict=True):
        assert (row.accuracy, row.tokens, row.longest_path) == pytest.approx(expected)


def test_answers_that_mean_the_same_vote_together(tmp_path):
    """7 and 07 are two votes of three then; with the first two paths of either order 5 and 5, 07 and 7 agree."""
    path = write(tmp_path, "tiny", PROBLEMS)
    sc, esc, _ = replay_matrix(path, "equivalence", shuffles=2, paths=4, window=2)
    assert sc.accuracy == pytest.approx(100 * (1 / 2 + 1 + 1) / 3)
    assert esc.tokens == pytest.approx(((40 + 4 + 400) + (100 + 10 + 500)) / 6)


def test_only_the_first_paths_of_the_shuffled_are_launched(tmp_path):
    path = write(tmp_path, "tiny", PROBLEMS)
    sc, _, _ = replay_matrix(path, "string", shuffles=2, paths=2, window=2)
    assert sc.tokens == pytest.approx(((40 + 4 + 400) + (50 + 5 + 500)) / 6)
    assert sc.longest_path == pytest.approx(((30 + 3 + 300) + (40 + 4 + 400)) / 6)
    assert sc.accuracy == pytest.approx(100 * ((1 + 1 / 2 + 1) + (1 / 2 + 1 / 2 + 1)) / 6)


def test_adaptive_consistency_stops_at_four_of_one_mind(tmp_path):
    path = write(tmp_path, "sure", [("1", [("1", 10)] * 9)])
    rows = replay_matrix(path, shuffles=3, paths=9, window=4)
    assert [row.tokens for row in rows] == [90, 40, 40]


def test_adaptive_consistency_may_launch_all_paths(tmp_path):
    """More than the 40 at which it would end by default."""
    path = write(tmp_path, "torn", [("1", [(str(number), 10) for number in range(44)])])
    assert [row.tokens for row in replay_matrix(path, shuffles=1, paths=44)] == [440] * 3


def test_a_problem_without_a_single_answer_is_wrong(tmp_path):
    path = write(tmp_path, "silent", [("1", [("", 10), (None, 20)])])
    assert {row.accuracy for row in replay_matrix(path, shuffles=2, paths=2)} == {0}


def test_every_file_is_a_task(tmp_path):
    folder = tmp_path / "public"
    folder.mkdir()
    for name in ("b", "a"):
        write(folder, name, PROBLEMS[:1])
    rows = replay_matrix(folder, shuffles=1, paths=4)
    assert [row.task for row in rows] == ["a"] * 3 + ["b"] * 3
    assert rows[0] == ReplayRow("a", "self-consistency", 50, 100, 40)


def test_a_problem_with_too_few_paths_and_an_unknown_grading_are_one_sentence(tmp_path):
    path = write(tmp_path, "tiny", PROBLEMS)
    with pytest.raises(UserError, match="problem 'tiny/0' has 4 paths, 64 are wanted; ask for fewer"):
        replay_matrix(path)
    with pytest.raises(UserError, match="grading 'exact' is not known"):
        replay_matrix(path, "exact", paths=4)


def test_classes_are_found_once_per_problem(tmp_path, monkeypatch):
    from prunebench.tasks.imported import ImportedTask

    asked = []
    classes = ImportedTask.classes
    monkeypatch.setattr(ImportedTask, "classes", lambda self, answers: asked.append(1) or classes(self, answers))
    replay_matrix(write(tmp_path, "tiny", PROBLEMS), shuffles=20, paths=4)
    assert len(asked) == len(PROBLEMS)


def test_the_means_are_those_of_a_plain_recount(tmp_path):
    """Self-consistency and ESC once more, written down without policies."""
    generator = np.random.default_rng(3)
    problems = [
        (
            "1",
            [
                (str(answer), int(tokens))
                for answer, tokens in zip(generator.integers(0, 3, 20), generator.integers(1, 99, 20), strict=True)
            ],
        )
        for _ in range(4)
    ]
    sc, esc, _ = replay_matrix(write(tmp_path, "random", problems), "string", shuffles=10, paths=16, window=3)
    for row, window in ((sc, 16), (esc, 3)):
        right, tokens, longest = [], [], []
        for seed in range(10):
            for gold, paths in problems:
                shuffled = list(paths)
                random.Random(seed).shuffle(shuffled)
                taken = shuffled[:16]
                for end in range(window, 17, window):
                    if len({answer for answer, _ in taken[end - window : end]}) == 1:
                        taken = taken[:end]
                        break
                answers = [answer for answer, _ in taken]
                most = max(answers.count(answer) for answer in answers)
                winners = {answer for answer in answers if answers.count(answer) == most}
                right.append((gold in winners) / len(winners))
                tokens.append(sum(tokens for _, tokens in taken))
                longest.append(max(tokens for _, tokens in taken))
        expected = (100 * np.mean(right), np.mean(tokens), np.mean(longest))
        assert (row.accuracy, row.tokens, row.longest_path) == pytest.approx(expected)


def recounted(paths, gold, order, warm_up=15, patience=7, stable=40, streak=14):
    """What zhengkid/Parallel-Probe does with ``paths`` of one problem, written down path by path: (right, tokens).

    Of equally frequent answers the first in ``order`` leads.
    """

    def leading(answers):
        return max(answers, key=lambda answer: (answers.count(answer), -order.index(answer)))

    def said(path, number):  # its answer in a round, and what that round costs
        probed, tokens, final = path
        over = number >= len(probed)
        return (final, max(0, tokens - 500 * len(probed))) if over else (probed[number], 500)

    alone, alone_tokens = [], 0
    for path in paths:
        answers = []
        while len(answers) <= len(path[0]) and not (len(answers) >= streak and len(set(answers[-streak:])) == 1):
            answer, cost = said(path, len(answers))
            answers.append(answer)
            alone_tokens += cost
        alone.append(answers[-1])
    off, dropped, ended, same, before, tokens = [0] * len(paths), set(), set(), 0, None, 500 * len(paths)
    for step in range(100):
        answers = {}
        for index, path in enumerate(paths):
            if index not in dropped:
                answers[index], cost = said(path, step + 1)
                tokens += cost if index not in ended else 0
                if step + 1 >= len(path[0]):
                    ended.add(index)
        counts = [*answers.values()]
        winner = leading(counts)
        if step >= warm_up:
            for index in answers.keys() - ended:
                off[index] = off[index] + 1 if answers[index] != winner else 0
                if off[index] >= patience:
                    dropped.add(index)
        same, before = same + 1 if winner == before else 0, winner
        if same >= stable or len(ended | dropped) == len(paths):
            break
    most = max(alone.count(answer) for answer in alone)
    winners = {answer for answer in alone if alone.count(answer) == most}
    return ((gold in winners) / len(winners), alone_tokens), (before == gold, tokens)


def test_what_reads_forced_answers_does_what_its_source_does(tmp_path):
    """On paths that end right behind their last forced answer, so that both count alike."""
    generator, problems = np.random.default_rng(1), []
    for _ in range(6):
        paths = []
        for _ in range(9):
            rounds = int(generator.integers(20, 70))
            turn, final = int(generator.integers(1, 40)), str(generator.choice([3, 3, 3, 4]))
            probed = [final if number >= turn else str(generator.integers(0, 3)) for number in range(rounds)]
            paths.append([probed, 500 * rounds + 1, probed[-1]])
        problems.append({"gold_answer": "3", "probe_freq": 500, "each_branch": paths})
    path = tmp_path / "random.json"
    path.write_text(json.dumps(problems))
    rows = {row.method: row for row in replay_matrix(path, "string", shuffles=1, paths=9, window=3)}
    results = []
    for problem in problems:
        shuffled = list(problem["each_branch"])
        random.Random(0).shuffle(shuffled)
        order = [path[2] for path in problem["each_branch"]] + [
            *(path[0][number] for number in range(70) for path in problem["each_branch"] if number < len(path[0]))
        ]
        results.append(recounted(shuffled, "3", order))
    for method, place in (("streak", 0), ("parallel-probe", 1)):
        right, tokens = np.mean([result[place] for result in results], axis=0)
        assert (rows[method].accuracy, rows[method].tokens) == pytest.approx((100 * right, tokens)), method
    assert rows["parallel-probe"].tokens < rows["self-consistency"].tokens
