from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from prunebench.bench.errors import UserError
from prunebench.bench.policies import (
    POLICIES,
    AdaptiveConsistency,
    AnswerStreak,
    CheckRecord,
    EarlyStoppingConsistency,
    Funnel,
    MemoryTriggered,
    Patience,
    Ratio,
    SpeculativeRejection,
    Threshold,
    TopK,
    WarmupPercentile,
    keep_best,
    parse_policy,
    tied,
)

RULES = ["rank", "keep", "drop"]


def record(scores, finished=None, alive=None, answers=None, position=2048):
    n = len(scores)
    return CheckRecord(
        position,
        np.array(scores, float),
        np.zeros(n, bool) if finished is None else np.array(finished, bool),
        np.full(n, -1) if answers is None else np.array(answers),
        np.ones(n, bool) if alive is None else np.array(alive, bool),
    )


def kept(policy, scores, finished=None):
    return rows(policy.decide([record(scores, finished)]))


def rows(decision):
    return np.flatnonzero(decision.keep).tolist()


def asked(policy, *answers):
    """The decisions at checks that found these answers (one list per check); paths that were dropped stay away."""
    history, decisions, alive = [], [], np.ones(len(answers[0]), bool)
    for number, found in enumerate(answers, start=1):
        history.append(record(np.where(alive, 0.0, np.nan), alive=alive, answers=found, position=40 * number))
        decisions.append(policy.decide(history))
        alive = decisions[-1].keep
    return decisions


def complete(*answers):
    return [record(np.zeros(len(answers)), np.ones(len(answers), bool), answers=answers)]


# --- records and the two ways to choose ---------------------------------------------------------------------------


def test_all_paths_are_alive_unless_said_otherwise():
    assert CheckRecord(8, np.zeros(3), np.zeros(3, bool), np.full(3, -1)).alive.tolist() == [True] * 3


def test_paths_that_are_not_alive_are_never_kept_and_need_no_score():
    some = record([np.nan, 1, 5, np.inf, 3], alive=[False, True, True, False, True])
    assert keep_best(some, 2).tolist() == [False, False, True, False, True]
    assert keep_best(some, 4).tolist() == [False, True, True, False, True], "three are alive"
    assert rows(Threshold(2).decide([some])) == [2, 4]


def test_tied_says_whether_the_index_decided():
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    for k, expected in [(1, False), (2, True), (3, False), (4, False)]:
        assert tied(scores, TopK(k).decide([record(scores)]).keep) == expected


@pytest.mark.parametrize("policy", [TopK(1), Ratio(0.5), Threshold(0), WarmupPercentile(50, 1), MemoryTriggered(9),
                                    SpeculativeRejection(0.5)])  # fmt: skip
def test_scores_that_are_not_finite_are_refused_with_the_row(policy):
    with pytest.raises(ValueError, match="row 2 is nan"):
        kept(policy, [0, 1, np.nan])
    with pytest.raises(ValueError, match="row 0 is -inf"):
        kept(policy, [-np.inf, 1])


@pytest.mark.parametrize("column", ["finished", "alive"])
def test_columns_of_different_length_are_refused(column):
    with pytest.raises(ValueError, match=r"scores \(3,\) do not fit"):
        keep_best(record([0, 1, 2], **{column: [True, True]}), 1)


@pytest.mark.parametrize(("rule", "expected"), [("rank", [2, 3]), ("keep", [0, 1]), ("drop", [2, 3])])
def test_finished_rules(rule, expected):
    assert kept(TopK(2, rule), [0, 1, 2, 3], [True, True, False, False]) == expected


def test_finished_rules_always_keep_k():
    assert kept(TopK(3, "drop"), [9, 8, 1, 0], [True, True, True, False]) == [0, 1, 3]
    assert kept(TopK(2, "keep"), [9, 8, 1, 0], [False, False, False, True]) == [0, 3]


@pytest.mark.parametrize(("rule", "expected"), [("rank", [1, 3]), ("keep", [0, 1, 3]), ("drop", [3])])
def test_finished_rules_under_a_bar(rule, expected):
    assert kept(Threshold(2, finished=rule), [0, 2, 1, 3], [True, True, False, False]) == expected
    warm = WarmupPercentile(50, 1, finished=rule)
    assert kept(warm, [2, 0, 2, 1, 3], [True, True, True, False, False]) == [0, *(row + 1 for row in expected)]


# --- one check ----------------------------------------------------------------------------------------------------


def test_topk_keeps_the_highest_scores_and_breaks_ties_by_path_index():
    assert kept(TopK(2), [1, 5, 3, 5]) == [1, 3]
    assert kept(TopK(2), [1, 1, 1, 1]) == [0, 1]
    assert kept(TopK(3), [1, 5, 1, 1]) == [0, 1, 2]


def test_one_check_neither_launches_more_nor_stops():
    decision = TopK(1).decide([record([0, 1])])
    assert decision.keep.dtype == bool
    assert (decision.launch_more, decision.stop_all) == (0, False)
    assert TopK(1).checkpoints(2048) == Ratio(0.5).checkpoints(2048) == (2048,)


def test_the_last_check_counts():
    assert rows(TopK(1).decide([record([9, 0]), record([0, 9])])) == [1]


@pytest.mark.parametrize(("n", "k"), [(64, 8), (4, 1), (3, 1), (20, 2), (28, 4)])
def test_ratio_keeps_the_rounded_share_and_at_least_one(n, k):
    assert len(kept(Ratio(0.125), range(n))) == k == max(1, round(0.125 * n))


def test_more_than_all_paths_cannot_be_kept():
    with pytest.raises(UserError, match="topk:5 keeps 5 of 4 paths"):
        kept(TopK(5), [0, 1, 2, 3])


# --- several checks -----------------------------------------------------------------------------------------------


def through(policy, scores, position=40):
    """How many are alive after each check when the scores stay, and who is at the end."""
    history, counts, alive = [], [], np.ones(len(scores), bool)
    for checkpoint in policy.checkpoints(position):
        history.append(record(np.where(alive, scores, np.nan), alive=alive, position=checkpoint))
        alive = policy.decide(history).keep
        counts.append(int(alive.sum()))
    return counts, np.flatnonzero(alive).tolist()


def test_the_funnel_of_the_manual_goes_64_32_16_8():
    funnel = parse_policy("funnel:64@32,32@64,16@96")
    assert funnel == Funnel(((64, 32), (32, 64), (16, 96)))
    assert funnel.checkpoints(40) == (32, 64, 96), "its own checkpoints, not the experiment's"
    assert through(funnel, np.arange(64.0)) == ([32, 16, 8], list(range(56, 64)))


def test_a_funnel_may_name_how_many_its_last_check_keeps():
    funnel = parse_policy("funnel:8@10,4@20:3")
    assert funnel == Funnel(((8, 10), (4, 20)), 3) == parse_policy("funnel:8@10,4@20,last=3")
    assert str(funnel) == "funnel:8@10,4@20:3"
    assert through(funnel, np.arange(8.0)) == ([4, 3], [5, 6, 7])
    assert parse_policy("funnel:8@10,4@20:3:keep").finished == "keep"


def test_half_of_an_odd_number_is_rounded_down():
    assert through(Funnel(((5, 10), (3, 20))), np.arange(5.0))[0] == [3, 1]


def test_a_funnel_drops_by_the_scores_of_each_check():
    funnel = Funnel(((4, 10), (2, 20)))
    first = record([4, 3, 2, 1])
    second = record([1, 2, np.nan, np.nan], alive=[True, True, False, False])
    assert rows(funnel.decide([first])) == [0, 1]
    assert rows(funnel.decide([first, second])) == [1]


def test_a_funnel_for_another_number_of_paths_says_so():
    with pytest.raises(UserError, match=r"begins with 64 paths, but there are 4; .* as in funnel:4@32"):
        kept(Funnel(((64, 32), (32, 64))), range(4))


@pytest.mark.parametrize("policy", [Threshold(0, checks=4), WarmupPercentile(50), Patience(2), MemoryTriggered(9),
                                    SpeculativeRejection(0.5)])  # fmt: skip
def test_repeated_checks_begin_at_the_checkpoint_and_are_every_tokens_apart(policy):
    assert policy.checkpoints(40) == (40, 80, 120, 160), "every = 0: the checkpoint itself"
    assert replace(policy, every=7, checks=3).checkpoints(40) == (40, 47, 54)


def test_a_threshold_keeps_what_reaches_the_bar_and_at_least_the_best():
    assert Threshold(0.5).checkpoints(40) == (40,), "one check unless said otherwise"
    assert kept(Threshold(0.5), [0.5, 0.4, 0.9]) == [0, 2]
    assert kept(Threshold(2), [0.5, 0.4, 0.9]) == [2]
    assert kept(Threshold(2, finished="drop"), [5, 0.4, 0.9], [True, False, False]) == [2]


def test_the_warm_up_sets_the_bar_by_the_percentile_of_its_lowest_scores():
    policy = WarmupPercentile(75, 5)  # the 25th percentile of five values is the second lowest
    decision = policy.decide([record([10, 20, 30, 40, 50, 19, 20, 21])])
    assert rows(decision) == [0, 1, 2, 3, 4, 6, 7]
    assert kept(WarmupPercentile(25, 5), [10, 20, 30, 40, 50, 39, 40, 21]) == [0, 1, 2, 3, 4, 6]


def test_the_bar_remembers_the_lowest_scores_of_earlier_checks():
    policy = WarmupPercentile(50, 3)
    first = record([1, 5, 9, 5, 4])
    assert rows(policy.decide([first])) == [0, 1, 2, 3]
    second = record([8, 8, 8, 5, np.nan], alive=[True, True, True, True, False])
    assert rows(policy.decide([first, second])) == [0, 1, 2, 3], "minima 1, 5, 8: bar 5"
    assert rows(policy.decide([record([8, 8, 8, 9, 1]), second])) == [0, 1, 2], "minima 8: bar 8"


def test_eta_90_is_lenient_and_10_strict():
    scores = [*range(16), *range(16)]
    assert len(kept(WarmupPercentile(90, 16), scores)) - 16 == sum(s >= 1.5 for s in range(16))
    assert len(kept(WarmupPercentile(10, 16), scores)) - 16 == sum(s >= 13.5 for s in range(16))


def test_warm_up_paths_under_the_bar_go_on_without_a_vote():
    decision = WarmupPercentile(75, 5).decide([record([10, 20, 30, 40, 50, 19, 20, 21])])
    assert np.flatnonzero(decision.silent).tolist() == [0]
    assert decision.goes_on[0]


def test_a_warm_up_with_all_paths_leaves_none_to_prune():
    with pytest.raises(UserError, match="warms up with all of 16 paths; choose warmup < n"):
        kept(WarmupPercentile(90, 16), range(16))


def test_patience_drops_a_path_after_misses_in_a_row():
    policy = Patience(2, stable=9)
    decisions = asked(policy, [0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 1])
    assert [rows(decision) for decision in decisions] == [[0, 1, 2, 3, 4], [0, 1, 2, 4], [0, 1, 2, 4]]
    assert not any(decision.stop_all for decision in decisions)


def test_misses_of_the_warm_up_do_not_count():
    answers = [[0, 0, 1]] * 4
    gone = [rows(decision) == [0, 1] for decision in asked(Patience(2, warmup_checks=1, stable=9), *answers)]
    assert gone == [False, False, True, True]


def test_no_answer_is_a_miss_only_where_another_path_has_one():
    policy = Patience(1, stable=9)
    assert rows(asked(policy, [-1, -1, -1])[-1]) == [0, 1, 2]
    assert rows(asked(policy, [-1, -1, 4])[-1]) == [2]


def test_the_mode_is_that_of_the_paths_alive_and_the_smallest_class_of_equals():
    policy = Patience(1, stable=9)
    assert rows(asked(policy, [2, 2, 1, 1])[-1]) == [2, 3]
    first, second = asked(policy, [1, 1, 1, 2, 2], [3, 3, 4, 4, 4])
    assert rows(first) == [0, 1, 2]
    assert rows(second) == [0, 1], "the dropped paths have no say"


def test_a_path_that_has_ended_is_no_dissenter():
    history = [record([0, 0, 0], [False, False, True], answers=[1, 1, 2])]
    assert rows(Patience(1, stable=9).decide(history)) == [0, 1, 2]
    history = [record([0, 0, 0, 0], [False, True, True, False], answers=[1, 2, 2, 1])]
    assert rows(Patience(1, stable=9).decide(history)) == [0, 1, 2, 3], "class 1, the smallest of equals, is the mode"


def test_a_path_ends_at_its_own_streak_of_one_answer():
    decisions = asked(AnswerStreak(2), [1, -1, 3, 2], [1, -1, 4, 2], [5, 6, 4, 7], [5, 6, 4, 7])
    assert all(decision.keep.all() and not decision.stop_all for decision in decisions), "nobody is dropped"
    assert [np.flatnonzero(decision.settled).tolist() for decision in decisions] == [[], [0, 3], [2], [0, 1, 2, 3]]


def test_a_streak_of_one_needs_an_answer():
    (decision,) = asked(AnswerStreak(1), [-1, 2])
    assert (decision.settled.tolist(), decision.goes_on.tolist()) == ([False, True], [True, False])


def test_a_settled_mode_stops_everything():
    answers = [[0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    stops = [decision.stop_all for decision in asked(Patience(9, stable=3), *answers)]
    assert stops == [False, False, False, True], "modes 1, 0, 0, 0"
    assert not any(decision.stop_all for decision in asked(Patience(9, stable=2), *[[-1, -1]] * 4)), "no answer"


def test_memory_lets_pass_what_fits_and_always_one():
    policy = MemoryTriggered(200)
    assert rows(policy.decide([record([1, 4, 2, 3, 0], position=40)])) == [0, 1, 2, 3, 4], "5 x 40 are 200"
    assert rows(policy.decide([record([1, 4, 2, 3, 0], position=41)])) == [0, 1, 2, 3], "4 x 41 fit"
    assert rows(policy.decide([record([1, 4, 2, 3, 0], position=100)])) == [1, 3]
    assert rows(policy.decide([record([1, 4, 2, 3, 0], position=500)])) == [1]
    two = record([np.nan, 4, 2, np.nan, np.nan], alive=[False, True, True, False, False], position=100)
    assert rows(policy.decide([two])) == [1, 2], "only paths alive fill the cache"


@pytest.mark.parametrize(("alpha", "counts"), [(0.5, [5, 3, 2, 1]), (0.7, [3, 1, 1, 1]), (0.1, [9, 9, 9, 9])])
def test_speculative_rejection_keeps_the_share_rounded_up(alpha, counts):
    expected, left = [], 10
    for _ in counts:
        left = -(-left * round(10 * (1 - alpha)) // 10)
        expected.append(left)
    assert through(SpeculativeRejection(alpha), np.arange(10.0))[0] == expected == counts


# --- over completed paths -----------------------------------------------------------------------------------------


def test_esc_stops_at_the_first_window_of_one_mind():
    policy = EarlyStoppingConsistency(3)
    assert (policy.over_completed, policy.first, policy.checkpoints(40)) == (True, 3, ())
    for answers, more, stop in [
        ((1, 1, 1), 0, True),
        ((1, 1, 2), 3, False),
        ((1, 1, 2, 2, 2, 2), 0, True),
        ((2, 2, 1, 1, 1, 2), 3, False),
        ((-1, -1, -1), 3, False),
        ((1, 2, 1, 1), 3, False),
    ]:
        decision = policy.decide(complete(*answers))
        assert (decision.launch_more, decision.stop_all) == (more, stop), answers
        voters = rows(decision)
        assert voters == list(range(len(answers) - 3 if stop else 0, len(answers))), "the window, or all"


def sampled(policy, draws):
    """Paths that the policy completes of ``draws``, at most all of them."""
    launched = policy.first
    while launched < len(draws):
        decision = policy.decide(complete(*draws[:launched]))
        if decision.stop_all:
            break
        launched += decision.launch_more
    return launched


@pytest.mark.parametrize("probabilities", [(0.9, 0.1), (0.6, 0.3, 0.1), (0.25,) * 4])
@pytest.mark.parametrize(("window", "windows"), [(2, 6), (3, 4), (1, 5)])
def test_esc_completes_as_many_paths_as_the_closed_form_says(probabilities, window, windows):
    random = np.random.default_rng(7)
    counts = np.array([
        sampled(EarlyStoppingConsistency(window), random.choice(len(probabilities), window * windows, p=probabilities))
        for _ in range(800)
    ])  # fmt: skip
    error = counts.std(ddof=1) / math.sqrt(len(counts))
    # a window is of one mind with q, so that the number of windows is geometric, at most ``windows``
    q = sum(p**window for p in probabilities)
    stopped = sum(i * q * (1 - q) ** (i - 1) for i in range(1, windows))
    assert abs(counts.mean() - window * (stopped + windows * (1 - q) ** (windows - 1))) <= 4 * error


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_adaptive_consistency_stops_where_the_beta_distribution_says(level):
    policy = AdaptiveConsistency(level, most=99)
    assert (policy.over_completed, policy.first, policy.checkpoints(40)) == (True, 1, ())
    for first in range(12):
        for second in range(first + 1):
            answers = [3] * first + [5] * second + [7] * min(second, 1) + [-1]
            decision = policy.decide(complete(*answers))
            sure = bool(beta(first + 1, second + 1).sf(0.5) >= level)
            assert (decision.stop_all, decision.launch_more) == (sure, 0 if sure else 1), (first, second)
            assert decision.keep.all()


def test_adaptive_consistency_needs_four_equal_answers_and_takes_at_most_most():
    assert sampled(AdaptiveConsistency(), [1] * 64) == 4, "1 - 2^-5 = 0.969, 1 - 2^-4 = 0.938"
    assert sampled(AdaptiveConsistency(), [1, 2] * 32) == 40
    assert sampled(AdaptiveConsistency(most=10), [1, 2] * 32) == 10
    assert sampled(AdaptiveConsistency(), [-1] * 64) == 40


# --- what holds for all -------------------------------------------------------------------------------------------

RULE = st.sampled_from(RULES)
COUNT = st.integers(1, 40)
FAR = {"every": st.integers(0, 500), "checks": st.integers(1, 9)}
STAGES = st.lists(st.tuples(st.integers(2, 99), st.integers(1, 999)), min_size=1, max_size=4, unique_by=(
    lambda stage: stage[0], lambda stage: stage[1])
).map(lambda stages: tuple(zip(sorted((k for k, _ in stages), reverse=True), sorted(t for _, t in stages), strict=True))
)  # fmt: skip
FUNNELS = STAGES.flatmap(
    lambda s: st.builds(Funnel, st.just(s), st.none() | st.integers(1, s[-1][0] - 1), finished=RULE)
)
BARS = st.builds(Threshold, st.floats(-9, 9), finished=RULE, **FAR)
WARMUPS = st.builds(
    WarmupPercentile, st.floats(0, 100, exclude_min=True, exclude_max=True), st.integers(1, 20), finished=RULE, **FAR
)
PATIENCE = st.builds(Patience, st.integers(1, 4), st.integers(0, 3), st.integers(1, 4), **FAR)
MEMORY = st.builds(MemoryTriggered, st.integers(1, 2000), finished=RULE, **FAR)
REJECTION = st.builds(SpeculativeRejection, st.floats(0, 1, exclude_min=True, exclude_max=True), finished=RULE, **FAR)
RANKING = (
    st.builds(TopK, st.integers(1, 3), RULE)
    | st.builds(Ratio, st.floats(0, 1, exclude_min=True), RULE)
    | FUNNELS | BARS | WARMUPS | MEMORY | REJECTION
)  # fmt: skip
OVER_COMPLETED = st.builds(EarlyStoppingConsistency, st.integers(1, 9)) | st.builds(
    AdaptiveConsistency, st.floats(0.5, 1, exclude_min=True, exclude_max=True), st.integers(1, 99)
)
ALL_POLICIES = RANKING | PATIENCE | OVER_COMPLETED


@settings(max_examples=300, deadline=None)
@given(policy=ALL_POLICIES)
def test_text_and_policy_are_the_same(policy):
    assert parse_policy(str(policy)) == policy


def played(policy, seed, order=None):
    """The decisions on random paths without ties of score, the rows in ``order``; with them the records."""
    random = np.random.default_rng(seed)
    count = policy.stages[0][0] if isinstance(policy, Funnel) else int(random.integers(3, 24))
    assume(not isinstance(policy, WarmupPercentile) or policy.warmup < count)
    ends, order = random.integers(1, 400, count), np.arange(count) if order is None else order(count)
    history, decisions, alive = [], [], np.ones(count, bool)
    for position in policy.checkpoints(40):
        scores, answers = random.permutation(count).astype(float), random.integers(-1, 3, count)
        now = np.where(alive, scores[order], np.nan)
        history.append(CheckRecord(position, now, ends[order] <= position, answers[order], alive))
        decisions.append(policy.decide(history))
        alive = decisions[-1].keep
    return history, decisions


@settings(max_examples=200, deadline=None)
@given(policy=RANKING | PATIENCE, seed=st.integers(0, 9999))
def test_what_is_kept_was_alive_and_somebody_always_is(policy, seed):
    for seen, decision in zip(*played(policy, seed), strict=True):
        assert decision.keep.dtype == bool
        assert decision.keep.any()
        assert not (decision.keep & ~seen.alive).any()
        assert decision.launch_more == 0


@settings(max_examples=200, deadline=None)
@given(policy=RANKING | PATIENCE, seed=st.integers(0, 9999))
def test_without_ties_the_order_of_the_paths_does_not_matter(policy, seed):
    warm = policy.warmup if isinstance(policy, WarmupPercentile) else 0

    def shuffled(count):
        """Warm-up paths are the first ones, in whatever order."""
        random = np.random.default_rng(seed + 1)
        return np.concatenate([random.permutation(warm), warm + random.permutation(count - warm)]).astype(int)

    straight, other = played(policy, seed)[1], played(policy, seed, shuffled)[1]
    for before, after in zip(straight, other, strict=True):
        order = shuffled(len(before.keep))
        assert (after.keep == before.keep[order]).all()
        assert after.stop_all == before.stop_all


@settings(max_examples=60, deadline=None)
@given(policy=OVER_COMPLETED, answers=st.lists(st.integers(-1, 2), min_size=1, max_size=40))
def test_over_completed_paths_a_policy_either_launches_or_stops(policy, answers):
    decision = policy.decide(complete(*answers))
    assert decision.keep.all() or (decision.stop_all and decision.keep[-1])
    assert decision.stop_all == (decision.launch_more == 0)


# --- text ---------------------------------------------------------------------------------------------------------


def test_the_text_of_a_policy():
    assert str(TopK(8)) == "topk:8"
    assert str(Ratio(0.125)) == "ratio:0.125"
    assert str(parse_policy("topk:8:drop")) == "topk:8:drop"
    assert str(Patience(3, 2, 4, every=20)) == "patience:3,warmup_checks=2,stable=4,every=20"
    assert str(Threshold(0.5, checks=3, finished="keep")) == "threshold:0.5,checks=3:keep"


def test_names_come_in_any_order_with_spaces_or_without():
    assert parse_policy(" patience:stable=4, misses=3 ,every=20 ") == Patience(3, stable=4, every=20)


@pytest.mark.parametrize("kind", POLICIES.names())
def test_the_example_of_every_kind_is_one(kind):
    assert parse_policy(POLICIES.get(kind).example).kind == kind
    assert str(parse_policy(POLICIES.get(kind).example)).partition(":")[0] == kind


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "unknown policy ''; write one such as adaptive:0.95,most=40, streak:2,every=40,checks=6, esc:5, funnel:"),
        ("best:3", "unknown policy 'best:3'; write one such as adaptive:"),
        ("pacience:3", "unknown policy 'pacience:3'; did you mean patience:2,warmup_checks=1"),
        ("topk", "policy 'topk' needs a k; write it as in topk:8"),
        ("topk:", "policy 'topk:' needs a k; write it as in topk:8"),
        ("topk:x", "policy 'topk:x': k = 'x' is not a whole number; write it as in topk:8"),
        ("topk:2.5", "k = '2.5' is not a whole number"),
        ("topk:1_0", "k = '1_0' is not a whole number"),
        ("topk:3,4", "k = '3,4' is not a whole number"),
        ("topk:3,k=4", "policy 'topk:3,k=4': k stands twice; write it as in topk:8"),
        ("topk:0", "policy topk:0: k must be at least 1, as in topk:8"),
        ("topk:3:maybe", "finished = 'maybe' is not one of rank, keep, drop; write it as in topk:8"),
        ("topk:3:keep:drop", "finished stands twice"),
        ("topk:3:4", "finished = '4' is not one of rank, keep, drop"),
        ("ratio:x", "gamma = 'x' is not a number; write it as in ratio:0.125"),
        ("ratio:nan", "gamma = 'nan' is not a number"),
        ("ratio:0", "the retention ratio must be above 0 and at most 1, as in ratio:0.125"),
        ("ratio:1.5", "the retention ratio must be above 0 and at most 1"),
        ("funnel:", "needs a stages; write it as in funnel:64@32,32@64,16@96:8"),
        ("funnel:64", "stages = '64' is not a list of PATHS@TOKENS; write it as in funnel:64@32,32@64,16@96:8"),
        ("funnel:8@1@2", "is not a list of PATHS@TOKENS"),
        ("funnel:8@20,4@10", "tokens must go up, as in funnel:64@32,32@64,16@96:8"),
        ("funnel:8@0", "tokens must go up"),
        ("funnel:4@10,8@20", "paths must go down, as in"),
        ("funnel:1@10", "paths must go down"),
        ("funnel:8@10:8", "paths must go down"),
        ("funnel:8@10:0", "the last check must keep at least 1"),
        ("threshold:inf", "bar = 'inf' is not a number; write it as in threshold:0.5,every=40,checks=3"),
        ("threshold:1,every=-1", "every must be at least 0 (0: as many tokens as the first checkpoint), as in"),
        ("threshold:1,checks=0", "checks must be at least 1, as in threshold:"),
        ("warmup:0", "eta must be above 0 and under 100, as in warmup:90"),
        ("warmup:100", "eta must be above 0 and under 100"),
        ("warmup:50,warmup=0", "warmup must be at least 1"),
        ("patience:2,stabel=3", "there is no 'stabel', did you mean 'stable'?; write it as in patience:2"),
        ("patience:2,x=3", "there is no 'x', there are every, checks, misses, warmup_checks, stable; write"),
        ("patience:2:keep", "'keep': patience has no rule for finished paths; write it as in patience:2"),
        ("patience:0", "misses must be at least 1"),
        ("patience:1,warmup_checks=-1", "warmup_checks must be at least 0"),
        ("patience:1,stable=0", "stable must be at least 1"),
        ("memory:0", "tokens must be at least 1, as in memory:2560,every=40"),
        ("rejection:1", "alpha must be above 0 and under 1, as in rejection:0.5"),
        ("rejection:0", "alpha must be above 0 and under 1"),
        ("esc:0", "window must be at least 1, as in esc:5"),
        ("esc:5:drop", "esc has no rule for finished paths; write it as in esc:5"),
        ("adaptive:0.5", "level must be above 0.5 and under 1, as in adaptive:0.95,most=40"),
        ("adaptive:0.9,most=0", "most must be at least 1"),
    ],
)
def test_what_is_no_policy_is_refused_in_a_sentence_that_shows_a_right_one(text, sentence):
    with pytest.raises(UserError) as caught:
        parse_policy(text)
    said = str(caught.value)
    assert sentence in said
    assert "policy" in said
    assert any(kind.example in said for _, kind in POLICIES.items())


def test_values_that_no_text_can_hold_are_refused_too():
    with pytest.raises(UserError, match=r"policy topk:3:maybe: the rule .* rank, keep, drop, as in topk:8:keep"):
        TopK(3, "maybe")
    with pytest.raises(UserError, match="there must be a stage PATHS@TOKENS, as in funnel:"):
        Funnel(())
    with pytest.raises(UserError, match="the bar must be a finite number"):
        Threshold(math.nan)


def test_a_ratio_keeps_at_least_one_path():
    assert [Ratio(1 / 8).kept(paths) for paths in (1, 3, 8, 20, 64)] == [1, 1, 1, 2, 8]
    assert Ratio(1.0).kept(5) == 5
