"""Ablations: the numbers of a row by hand, the draw of labels against its distribution, and going on after a stop."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import chisquare, hypergeom, t

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ablation import VALUES, AblationRow, ablate, to_markdown
from prunebench.bench.evaluation.results import rows_csv
from prunebench.bench.progress import Spoken
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.training.subsets import with_labels, with_prefixes, with_problems
from prunebench.methods.base import LearnablePruner, NotFittedError, Signal, Source
from prunebench.methods.examples import example_dataset, example_pool
from prunebench.methods.learned.otv import OneTokenVerification
from prunebench.methods.learned.stop import Stop
from prunebench.methods.pool import LabelledPool, PrefixDataset

N = 7


@dataclass
class Weighing(LearnablePruner):
    """Scores by the token at place ``tokens``, plus noise of the seed; it learns the mean label."""

    name: ClassVar[str] = "weighing"
    source: ClassVar[Source] = Source.EXTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TOKEN_IDS})
    paper: ClassVar[str] = "a test"
    fits: ClassVar[list[tuple[int, int, float]]] = []

    tokens: int = 4
    seed: int = 0

    def fit(self, train, validation):
        self.mean_ = float(train.success.mean())
        self.history_ = [{"epoch": 1.0}]
        self.fits.append((self.tokens, self.seed, self.mean_))
        return self

    def score(self, pool):
        if not hasattr(self, "mean_"):
            raise NotFittedError(self.name)
        noise = np.random.default_rng([self.seed, len(pool)]).normal(0, 3, len(pool))
        return np.array([float(ids[min(self.tokens, len(ids)) - 1]) for ids in pool.token_ids]) + noise + self.mean_

    def save(self, path):
        from safetensors.numpy import save_file

        save_file({"mean": np.array([self.mean_])}, str(path))

    def load(self, path):
        raise AssertionError("never needed here")


@pytest.fixture(autouse=True)
def _no_fits():
    Weighing.fits.clear()


def record(number: int, correct=None) -> ProblemRecord:
    pool = example_pool(N, problem=f"test-{number}", seed=500 + number)
    correct = pool.outcome if correct is None else np.array(correct, float)
    return ProblemRecord(
        task="example",
        problem=pool.problem,
        pool=replace(pool, signals={**pool.signals, Signal.OUTCOME: correct}),
        lengths=pool.lengths + 5,
        correct=correct,
        answer_class=np.zeros(N, np.int64),
        gold_class=0,
        halves=None,
        leaky=np.zeros(N, bool),
        launch_seconds=0.0,
    )


RECORDS = [*(record(number) for number in range(16)), record(16, [1] * N)]
TRAIN, VALIDATION = example_dataset(6, seed=1), example_dataset(3, seed=2)


def run(folder, axis="tokens", method=None, train=TRAIN, records=RECORDS, k=3, **more) -> list[AblationRow]:
    return ablate(method or Weighing(), axis, train, VALIDATION, records, k, folder, **more)


# --- the numbers ---


def test_a_row_by_hand(tmp_path):
    (row,) = run(tmp_path, values=["2"], seeds=3)
    kept, auroc = np.zeros((3, 17)), np.full((3, 17), np.nan)
    for seed in range(3):
        pruner = Weighing(2, seed).fit(TRAIN, VALIDATION)
        for problem, one in enumerate(RECORDS):
            scores = pruner.score(one.pool)
            kept[seed, problem] = 100 * one.correct[np.argsort(-scores, kind="stable")[:3]].mean()
            right, wrong = scores[one.correct == 1], scores[one.correct == 0]
            if len(right) and len(wrong):
                auroc[seed, problem] = np.mean([a > b for a in right for b in wrong])
    none = np.array([100 * one.correct.mean() for one in RECORDS])

    def half(values):
        return t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))

    mean, gain = kept.mean(0), kept.mean(0) - none
    ranked = auroc[:, ~np.isnan(auroc[0])]
    assert ranked.shape[1] < 17, "the last problem has one verdict only"
    assert (row.method, row.axis, row.value, row.seeds) == ("weighing", "tokens", "2", 3)
    assert (row.n, row.k, row.n_problems, row.train_prefixes) == (7, 3, 17, len(TRAIN.success))
    assert (row.avg_at_k.mean, row.delta.mean, row.auroc.mean) == pytest.approx(
        (mean.mean(), gain.mean(), ranked.mean())
    )
    assert row.avg_at_k.high - row.avg_at_k.mean == pytest.approx(half(mean))
    assert row.delta.mean - row.delta.low == pytest.approx(half(gain))
    assert row.auroc.high - row.auroc.mean == pytest.approx(half(ranked.mean(0)))
    assert row.avg_at_k_sd == pytest.approx(np.std(kept.mean(1), ddof=1))
    assert row.auroc_sd == pytest.approx(np.std(ranked.mean(1), ddof=1))


def test_what_is_undefined_is_nan(tmp_path):
    (row,) = run(tmp_path, values=["2"], seeds=1, records=[record(6, [1] * N)])
    assert row.avg_at_k.mean == 100 and row.delta.mean == 0
    for undefined in (
        row.avg_at_k.low,
        row.avg_at_k_sd,
        row.delta.high,
        row.auroc.mean,
        row.auroc.low,
        row.auroc_sd,
    ):
        assert math.isnan(undefined)
    assert "–" in to_markdown([row])


def test_every_value_is_trained_with_every_seed_in_order(tmp_path):
    told: list[str] = []
    rows = run(tmp_path, progress=Spoken(told.append))
    assert [row.value for row in rows] == list(VALUES["tokens"]) == ["1", "2", "4", "6", "8"]
    assert [(tokens, seed) for tokens, seed, _ in Weighing.fits] == [(n, s) for n in (1, 2, 4, 6, 8) for s in range(3)]
    assert len(told) == 15
    assert told[4] == "weighing tokens=2, seed 1 (5 of 15)"


def test_csv_and_markdown_hold_the_rows(tmp_path):
    rows = run(tmp_path, values=["1", "2"], seeds=2)
    assert (tmp_path / "tokens.csv").read_text() == rows_csv(rows)
    assert (tmp_path / "tokens.md").read_text() == to_markdown(rows)
    found = list(csv.DictReader(io.StringIO(rows_csv(rows))))
    assert list(found[0]) == [
        "method", "axis", "value", "seeds", "n_problems", "n", "k", "train_prefixes", "avg_at_k", "avg_at_k_low",
        "avg_at_k_high", "avg_at_k_sd", "delta", "delta_low", "delta_high", "auroc", "auroc_low", "auroc_high",
        "auroc_sd",
    ]  # fmt: skip
    assert AblationRow.unflattened(found[1]).delta.low == pytest.approx(rows[1].delta.low, rel=1e-5)
    assert [float(one["delta_low"]) for one in found] == pytest.approx([row.delta.low for row in rows], rel=1e-5)
    lines = to_markdown(rows).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert f"{rows[1].avg_at_k.mean:.1f} [{rows[1].avg_at_k.low:.1f}, {rows[1].avg_at_k.high:.1f}]" in lines[3]
    assert "17 problems, 2 seeds" in lines[5]


# --- labels ---


def labelled(correct, n, position=12) -> PrefixDataset:
    pool = replace(example_pool(len(correct)), position=position)
    return PrefixDataset((LabelledPool(pool, np.array(correct) / n, n),))


def test_drawn_labels_are_hypergeometric():
    """2,000 seeds: successes among 4 of 16 continuations, 5 of which are right."""
    data = labelled([5] * 3, 16)
    drawn = np.array([with_labels(data, 4, seed).success for seed in range(2000)]) * 4
    assert set(np.unique(drawn)) <= {0, 1, 2, 3, 4}
    for path in range(3):
        counts = np.bincount(drawn[:, path].astype(int), minlength=5)
        expected = 2000 * hypergeom(16, 5, 4).pmf(np.arange(5))
        assert chisquare([*counts[:3], counts[3:].sum()], [*expected[:3], expected[3:].sum()]).pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.08, "paths are drawn independently"


def test_all_continuations_give_the_label_itself_and_one_gives_a_verdict():
    data = example_dataset(4, seed=1)
    assert np.array_equal(with_labels(data, 8, 0).success, data.success)
    one = with_labels(data, 1, 0)
    assert set(one.success) == {0, 1}
    assert all(labelled.continuations == 1 for labelled in one)
    sure = (data.success == 0) | (data.success == 1)
    assert np.array_equal(one.success[sure], data.success[sure])


def test_a_draw_depends_on_its_own_prefix_and_the_seed_only():
    data = labelled([5, 9, 3, 7, 8, 2, 6, 5], 16)
    (one,) = data
    drawn = with_labels(data, 4, 3).success
    order = np.random.default_rng(0).permutation(8)
    turned = PrefixDataset((replace(one, pool=one.pool.take(order), success=one.success[order]),))
    assert np.array_equal(with_labels(turned, 4, 3).success, drawn[order])
    assert not np.array_equal(with_labels(data, 4, 4).success, drawn)


def test_finished_paths_keep_their_verdict_and_too_few_continuations_are_named():
    finished = PrefixDataset((replace(labelled([1, 0], 1).pools[0], continuations=0),))
    assert with_labels(finished, 4, 0).success.tolist() == [1, 0]
    with pytest.raises(UserError, match="labels = 4: the prefixes of example/example have 2 continuations"):
        with_labels(labelled([1, 0], 2), 4, 0)
    with pytest.raises(UserError, match="no counts of 8 continuations"):
        with_labels(PrefixDataset((replace(labelled([1, 0], 8).pools[0], success=np.array([0.3, 0.5])),)), 4, 0)


def test_the_labels_axis_trains_on_drawn_labels(tmp_path):
    run(tmp_path, "labels", seeds=2)
    means = [mean for _, _, mean in Weighing.fits]
    expected = [with_labels(TRAIN, count, seed).success.mean() for count in (1, 4) for seed in (0, 1)]
    assert means == pytest.approx([*expected, TRAIN.success.mean(), TRAIN.success.mean()])


def test_fewer_problems_are_among_more_of_the_same_seed_and_another_seed_draws_others():
    drawn = {count: with_problems(TRAIN, count, 0).problems for count in (2, 4, 6)}
    assert drawn[2] < drawn[4] < drawn[6] == TRAIN.problems and [len(names) for names in drawn.values()] == [2, 4, 6]
    assert len({frozenset(with_problems(TRAIN, 2, seed).problems) for seed in range(8)}) > 3
    with pytest.raises(UserError, match="problems = 7: there are 6 to learn from"):
        with_problems(TRAIN, 7, 0)


def test_fewer_prefixes_keep_their_labels_and_the_pool_that_they_are_related_to():
    for before, after in zip(TRAIN, with_prefixes(TRAIN, 2, 1), strict=True):
        rows = [before.pool.paths.tolist().index(path) for path in after.pool.paths]
        assert len(rows) == 2 and after.success.tolist() == before.success[rows].tolist()
        assert after.everything is before.everything and after.labelled.tolist() == before.labelled[rows].tolist()
        assert [after.pool.text[i] for i in range(2)] == [before.pool.text[row] for row in rows]
    assert with_prefixes(TRAIN, N, 1).pools == TRAIN.pools
    assert len({tuple(with_prefixes(TRAIN, 2, seed).pools[0].pool.paths) for seed in range(8)}) > 3


def test_all_there_is_is_one_training_on_every_axis(tmp_path):
    rows = run(tmp_path, "problems", values=("2", "all"), seeds=1)
    assert len(Weighing.fits) == 2 and [row.train_prefixes for row in rows] == [2 * N, 6 * N]
    rows += run(tmp_path, "prefixes", values=("2", "all"), seeds=1)
    assert len(Weighing.fits) == 3 and [row.train_prefixes for row in rows[2:]] == [12, 6 * N]
    assert rows[1].avg_at_k == rows[3].avg_at_k


# --- prefix lengths ---


def test_the_prefix_axis_trains_on_its_lengths_only(tmp_path):
    pools = [
        replace(one, pool=replace(one.pool, position=position), success=np.full(N, 1 / position))
        for position, one in zip((6, 12, 24, 12, 24, 24), TRAIN, strict=True)
    ]
    rows = run(tmp_path, "prefix", train=PrefixDataset(tuple(pools)), seeds=1)
    assert [row.train_prefixes for row in rows] == [N, 2 * N, 3 * N, 6 * N]
    assert [mean for *_, mean in Weighing.fits][:3] == pytest.approx([1 / 6, 1 / 12, 1 / 24])
    assert (tmp_path / "prefix-L_2-seed0.json").exists()
    with pytest.raises(UserError, match=r"prefixes of \[12\] tokens, none of 6"):
        run(tmp_path, "prefix")


# --- going on ---


def test_the_same_call_goes_on_where_it_stopped(tmp_path):
    whole = run(tmp_path / "whole", values=["1", "2"])
    Weighing.fits.clear()

    def stop(told):
        if "4 of 6" in told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", values=["1", "2"], progress=Spoken(stop))
    (tmp_path / "part" / "tokens-2-seed0.json").unlink()  # as if it had been stopped before this was written
    Weighing.fits.clear()
    assert run(tmp_path / "part", values=["1", "2"]) == whole
    assert [(tokens, seed) for tokens, seed, _ in Weighing.fits] == [(2, 0), (2, 1), (2, 2)]
    Weighing.fits.clear()
    other = run(tmp_path / "part", values=["1", "2"], k=5)
    assert not Weighing.fits, "another k needs no training"
    assert [row.k for row in other] == [5, 5]
    for name in ("tokens-1-seed0.safetensors", "tokens.csv"):
        assert (tmp_path / "whole" / name).exists()
    assert not list((tmp_path / "part").glob(".*"))


def test_a_folder_of_other_settings_or_data_is_refused(tmp_path):
    run(tmp_path, values=["1"], seeds=1)
    with pytest.raises(UserError, match=r"tokens-1-seed0\.json: made with train = .*; use another folder"):
        run(tmp_path, values=["1"], seeds=1, train=example_dataset(6, seed=9))
    with pytest.raises(UserError, match="made with test = "):
        run(tmp_path, values=["1"], seeds=1, records=RECORDS[:4])
    (tmp_path / "tokens-1-seed0.json").write_text("{")
    with pytest.raises(UserError, match="delete it to have it made again"):
        run(tmp_path, values=["1"], seeds=1)


# --- refusals ---


def test_problems_in_two_data_sets_are_refused(tmp_path):
    seen = replace(RECORDS[0], problem="example-1-0")
    with pytest.raises(UserError, match=r"train and test share problems \(example-1-0\)"):
        run(tmp_path, records=[seen, *RECORDS[1:]])
    with pytest.raises(UserError, match="train and validation share problems"):
        run(tmp_path, train=VALIDATION)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"axis": "depth"}, "unknown axis 'depth'; known: tokens, rank"),
        ({"axis": "rank"}, "'weighing' has no hyper-parameter 'rank'"),
        ({"values": ["0"]}, "tokens = '0': must be a whole number"),
        ({"values": ["many"]}, "tokens = 'many'"),
        ({"k": 8}, "k = 8: of 7 paths, 1 to 7 can be kept"),
        ({"seeds": 0}, "seeds = 0"),
        ({"records": []}, "not of none"),
        ({"axis": "prefix", "values": ["4L"]}, "prefix = '4L': must be one of L/2, L, 2L, all"),
        ({"axis": "labels", "values": ["9"]}, "have 8 continuations"),
        ({"axis": "adapter", "method": Stop(), "values": ["maybe"]}, "adapter = 'maybe': write with or without"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(more, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, **more)
    assert not Weighing.fits
    assert not list(tmp_path.iterdir())


# --- the real thing ---


def test_stop_with_and_without_its_adapter(engine, tmp_path):
    train, validation = example_dataset(3, seed=1, generator=engine), example_dataset(2, seed=2, generator=engine)
    records = [replace(one, pool=replace(one.pool, generator=engine)) for one in RECORDS[:3]]
    base = Stop(tokens=2, rank=4, epochs=1, batch=16)
    rows = ablate(base, "adapter", train, validation, records, 3, tmp_path, seeds=1)
    assert [row.value for row in rows] == ["with", "without"]
    for value, adapter in (("with", True), ("without", False)):
        again = Stop(tokens=2, rank=4, epochs=1, batch=16, adapter=adapter)
        again.load(tmp_path / f"adapter-{value}-seed0.safetensors")
        kept = [one.correct[np.argsort(-again.score(one.pool), kind="stable")[:3]].mean() for one in records]
        assert rows[not adapter].avg_at_k.mean == pytest.approx(100 * np.mean(kept))
    assert not list(tmp_path.glob(".*"))


def test_data_that_cannot_be_learned_from_are_named_with_the_training(tmp_path):
    train = PrefixDataset(tuple(replace(one, outcome=None) for one in TRAIN))
    with pytest.raises(UserError, match=r"^otv, rank = 4, seed 0: otv learns from the verdicts of finished paths"):
        run(tmp_path, "rank", OneTokenVerification(), train=train)


def test_a_training_that_was_stopped_in_the_middle_goes_on(engine, tmp_path, monkeypatch):
    import torch

    train, validation = example_dataset(3, seed=1, generator=engine), example_dataset(2, seed=2, generator=engine)
    records = [replace(one, pool=replace(one.pool, generator=engine)) for one in RECORDS[:3]]

    def again(folder):
        base = Stop(tokens=1, rank=4, epochs=3, batch=16)
        return ablate(base, "rank", train, validation, records, 3, folder, values=["4"], seeds=1)

    whole = again(tmp_path / "whole")
    real, writes = torch.save, [0]

    def killed_in_the_second_epoch(*content):
        writes[0] += 1
        if writes[0] == 2:
            raise KeyboardInterrupt
        real(*content)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            again(tmp_path / "part")
    assert (tmp_path / "part" / ".rank-4-seed0.state").exists()
    assert again(tmp_path / "part") == whole
    name = "rank-4-seed0.safetensors"
    assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "part" / ".rank-4-seed0.state").exists()
