"""What the intervals, tests and the random control promise, held against simulations whose truth is known exactly."""

from __future__ import annotations

from itertools import combinations
from math import ceil, comb

import numpy as np
import pytest
from scipy.stats import binom, chi2

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.metrics import avg_at_k, pass_at_k
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.statistics import PERCENT, Interval, holm, mean_interval, sign_flip_p
from prunebench.bench.policies import TopK
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Signal
from prunebench.methods.controls.random_choice import RandomChoice
from prunebench.methods.pool import Pool

EXPERIMENTS = 10_000  # the standard error of a share of 95 % is 0.22 points
SIZES = (12, 30, 200)
K, N = 8, 64


def kept_minus_pool(experiments, n, lift, seed):
    """(experiments, n) accuracies of K kept paths minus those of the N, and the true mean.

    A problem's success rate p is Beta(1/2, 1/2): many are hopeless or easy. The other N - K paths succeed with p, the
    kept ones with p + lift (1 - p), which is 1/2 * lift above it on average. The N hold the kept ones.
    """
    random = np.random.default_rng([seed, n])
    rate = random.beta(0.5, 0.5, (experiments, n))
    among_kept = random.binomial(K, rate + lift * (1 - rate))
    among_rest = random.binomial(N - K, rate)
    return among_kept / K - (among_kept + among_rest) / N, (1 - K / N) * lift / 2


def coverage(intervals, truth):
    return 100 * np.mean([i.low <= truth <= i.high for i in intervals])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_student_t_covers_the_mean_difference_95_times_in_100(n, lift):
    deltas, truth = kept_minus_pool(EXPERIMENTS, n, lift, seed=1)
    assert deltas.mean() == pytest.approx(truth, abs=4 * deltas.std() / np.sqrt(deltas.size))
    assert 93.5 <= coverage(map(mean_interval, deltas), truth) <= 96.5


NEAR_A_BOUND = {
    **{f"votes, {right:.0%} right": (lambda random, shape, right=right: random.random(shape) < right, right)
       for right in (0.5, 0.7, 0.9, 0.98)},
    "easy": (lambda random, shape: random.binomial(K, random.beta(4, 0.5, shape)) / K, 4 / 4.5),
    "hard": (lambda random, shape: random.binomial(K, random.beta(0.1, 1.5, shape)) / K, 0.1 / 1.6),
}  # fmt: skip


@pytest.mark.parametrize("n", [8, *SIZES])
@pytest.mark.parametrize("kind", NEAR_A_BOUND)
def test_intervals_near_a_bound_keep_to_it_and_to_their_level(kind, n):
    """Student t alone covers 14 to 94 times in 100 there."""
    draw, truth = NEAR_A_BOUND[kind]
    values = 100.0 * draw(np.random.default_rng([11, n]), (3000, n))
    intervals = [mean_interval(row, bounds=PERCENT) for row in values]
    assert all(0 <= one.low <= one.mean <= one.high <= 100 for one in intervals)
    assert coverage(intervals, 100 * truth) >= 91.5


def bootstrap_t_interval(values, seed, draws, level=0.95):
    """The symmetric studentised bootstrap (Hall 1988), which no table uses: Student t covers as well, without draws.

    mean +- q * s, where q is the ``level`` quantile of abs(mean* - mean) / s* over resamples of the problems. One
    without spread counts as infinitely far.
    """
    mean = values.mean()
    drawn = (values - mean)[np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))]
    deviations = drawn.std(axis=1, ddof=1)
    distances = np.full(draws, np.inf)
    np.divide(np.abs(drawn.mean(axis=1)), deviations, out=distances, where=deviations > 1e-12 * np.abs(values).max())
    half = np.sort(distances)[ceil(level * (draws + 1)) - 1] * values.std(ddof=1)
    return Interval(mean, mean - half, mean + half)


def test_the_studentised_bootstrap_by_enumeration():
    """All 4^4 resamples of four values, as likely as each other, give the quantile that many draws come near."""
    values = np.array([0.0, 1.0, 3.0, 7.0])
    every = values[np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T]
    with np.errstate(divide="ignore"):
        distances = np.abs(every.mean(axis=1) - values.mean()) / every.std(axis=1, ddof=1)
    assert np.isinf(distances).sum() == 4
    quantile = np.sort(distances)[ceil(0.8 * 256) - 1]
    interval = bootstrap_t_interval(values, seed=1, draws=100_000, level=0.8)
    assert interval.mean == 2.75
    assert interval.high - 2.75 == pytest.approx(quantile * values.std(ddof=1), rel=0.02)
    assert interval.low + interval.high == pytest.approx(2 * 2.75)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_the_studentised_bootstrap_covers_it_too_but_is_wide_for_few_symmetric_differences(n, lift):
    deltas, truth = kept_minus_pool(EXPERIMENTS, n, lift, seed=2)
    covered = coverage((bootstrap_t_interval(row, seed, draws=99) for seed, row in enumerate(deltas)), truth)
    assert 93.5 <= covered <= (97.5 if n == 12 and not lift else 96.5)


def test_the_studentised_bootstrap_keeps_to_its_level_where_student_t_suffers_from_skew():
    skewed = np.random.default_rng(3).exponential(1, (5000, 12))
    covered = coverage((bootstrap_t_interval(row, seed, draws=99) for seed, row in enumerate(skewed)), 1)
    assert covered > 92.5
    assert coverage(map(mean_interval, skewed), 1) < covered - 1.5


def symmetric(kind, n):
    if kind == "paired accuracies":
        return kept_minus_pool(EXPERIMENTS, n, 0, seed=4)[0]
    return np.random.default_rng([5, n]).choice([-1, 0, 1], (EXPERIMENTS, n), p=[0.2, 0.6, 0.2]) / K


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["paired accuracies", "mostly ties"])
def test_sign_flips_reject_a_true_null_at_most_5_times_in_100(kind, n):
    # 99 patterns where it draws: the test is valid for any number, and 0.05 * 100 is whole
    rejected = [sign_flip_p(row, seed, draws=99) <= 0.05 for seed, row in enumerate(symmetric(kind, n))]
    assert (4 if kind == "paired accuracies" else 0.5) < 100 * np.mean(rejected) <= 5.5


def test_the_exact_sign_flips_reject_as_often_as_the_binomial_says():
    # of 12 differences m are not 0; their signs are m coins, and the two-sided p is P(|coins| at least as uneven)
    size = 0.0
    for m in range(13):
        heads = np.arange(m + 1)
        uneven = binom.sf(np.maximum(heads, m - heads) - 1, m, 0.5) * 2
        size += binom.pmf(m, 12, 0.4) * binom.pmf(heads, m, 0.5)[uneven <= 0.05].sum()
    rejected = [sign_flip_p(row, seed=0) <= 0.05 for row in symmetric("mostly ties", 12)]
    assert np.mean(rejected) == pytest.approx(size, abs=4 * np.sqrt(size / EXPERIMENTS))


@pytest.mark.parametrize("false_nulls", [0, 6])
def test_holm_rejects_a_true_null_in_at_most_5_of_100_families(false_nulls):
    p_values = np.random.default_rng(6).random((20_000, 12))
    p_values[:, :false_nulls] = 0  # found at once, so that the others are tested as a smaller family
    adjusted = np.array([holm(family) for family in p_values])[:, false_nulls:]
    true_nulls = 12 - false_nulls
    share = 100 * (adjusted.min(axis=1) <= 0.05).mean()
    assert share <= 5.5
    assert share == pytest.approx(100 * (1 - (1 - 0.05 / true_nulls) ** true_nulls), abs=0.6)  # 4 standard errors


def test_twelve_null_methods_on_the_same_problems_keep_the_family_level():
    """The methods prune the same paths, so that their differences hang together."""
    random = np.random.default_rng(7)
    families, n, methods = 2000, 10, 12
    correct = random.random((families, n, N)) < random.beta(0.5, 0.5, (families, n, 1))
    rejected = 0
    for family in correct:
        shuffled = random.permuted(np.broadcast_to(family, (methods, n, N)), axis=2)
        deltas = shuffled[:, :, :K].mean(axis=2) - family.mean(axis=1)
        rejected += min(holm([sign_flip_p(row, seed=0) for row in deltas])) <= 0.05
    assert 1 < 100 * rejected / families <= 5.5


# The random control: 200 draws per problem, as every table reports it.


def problems(count, n, classes, seed):
    """Problems whose paths give one of ``classes`` answers or none; class 0 is right."""
    random = np.random.default_rng(seed)
    records = []
    for i in range(count):
        answers = random.choice(np.arange(-1, classes), n, p=random.dirichlet(np.ones(classes + 1)))
        records.append(problem(f"p{i}", answers))
    return records


def problem(name, answers):
    n = len(answers)
    correct = (answers == 0).astype(float)
    pool = Pool(
        problem=name,
        task="t",
        position=10,
        prompt="",
        prompt_ids=np.array([0]),
        paths=np.arange(n),
        lengths=np.full(n, 10),
        finished=np.zeros(n, bool),
        answer_class=np.full(n, -1),
        signals={Signal.OUTCOME: correct},
    )
    return ProblemRecord(
        "t", name, pool, np.full(n, 20), correct, answers, 0 if correct.any() else -1, None, np.zeros(n, bool), 1.0
    )


def kept(records, k):
    """bool (problems, draws, n)"""
    replays = replay_methods(records, {"random": Candidate("random", RandomChoice(), TopK(k))}).of["random"]
    keep = np.array([[replay.keep for replay in draws] for draws in replays])
    assert keep.shape == (len(records), 200, len(records[0].pool))
    assert (keep.sum(axis=2) == k).all()
    return keep


def vote(record, paths):
    return Majority().elect(record.answer_class[paths]).correctness(record.gold_class)


def within_simulation_error(drawn, expected, deviations):
    """``drawn`` (problems, draws) against its expectation and the standard deviation of one draw, per problem."""
    error = np.sqrt(np.sum(np.square(deviations)) / drawn.shape[1]) / len(expected)
    assert 0 < error < 0.01
    return drawn.mean() == pytest.approx(np.mean(expected), abs=4 * error)


@pytest.mark.parametrize(("n", "k", "count"), [(64, 8, 30), (8, 3, 60)])
def test_random_keeps_the_accuracy_of_the_pool_and_the_hypergeometric_pass_rate(n, k, count):
    records = problems(count, n, classes=3, seed=8)
    draws = [(record, keep) for record, keep in zip(records, kept(records, k), strict=True)]
    right = np.array([int(record.correct.sum()) for record in records])
    rate = right / n
    drawn = np.array([[avg_at_k(record.correct, one) for one in keep] for record, keep in draws])
    assert within_simulation_error(drawn, rate, np.sqrt(rate * (1 - rate) / k * (n - k) / (n - 1)))
    passed = np.array([1 - comb(n - r, k) / comb(n, k) for r in right])
    drawn = np.array([[pass_at_k(record.correct, one) for one in keep] for record, keep in draws])
    assert within_simulation_error(drawn, passed, np.sqrt(passed * (1 - passed)))


def test_random_votes_like_the_mean_over_all_subsets_ties_at_expected_value():
    records = problems(60, 8, classes=3, seed=9)
    drawn = np.array([[vote(r, one) for one in keep] for r, keep in zip(records, kept(records, 3), strict=True)])
    every = np.array([[vote(r, list(paths)) for paths in combinations(range(8), 3)] for r in records])
    assert {1 / 3, 1 / 2} < set(every.ravel()), "there are ties of two and of three"
    assert within_simulation_error(drawn, every.mean(axis=1), every.std(axis=1))


def test_random_keeps_every_subset_equally_often_and_independently_of_the_problem():
    number = {paths: i for i, paths in enumerate(combinations(range(8), 3))}
    keep = kept(problems(60, 8, classes=3, seed=10), 3).reshape(-1, 8)
    counts = np.bincount([number[tuple(np.flatnonzero(one).tolist())] for one in keep], minlength=comb(8, 3))
    # the same paths for every problem would multiply this by 60
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi2.ppf(0.001, 55) < statistic < chi2.ppf(0.999, 55)
