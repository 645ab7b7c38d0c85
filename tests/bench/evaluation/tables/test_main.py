from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import t

from prunebench.bench import policies
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.decisions import FILE as DECISIONS
from prunebench.bench.evaluation.decisions import read_decisions, write_decisions
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.tables.main import Setting, _detectable, main_rows
from prunebench.bench.policies import Ratio, TopK
from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.signals import PRIVILEGED

L = 10
MODEL = Arithmetic(parameters=10, layers=0, width=0, kv_bytes=0)


@dataclass
class KeepAll(Pruner):
    name = "none"
    source = Source.CONTROL
    requires = frozenset()
    paper = "test"

    def score(self, pool):
        return np.zeros(len(pool))


@dataclass
class Chance(Pruner):
    name = "random"
    source = Source.CONTROL
    requires = frozenset()
    paper = "test"
    draws = 200
    seed: int = 0

    def score(self, pool):
        return np.random.default_rng([self.seed, *pool.problem.encode()]).random(len(pool))


@dataclass
class Oracle(KeepAll):
    requires = frozenset({Signal.OUTCOME})

    def score(self, pool):
        return pool.outcome


@dataclass
class Potential(KeepAll):
    requires = frozenset({Signal.POTENTIAL})

    def score(self, pool):
        return pool.potential


@dataclass
class ByIds(Pruner):
    """Scores by the first token of every prefix."""

    name = "by-ids"
    source = Source.INTERNAL
    requires = frozenset({Signal.TOKEN_IDS})
    paper = "test"
    factor: float = 1.0

    def score(self, pool):
        return self.factor * np.array([float(ids[0]) for ids in pool.token_ids])


@dataclass
class Judge(ByIds):
    """Type II, with a cost: re-encodes 7 tokens, checks 3, by a model of 100 FLOPs in all."""

    source = Source.EXTERNAL
    learnable = True

    def score(self, pool):
        first = np.arange(len(pool)) == 0
        pool.charge(reencoded_tokens=7 * first, check_tokens=3 * first, flops=100.0 * first)
        return super().score(pool)


def record(
    task="t", problem="p0", correct=(1, 0, 0, 1), classes=None, ids=None, lengths=None, halves=None, n=None, **more
):
    correct = np.array(correct, float)
    n = len(correct)
    lengths = np.array([5, 20, 30, 40][:n] if lengths is None else lengths)
    classes = np.where(correct == 1, 0, np.arange(n) + 1) if classes is None else np.array(classes)
    ids = np.arange(n)[::-1] if ids is None else ids
    signals = {Signal.TOKEN_IDS: tuple(np.array([i]) for i in ids), Signal.OUTCOME: correct}
    if halves is not None:
        halves = np.array(halves, float)
        signals[Signal.POTENTIAL] = halves.mean(axis=0)
    pool = Pool(
        problem=problem,
        task=task,
        position=L,
        prompt="",
        prompt_ids=np.array([0]),
        paths=np.arange(n),
        lengths=np.minimum(lengths, L),
        finished=lengths <= L,
        answer_class=np.full(n, -1),
        signals=signals,
        generator=more.pop("generator", None),
    )
    return ProblemRecord(
        task=task,
        problem=problem,
        pool=pool,
        lengths=lengths,
        correct=correct,
        answer_class=classes,
        gold_class=0 if correct.any() else -1,
        halves=halves,
        leaky=more.pop("leaky", np.zeros(n, bool)),
        launch_seconds=2.0,
    )


def candidates_of(methods, policy=None):
    policy = policy or TopK(2)
    return {
        name: Candidate(name, pruner, policies.KeepAll() if name == "none" else policy)
        for name, pruner in methods.items()
    }


def score_methods(records, methods, policy=None, progress=lambda _: None):
    return replay_methods(records, candidates_of(methods, policy), progress)


def run(records, methods, policy=None, notes_of=None, **more):
    policy = policy or TopK(2)
    replays = score_methods(records, methods, policy)
    candidates = {
        name: replace(one, note=(notes_of or {}).get(name, "")) for name, one in candidates_of(methods, policy).items()
    }
    table = main_rows(records, replays, candidates, Setting("model", L, 0, policy, MODEL, **more))
    notes = [f"{note.task}: {note.text}" for note in table.notes]
    return {(row.task, row.method): row for row in table.rows}, notes, replays


def many(n_problems=40, n=16, seed=0, task="t", labels=False, noise=False):
    generator = np.random.default_rng(seed)
    records = []
    for i in range(n_problems):
        rates = np.full(n, 0.5) if noise else generator.random(n)
        correct = (generator.random(n) < rates).astype(float)
        records.append(
            record(
                task,
                f"p{i}",
                correct,
                ids=generator.permutation(n),
                lengths=generator.integers(5, 60, n),
                halves=generator.binomial(8, rates, (2, n)) / 8 if labels else None,
            )
        )
    return records


def test_one_problem_by_hand():
    # ids 3, 2, 1, 0: paths 0 and 1 are kept; verdicts 1, 0; classes 0, 2
    rows, _, _ = run([record()], {"none": KeepAll(), "by-ids": ByIds()})
    row, none = rows["t", "by-ids"], rows["t", "none"]
    assert (row.n, row.k, row.policy, row.quadrant) == (4, 2, "topk:2", "III")
    assert (none.n, none.k, none.policy, none.quadrant) == (4, 4, "keep all", "control")
    assert row["avg_at_n"].mean == row["avg_at_k"].mean == 50
    assert row["pass_at_k"].mean == 100
    assert row["maj_at_k"].mean == 50  # one answer each: the right one wins half the time
    assert none["maj_at_k"].mean == 100
    assert row["maj_delta"].mean == -50
    assert row["auroc"].mean == 0.5  # scores 3 and 0 of the right ones against 2 and 1
    assert (row.finished, row["finished_share"].mean, row["leaky_share"].mean) == ("rank", 25, 0)
    assert row["tokens"].mean == row["paper_tokens"].mean == row["flops_tokens"].mean == 5 + 10 * 3 + 10
    assert none["tokens"].mean == 95
    assert row["reduction"].mean == pytest.approx(100 * (1 - 45 / 95))
    assert row["tie_rate"].mean == 0
    assert row["launch_seconds"].mean == 2
    assert math.isnan(row["resume_seconds"].mean)
    assert row.configuration == "factor=1.0"
    for undefined in (row["avg_at_k"].low, row["delta"].low, row["avg_at_k_expected"].mean, row["headroom"].mean,
                      row["spearman"].mean, row["maj_delta_random"].mean, row["potential_delta"].mean):  # fmt: skip
        assert math.isnan(undefined)


def test_what_scoring_costs_is_charged():
    rows, _, _ = run([record()], {"judge": Judge()})
    row = rows["t", "judge"]
    assert row.quadrant == "II"
    assert row["tokens"].mean == 45 + 7 + 3
    assert row["paper_tokens"].mean == 45 + 2 * L
    assert row["flops_tokens"].mean == 45 + 100 / 20


def test_none_differs_from_itself_by_nothing():
    rows, _, _ = run(many(labels=True), {"none": KeepAll(), "by-ids": ByIds()})
    row = rows["t", "none"]
    assert (row["delta"].mean, row["delta"].low, row["delta"].high) == (0, 0, 0)
    assert (row["maj_delta"].mean, row["expected_delta"].mean, row["reduction"].mean) == (0, 0, 0)
    assert (row["headroom"].mean, row["tie_rate"].mean) == (0, 0)
    assert row["p_value"].mean == 1
    assert math.isnan(row["p_holm"].mean)


def test_random_is_unbiased():
    rows, _, scored = run(many(60, labels=True), {"none": KeepAll(), "random": Chance()}, TopK(4))
    row = rows["t", "random"]
    assert [len(draws) for draws in scored.of["random"]] == [200] * 60
    assert row["avg_at_k"].mean == pytest.approx(row["avg_at_n"].mean, abs=0.8)
    assert row["expected_delta"].mean == pytest.approx(0, abs=0.8)
    assert row["auroc"].mean == pytest.approx(0.5, abs=0.01)
    assert row["headroom"].mean == pytest.approx(0, abs=5)
    assert row["maj_delta_random"].mean == 0


def test_labels_of_pure_noise_do_not_lift_the_potential_control():
    rows, _, _ = run(many(150, noise=True, labels=True), {"none": KeepAll(), "potential": Potential()}, TopK(4))
    row = rows["t", "potential"]
    # choosing and grading by the same labels would show about 15 points here
    assert row["avg_at_k_expected"].mean == pytest.approx(50, abs=1.5)
    assert math.isnan(row["headroom"].mean)


def test_split_half_by_hand():
    halves = [[1.0, 0.5, 0.0, 0.2], [0.0, 0.6, 1.0, 0.4]]
    rows, _, _ = run([record(halves=halves)], {"potential": Potential(), "by-ids": ByIds(), "none": KeepAll()})
    # first half chooses 0, 1: told 0 and 0.6; second half chooses 2, 1: told 0 and 0.5
    assert rows["t", "potential"]["avg_at_k_expected"].mean == pytest.approx(100 * np.mean([0.0, 0.6, 0.0, 0.5]))
    # an ordinary method keeps 0, 1 and is told by all labels
    assert rows["t", "by-ids"]["avg_at_k_expected"].mean == pytest.approx(100 * np.mean([0.5, 0.55]))
    assert rows["t", "none"]["avg_at_k_expected"].mean == pytest.approx(100 * np.mean(halves))
    assert rows["t", "by-ids"]["expected_delta"].mean == pytest.approx(100 * (0.525 - np.mean(halves)))
    # its outcome metric uses all labels: 0.5, 0.55, 0.5, 0.3 -> paths 1 and 0
    assert rows["t", "potential"]["avg_at_k"].mean == 50


def test_headroom_runs_from_none_to_potential():
    rows, _, _ = run(
        many(40, labels=True), {"none": KeepAll(), "potential": Potential(), "oracle": Oracle(), "by-ids": ByIds()}
    )
    potential, oracle = rows["t", "potential"], rows["t", "oracle"]
    whole = potential["headroom"]
    assert (whole.mean, whole.low, whole.high) == pytest.approx((100, 100, 100))
    assert potential["potential_delta"].mean == 0
    assert 0 < oracle["headroom"].mean < 100
    assert oracle["avg_at_k"].mean == 100
    assert oracle["auroc"].mean == 1
    assert potential["spearman"].mean == pytest.approx(1)
    by_ids = rows["t", "by-ids"]
    gain = by_ids["avg_at_k_expected"].mean - rows["t", "none"]["avg_at_k_expected"].mean
    assert by_ids["headroom"].mean == pytest.approx(100 * gain / potential["expected_delta"].mean)
    assert by_ids["headroom"].low < by_ids["headroom"].mean < by_ids["headroom"].high


def test_differences_are_paired_and_have_t_intervals():
    records = many(20)
    rows, _, _ = run(records, {"by-ids": ByIds()}, TopK(4))
    deltas = []
    for r in records:
        best = np.argsort([-float(ids[0]) for ids in r.pool.token_ids])[:4]
        deltas.append(100 * (r.correct[best].mean() - r.correct.mean()))
    row = rows["t", "by-ids"]
    half = t.ppf(0.975, 19) * np.std(deltas, ddof=1) / math.sqrt(20)
    assert row["delta"].mean == pytest.approx(np.mean(deltas))
    assert row["delta"].high - row["delta"].mean == pytest.approx(half)
    assert row.n_problems == 20


def test_tasks_come_in_order_and_then_all_pooled():
    records = many(6, seed=1, task="zebra") + many(3, seed=2, task="aime")
    rows, notes, _ = run(records, {"none": KeepAll(), "by-ids": ByIds()})
    assert list(rows) == [(task, name) for task in ("zebra", "aime", "all") for name in ("none", "by-ids")]
    pooled = (6 * rows["zebra", "by-ids"]["avg_at_k"].mean + 3 * rows["aime", "by-ids"]["avg_at_k"].mean) / 9
    assert rows["all", "by-ids"]["avg_at_k"].mean == pytest.approx(pooled)
    assert rows["all", "by-ids"].n_problems == 9
    assert {note.split(": ")[0] for note in notes} == {"zebra", "aime", "all"}
    assert not any(task == "all" for task, _ in run(many(3), {"none": KeepAll()})[0])


def test_holm_runs_over_the_methods_that_are_no_controls():
    methods = {"none": KeepAll(), "oracle": Oracle(), "up": ByIds(), "down": ByIds(factor=-1.0)}
    rows, _, _ = run(many(12), methods)
    p = sorted(rows["t", name]["p_value"].mean for name in ("up", "down"))
    adjusted = sorted(rows["t", name]["p_holm"].mean for name in ("up", "down"))
    assert adjusted == pytest.approx([min(1, 2 * p[0]), min(1, max(2 * p[0], p[1]))])
    assert math.isnan(rows["t", "oracle"]["p_holm"].mean)
    assert rows["t", "oracle"]["p_value"].mean < 0.01


def test_ties_at_the_cut_are_counted():
    rows, _, _ = run([record(ids=[1, 1, 1, 0]), record(problem="p1")], {"by-ids": ByIds()})
    assert rows["t", "by-ids"]["tie_rate"].mean == 50


def test_the_policy_sees_what_finished():
    # path 0 has ended: dropped unless needed, so ids 3, 2, 1, 0 keep paths 1 and 2
    rows, _, _ = run([record()], {"by-ids": ByIds()}, TopK(2, "drop"))
    assert rows["t", "by-ids"]["avg_at_k"].mean == 0
    assert rows["t", "by-ids"].policy == "topk:2:drop"


def test_ratio_gives_its_k():
    rows, _, _ = run(many(3), {"by-ids": ByIds()}, Ratio(0.125))
    assert rows["t", "by-ids"].k == 2


def test_a_policy_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="topk:9"):
        run([record()], {"by-ids": ByIds()}, TopK(9))


def test_pools_may_differ_in_size_and_the_mean_is_shown():
    rows, _, _ = run([record(), record(problem="p1", correct=(1, 0))], {"none": KeepAll(), "by-ids": ByIds()})
    assert rows["t", "none"].n == 3
    assert rows["t", "none"]["avg_at_k"].mean == 50
    with pytest.raises(ValueError, match="at least one problem"):
        run([], {"by-ids": ByIds()})


def test_privileged_signals_are_invisible_to_methods_and_to_controls_that_do_not_declare_them():
    seen = {}

    @dataclass
    class Spy(ByIds):
        requires = frozenset()

        def score(self, pool):
            seen[type(self)] = {signal for signal in Signal if pool.has(signal)}
            return np.zeros(len(pool))

    @dataclass
    class ControlSpy(Spy):
        source = Source.CONTROL

    @dataclass
    class DeclaredSpy(ControlSpy):
        requires = frozenset({Signal.OUTCOME})

    score_methods([record(halves=np.ones((2, 4)))], {"spy": Spy(), "control": ControlSpy(), "declared": DeclaredSpy()})
    assert seen[Spy] & PRIVILEGED == seen[ControlSpy] & PRIVILEGED == set()
    assert seen[DeclaredSpy] & PRIVILEGED == {Signal.OUTCOME}
    assert Signal.TOKEN_IDS in seen[Spy]


def test_a_method_that_asks_for_a_privileged_signal_is_refused():
    @dataclass
    class Greedy(ByIds):
        requires = frozenset({Signal.OUTCOME})

    scored = score_methods([record()], {"greedy": Greedy()})
    assert "privileged signal 'outcome'" in scored.left_out["greedy"]


def test_a_missing_signal_names_signal_method_and_command():
    @dataclass
    class NeedsEntropy(ByIds):
        requires = frozenset({Signal.ENTROPY})

        def score(self, pool):
            raise AssertionError("must not be asked")

    class Engine:
        replay_seconds = 0.0

    methods = {"by-entropy": NeedsEntropy(), "potential": Potential(), "by-ids": ByIds()}
    scored = score_methods([record(generator=Engine())], methods)
    sentence = scored.left_out["by-entropy"]
    assert "by-entropy" in sentence
    assert "'entropy'" in sentence
    assert "prunebench rollouts --set record=entropy" in sentence
    elsewhere = score_methods([record()], methods).left_out["by-entropy"]
    told = "by-entropy needs the signal 'entropy', which t/p0 does not hold for all of its paths"
    assert elsewhere == told, "no command could record it"
    assert "prunebench label" in scored.left_out["potential"]
    assert list(scored.of) == ["by-ids"]


def test_a_method_that_fails_on_one_problem_is_left_out_and_the_others_go_on():
    @dataclass
    class Fails(ByIds):
        def score(self, pool):
            if pool.problem == "p1":
                raise ValueError("no window fits")
            return super().score(pool)

    @dataclass
    class GivesNan(ByIds):
        def score(self, pool):
            return np.array([0.0, 1.0, np.nan, 0.0])

    @dataclass
    class TooShort(ByIds):
        def score(self, pool):
            return np.zeros(3)

    ticks = []
    records = [record(), record(problem="p1")]
    methods = {"fails": Fails(), "nan": GivesNan(), "short": TooShort(), "by-ids": ByIds()}
    scored = score_methods(records, methods, progress=ticks.append)
    assert scored.left_out["fails"] == "fails failed on t/p1: no window fits"
    assert "path 2 is nan" in scored.left_out["nan"]
    assert "shape (3,)" in scored.left_out["short"]
    assert len(scored.of["by-ids"]) == 2
    assert len(ticks) == len(records) * len(methods)
    rows = main_rows(records, scored, candidates_of(methods), Setting("m", L, 0, TopK(2), MODEL)).rows
    assert [row.method for row in rows] == ["by-ids"]


def test_a_defect_is_not_swallowed():
    @dataclass
    class Broken(ByIds):
        def score(self, pool):
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        score_methods([record()], {"broken": Broken()})


def test_check_seconds_leave_out_what_only_replay_spends():
    class Engine:
        replay_seconds = 5.0

    engine = Engine()

    @dataclass
    class Slow(ByIds):
        def score(self, pool):
            time.sleep(0.05)
            pool.generator.replay_seconds += 0.04
            return super().score(pool)

    scored = score_methods([record(generator=engine)], {"slow": Slow()})
    assert 0.005 < scored.of["slow"][0][0].seconds < 0.045


def test_notes_say_what_the_table_cannot():
    records = [replace(r, leaky=np.arange(16) < 4) for r in many(10)]
    methods = {"none": KeepAll(), "a": ByIds(), "b": ByIds(factor=3.0), "c": ByIds(factor=-1.0)}
    rows, notes, _ = run(records, methods, notes_of={"a": "checked outside its lengths"})
    assert all(note.startswith("t: ") for note in notes)
    text = "\n".join(notes)
    assert "3 candidates" in text
    assert "minimum detectable difference to none:" in text
    assert "25.0 % are leaky" in text
    assert "a, b rank the paths identically" in text
    assert "c rank" not in text
    assert rows["t", "a"].note == "checked outside its lengths"
    assert rows["t", "b"].note == ""


def test_notes_do_not_speak_of_candidates_that_are_not_there():
    few = [record(f"p{i}") for i in range(3)]
    text = "\n".join(run(few, {"none": KeepAll()})[1])
    assert "no candidate besides the controls" in text and "wins" not in text
    assert "undefined (it needs a candidate besides the controls)" in text
    assert "no intervals: 3 problems do not tell how much problems differ; at least 8 are needed" in text
    assert "one candidate besides the controls" in "\n".join(run(few, {"none": KeepAll(), "a": ByIds()})[1])
    assert "no intervals" not in "\n".join(run(many(8), {"none": KeepAll(), "a": ByIds()})[1])


def test_what_could_be_detected_is_told_of_the_methods_that_differ_at_all():
    never, always, varying = np.zeros(10), np.full(10, 0.25), np.linspace(-1, 1, 10)
    problems = np.arange(10)
    told = _detectable([never, varying, always, never], problems)
    assert told == _detectable([varying], problems) and "; 2 / 5 / 10 points take 8,885 / 1,424 / 358" in told
    assert "undefined (every candidate differs from none by the same on all" in _detectable([never, always], problems)


def test_a_score_that_ties_all_paths_and_a_procedure_are_no_candidates():
    records = many(10)
    methods = {"none": KeepAll(), "by-ids": ByIds(), "blind": ByIds(factor=0.0), "funnel": ByIds(factor=2.0)}
    made = candidates_of(methods)
    made["funnel"] = replace(made["funnel"], procedure=PROCEDURES["step-memory"])
    table = main_rows(records, replay_methods(records, made), made, Setting("m", L, 0, TopK(2)))
    rows = {row.method: row for row in table.rows}
    assert rows["by-ids"]["p_holm"].mean == rows["by-ids"]["p_value"].mean, "the only one that Holm counts"
    assert math.isnan(rows["blind"]["p_holm"].mean) and math.isnan(rows["funnel"]["p_holm"].mean)
    assert rows["blind"]["tie_rate"].mean == 100 and not math.isnan(rows["funnel"]["p_value"].mean)
    text = "\n".join(note.text for note in table.notes)
    assert "one candidate besides the controls" in text
    assert "not among them: funnel (procedures with" in text and "not among them: blind (all paths" in text


def test_a_row_is_the_mean_over_the_seeds_and_says_their_spread(tmp_path):
    records, seeds = many(10), (ByIds(), ByIds(factor=-1.0), ByIds(factor=0.0))
    methods = {"none": KeepAll(), **{f"seed{i}": one for i, one in enumerate(seeds)}}
    candidates = candidates_of(methods)
    candidates["all"] = replace(candidates["seed0"], name="all", members=seeds[1:])
    replays = replay_methods(records, candidates)
    rows = {row.method: row for row in main_rows(records, replays, candidates, Setting("m", L, 0, TopK(2))).rows}
    alone = [rows[f"seed{i}"]["avg_at_k"].mean for i in range(3)]
    assert rows["all"]["avg_at_k"].mean == pytest.approx(np.mean(alone))
    assert rows["all"]["maj_at_k"].mean == pytest.approx(np.mean([rows[f"seed{i}"]["maj_at_k"].mean for i in range(3)]))
    assert rows["all"]["seed_spread"].mean == pytest.approx(np.std(alone, ddof=1))
    assert math.isnan(rows["seed0"]["seed_spread"].mean) and math.isnan(rows["none"]["seed_spread"].mean)
    write_decisions(records, replays, tmp_path)
    read = [decided for decided in read_decisions(tmp_path) if decided.method == "all"]
    assert [len(decided.others) for decided in read] == [2] * 10
    for decided, draws in zip(read, replays.of["all"], strict=True):
        for one, other in zip((decided.replay, *decided.others), draws, strict=True):
            assert np.array_equal(one.keep, other.keep) and np.array_equal(one.scores, other.scores)
    table = pq.read_table(tmp_path / DECISIONS)
    first = table.filter(pc.equal(table["draw"], 0)).drop_columns(["draw"])
    pq.write_table(first, tmp_path / DECISIONS)
    assert [decided.others for decided in read_decisions(tmp_path)] == [()] * 50, "files of one draw are read"


def test_notes_are_calm_when_nothing_finished_or_leaked():
    _, notes, _ = run([record(lengths=[20, 20, 20, 20])], {"by-ids": ByIds()})
    assert "t: 0.0 % of the prefixes finished before the checkpoint, 0.0 % are leaky" in notes
