"""A plan counts every item, says their sum, and subtracts what is there."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from prunebench.bench.cli import trial
from prunebench.bench.cli.planning import Done, Extent, done_in, duration, extent_of, plan_of, sampling_plan
from prunebench.bench.cli.power import deciding
from prunebench.bench.cli.trial import SECONDS, Pilot, Trial, speed_of
from prunebench.bench.config import preset
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Path, Request, Rollout
from prunebench.bench.engines.load import DEFAULT_ENGINE
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.evaluation.statistics import problems_to_find
from prunebench.bench.progress import SILENT
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.bench.training.label_plans import RECIPES
from tests.bench.conftest import refused
from tests.bench.guideline.test_recommendation import made_up

MODEL = SimpleNamespace(num_key_value_heads=2, num_attention_heads=4, hidden_size=128, num_hidden_layers=5)


def text_of(*arguments, **options):
    return "\n".join(plan_of(*arguments, **options))


def test_a_plan_by_hand():
    kv = Arithmetic.of(MODEL, 1, 4).kv_bytes
    extent = Extent(40, 400, 10_000.0, 240, kv, validation_problems=20, tokens_read_per_second=50_000.0)
    methods = ("entropy", "stop", "agreement", "none")
    text = text_of(preset("demo", problems=10), RECIPES["cpu"], extent, methods=methods)
    assert "40 problems x 64 paths = 2,560 paths of expected 240 tokens each" in text
    assert "614,400 tokens, 1.0 minutes" in text, "all paths to their end"
    assert "166,400 tokens, 0.3 minutes" in text, "40 * (64 * 40 + 8 * 200)"
    assert "(400 problems x 32 paths): 3,072,000 tokens, 5.1 minutes" in text
    assert "19,968,000 tokens, 33.3 minutes" in text, "400 * (4 * 220 + 8 * 200 + 4 * 160) * 16"
    assert "validation rollouts (20 problems x 64 paths): 307,200 tokens, 0.5 minutes" in text
    assert "4,096,000 tokens, 6.8 minutes" in text, "20 * 64 * 16 * 200"
    assert "16,384,000 tokens, 27.3 minutes" in text, "2560 * 32 * 200"
    assert "scoring with 4 methods, 2 of which read prefixes again: 204,800 tokens, 0.1 minutes" in text, (
        "2 * 2560 * 40"
    )
    assert "comparing at equal cost (4 draws): 512,000 tokens, 0.2 minutes" in text, "stop once, agreement by draw"
    seconds = (614_400 + 3_072_000 + 19_968_000 + 307_200 + 4_096_000 + 16_384_000) / 10_000 + 716_800 / 50_000
    assert f"together: about {seconds / 60:.1f} minutes" in text
    # a position holds 2 * 5 layers * 2 heads * 32 * 4 bytes = 2560: 64 * 240 and 64 * 40 + 8 * 200 positions
    assert "38 MiB uncut, 10 MiB after the cut" in text


def test_what_is_done_is_subtracted():
    extent = Extent(40, 0, 1_000.0, 600)
    config = preset("demo", problems=10)
    text = text_of(config, RECIPES["cpu"], extent, control=False, done=Done(rollouts=0.25))
    assert "1,536,000 tokens, 25.6 minutes, 25 % done" in text
    assert "together: about 25.6 minutes, of which 6.4 minutes are done: 19.2 minutes to go" in text


def test_several_processes_share_what_can_be_shared():
    """Sampling and scoring by problems; of learning each split of a task is the work of one."""
    config, recipe = preset("demo", problems=10), RECIPES["small"]
    one = Extent(40, 40, 1_000.0, 240, validation_problems=5)
    alone, together = (text_of(config, recipe, each) for each in (one, replace(one, processes=2)))
    assert "614,400 tokens, 10.2 minutes" in alone and "614,400 tokens, 5.1 minutes" in together
    many = replace(one, problems=400)
    for each, minutes in ((many, 17.1), (replace(many, processes=2), 8.5)):
        said = f"1 of which read prefixes again, taken to be as slow as sampling: 1,024,000 tokens, {minutes} minutes"
        assert said in text_of(config, recipe, each, methods=["stop"])
    train, held = (16 * 240 + (2 * 220 + 6 * 200 + 2 * 160) * 8) * 40, (64 * 240 + 64 * 8 * 200) * 5
    assert train > held
    shares = sum(
        float(share) for share in re.findall(r"^  (?:training|validation) .* ([\d.]+) minutes", together, re.M)
    )
    assert shares == pytest.approx(train / 1_000 / 60, abs=0.2), "the longer job is what is waited for"


def test_without_a_length_the_cap_bounds_the_cost():
    lines = plan_of(preset("demo"), RECIPES["cpu"], Extent(48, 400, 1e4))
    assert "at most 900 tokens each" in lines[0] and any("together: at most" in line for line in lines)
    assert "at most 300 tokens each" in plan_of(preset("demo"), RECIPES["cpu"], Extent(48, 400, 1e4, cap=300))[0]


def test_what_is_not_done_is_not_planned():
    text = text_of(preset("demo"), RECIPES["cpu"], Extent(48, 0, 1e4), control=False)
    assert "training" not in text and "potential" not in text and "scoring" not in text and "not known" in text


def test_what_nobody_knows_here_is_said_not_to_be_counted():
    text = text_of(preset("demo"), RECIPES["cpu"], Extent(48, 400, 1e4, validation_problems=None), taught=("stop",))
    assert "validation rollouts" not in text and "not counted: validation, whose problems would have to be" in text
    assert re.search("together: at most .* device-hours, without the training itself \\(stop\\)", text)


def test_long_times_are_said_in_hours_of_the_device():
    extent = Extent(30, 0, 2_000.0)
    lines = plan_of(preset("paper/ds-qwen-1.5b"), RECIPES["paper"], extent, control=False)
    assert "31,457,280 tokens, 4.4 device-hours" in "\n".join(lines), "30 * 64 * 16384 / 2000 / 3600"
    assert (duration(60), duration(7200)) == ("1.0 minutes", "2.0 device-hours")


# --- trials


def trial_of(*lengths, cap=64, going=()):
    paths = [Path(n, range(length), "length" if n in going else "stop") for n, length in enumerate(lengths)]
    return Trial([Rollout("p", paths)], cap, 2.0)


def test_lengths_are_extrapolated_only_where_paths_have_ended():
    assert trial_of(10, 20, 30).mean_tokens(900) == 20 and "extrapolated" not in trial_of(10, 20, 30).how
    some = trial_of(10, 30, 64, 64, going=(2, 3))
    assert some.mean_tokens(900) == 84 and some.mean_tokens(70) == 70, "168 tokens, 2 ends"
    assert "2 of which ended; extrapolated from there" in some.how
    assert trial_of(10, *[64] * 9, going=range(1, 10)).mean_tokens(900) is None, "one of ten says nothing"
    assert trial_of(64, 64, going=(0, 1)).mean_tokens(64) == 64, "cut off by the cap is an end"


def test_a_trial_is_short_on_a_slow_model(monkeypatch):
    """Every step of this one takes as long as that of a large model on a laptop."""

    class Slow(TransformersEngine):
        def sample(self, requests, sampling, seed, recording=(), purpose="rollout"):
            rows = sum(len(request.paths) for request in requests)
            time.sleep(sampling.max_new_tokens * rows * 0.02)
            return super().sample(requests, replace(sampling, max_new_tokens=1), seed)

    reasoner = TransformersEngine.load("embedded")
    slow = Slow(reasoner.model, reasoner.tokenizer, reasoner.name, reasoner.digest)
    config = preset("demo", max_new_tokens=900)
    monkeypatch.setattr(trial, "_PILOT_SECONDS", 5.0)
    began = time.monotonic()
    extent = extent_of(config, slow, learning=False)
    assert time.monotonic() - began < 30 and extent.mean_tokens in (None, 1) and "tried" in extent.how


@pytest.fixture(scope="module")
def reasoner():
    return TransformersEngine.load("embedded")


def test_a_trial_takes_as_many_paths_as_fly_together_and_few_tokens(reasoner):
    found = speed_of(reasoner, preset("demo", n=8))
    assert "tried 32 paths of at most 64 tokens" in found.how and found.tokens_per_second > 0
    assert found.tokens_read_per_second > 0 and found.cap == 900


def test_where_none_of_many_paths_ends_a_few_go_on_to_tell_how_long_they_are(reasoner, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 60.0)
    found = speed_of(reasoner, preset("demo", n=8))
    assert found.mean_tokens is not None and 200 < found.mean_tokens < 400
    assert "tried 32 paths of at most 64 tokens" in found.how and "how long paths are: tried 32 paths" in found.how


def test_a_pilot_that_is_run_samples_whole_paths_whatever_the_time(reasoner):
    config = preset("demo", n=8, tasks=("synthetic/power",))
    first, second = (Pilot.of(reasoner, config, SILENT) for _ in range(2))
    assert first.whole and first.trial.lengths == second.trial.lengths and first.mean_tokens == second.mean_tokens


def test_a_plan_counts_with_the_whole_paths_that_were_sampled(reasoner, monkeypatch):
    config = preset("demo", n=16, tasks=("synthetic/power",), problems=6)
    pilot = Pilot.of(reasoner, config, SILENT)
    speed = pilot.trial.speed
    slow = trial_of(2, 2, 2, 2, cap=2, going=range(4))
    monkeypatch.setattr(trial, "tried", lambda *_: slow)
    extent = extent_of(config, reasoner, learning=False, pilot=pilot)
    assert slow.speed < speed == extent.tokens_per_second
    assert extent.mean_tokens == round(sum(pilot.trial.lengths) / 32) < 900 and "tried 32 paths" in extent.how
    plan = text_of(config, RECIPES["cpu"], extent, control=False)
    assert f"= 96 paths of expected {extent.mean_tokens} tokens each" in plan
    fast = replace(trial_of(*[64] * 64, going=range(64)), seconds=64 * 64 / (2 * speed))
    monkeypatch.setattr(trial, "tried", lambda *_: fast)
    wider = extent_of(config, reasoner, learning=False, pilot=pilot)
    assert wider.tokens_per_second == pytest.approx(2 * speed) and wider.mean_tokens == extent.mean_tokens
    assert "tried 64 paths of at most 64 tokens" in wider.how and "how long paths are: tried 32 paths" in wider.how


def test_where_time_is_short_fewer_paths_are_tried_not_fewer_tokens():
    """All 256 paths would come to 3 tokens in 8 seconds: 64 of them are tried."""

    class Timed:
        backend, asked, now = "", [], 0.0

        def sample(self, requests, sampling, _seed):
            rows = sum(len(request.paths) for request in requests)
            self.asked.append((rows, sampling.max_new_tokens))
            self.now += 0.04 * sampling.max_new_tokens * max(1.0, rows / 8)
            return trial_of(*[sampling.max_new_tokens] * rows, going=range(rows)).rollouts

    engine = Timed()

    def seconds_of(work):
        began = engine.now
        work()
        return engine.now - began

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "seconds_of", seconds_of)
        requests = [Request(f"p{i}", np.arange(3), tuple(range(64))) for i in range(4)]
        found = trial.tried(engine, requests, preset("demo").sampling, 0, 64)
    assert len(found.lengths) == 64 and found.cap >= 8 and engine.now < 16


def test_only_what_is_missing_is_planned(reasoner, tmp_path):
    config = preset("demo", n=4, k=1, problems=3, tasks=("synthetic/power",), max_new_tokens=80)
    problems = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    (whole,) = sampling_plan(reasoner, config, tmp_path, DEFAULT_ENGINE, "cpu")
    assert "plan: 3 problems x 4 paths = 12 paths of" in whole and "tokens/s (tried " in whole and " minutes" in whole
    sample_configured(reasoner, config, problems[:1], tmp_path / "rollouts")
    (rest,) = sampling_plan(reasoner, config, tmp_path / "rollouts", DEFAULT_ENGINE, "cpu")
    assert "plan: 2 problems x 4 paths" in rest
    assert done_in(tmp_path, reasoner, config, Extent(3, 0, 1.0)).rollouts == pytest.approx(1 / 3)
    other = config.model_copy(update={"temperature": 0.1})
    assert done_in(tmp_path, reasoner, other, Extent(3, 0, 1.0)).rollouts == 0, "paths of other settings"
    sample_configured(reasoner, config, problems, tmp_path / "rollouts")
    assert not list(sampling_plan(reasoner, config, tmp_path / "rollouts", DEFAULT_ENGINE, "cpu", piloted=True))


def test_labels_are_planned_by_the_paths_that_are_stored(prunebench, tmp_path):
    common = ("--set", "n=4", "--problems", "1", "--task", "synthetic/power", "--out", "rollouts", "--force")
    assert prunebench("rollouts", *common)[0] == 0
    label = ("label", "rollouts", "--prefix", "30", "--continuations", "2", "--out", "labels")
    code, out, err = prunebench(*label)
    assert code == 0, err
    assert re.search(r"plan: [1-4] prefixes x 2 continuations of expected [\d,]+ tokens each", out)
    assert "tokens/s (tried " in out and " minutes" in out
    assert "plan: " not in prunebench(*label)[1], "all of it is there"


# --- names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "demo", "--plan-only", "--set", "methods=stpo"), "unknown method 'stpo': did you mean 'stop'"),
        (("run", "demo", "--plan-only", "--judge", "prmm=x"), "--judge prmm=...: no method of this name uses a judge"),
        (("compare", "--judge", "stop=x"), "--judge stop=...: no method of this name uses a judge"),
        (("run", "demo", "--set", "methods=entropy,stpo"), "unknown method 'stpo'"),
        (("advise", "--task", "synthetic/power", "--plan-only", "--methods", "stpo"), "unknown method 'stpo'"),
        (("advise", "--task", "synthetic/power", "--methods", "mean-rank(stop,entrpy)"), "unknown method 'entrpy'"),
        (("compare", "--methods", "mean-rank(stpo,entropy)"), "unknown method 'stpo'"),
        (("train", "stpo"), "unknown method 'stpo'"),
    ],
)
def test_a_misspelt_method_is_refused_before_anything_is_sampled(prunebench, tmp_path, arguments, sentence):
    began = time.monotonic()
    assert sentence in refused(prunebench(*arguments))
    assert not list(tmp_path.iterdir()) and time.monotonic() - began < SECONDS, "no trial either"


def test_what_is_not_trained_is_told_before_anything_is_sampled(prunebench, checkpoint, tmp_path):
    code, out, err = prunebench(
        "compare", "--task", "synthetic/power", "--model", checkpoint, "--prefix", 9, "--methods", "stop"
    )
    assert code == 2 and "method 'stop' has no learned files" in err and "train it: prunebench train stop" in err
    assert "plan: " not in out and not (tmp_path / "runs").exists(), "no trial either"


def test_a_model_of_ones_own_is_told_what_it_gets(prunebench, checkpoint):
    common = ("rollouts", "--task", "synthetic/power", "--model", checkpoint, "--problems", "1", "--n", "2", "--force")
    code, out, err = prunebench(*common, "--out", "o")
    assert code == 0, err
    assert "has no preset: as in the paper, 2 paths of at most 16,384 new tokens at temperature 0.6" in out
    told = re.search(r"plan: 1 problems x 2 paths = 2 paths of (?:expected|at most) (\d+) tokens", out)
    assert told and 0 < int(told[1]) < 256, "256 tokens of context, the prompt is in it"
    code, out, err = prunebench(*common, "--out", "p", "--set", "max_new_tokens=60")
    assert code == 0 and "has no preset" not in out, err


# --- how many problems decide


def test_the_trial_says_how_many_problems_find_a_difference():
    config = preset("demo", n=64, k=8)
    said = deciding((0.5, 0.0, 0.25, 1.0), config, 48)
    shared = 100 * ((0.25 + 0.1875) / 4 * 8 / 7) ** 0.5
    alone = shared * (56 / (8 * 63)) ** 0.5
    for size in (2, 5, 10):
        low, high = (problems_to_find(spread, size) for spread in (alone, shared))
        assert f"{low:,.0f} to {high:,.0f}" in said
    assert said.endswith("asked for are 48")
    assert "not known before the run, as no trial reached" in deciding((), config, 48)
    assert "all right or all wrong" in deciding((1.0, 0.0), config, 48)
    extent = Extent(48, 0, 1e4, right=(0.5, 0.25))
    assert deciding((0.5, 0.25), config, 48) in plan_of(config, RECIPES["cpu"], extent)
    assert not any("to find a difference" in line for line in plan_of(config, RECIPES["cpu"], Extent(48, 0, 1e4)))


def test_a_comparison_says_before_it_samples_how_many_problems_would_decide(prunebench, monkeypatch):
    monkeypatch.setattr(trial, "_PILOT_SECONDS", 30.0)
    code, out, err = prunebench(
        "compare", "--task", "synthetic/power", "--problems", "2", "--n", "8", "--methods", "entropy", "--force"
    )
    assert code == 0, err
    said = " ".join(out.split())
    assert "to find a difference to none of 2, 5, 10 points (two-sided 5 %, 80 % power)" in said
    assert "asked for are 2" in said or "not known before the run" in said


def test_a_sweep_that_is_there_is_not_planned_again(reasoner, tmp_path):
    config = preset("demo", n=4, k=1, problems=12, tasks=("synthetic/power",))
    extent = Extent(12, 0, 100.0)

    def planned(swept, config=config, extent=extent):
        done = done_in(tmp_path, reasoner, config, extent)
        lines = plan_of(config, RECIPES["small"], extent, control=False, swept=swept, done=done)
        return next(line for line in lines if "the sweep" in line)

    assert "done" not in planned(["step"])
    (tmp_path / "sweep").mkdir()
    sweep = made_up({("step", 0.5): 1.0, ("entropy", 0.5): 1.0}, problems=12)
    sweep.model_copy(update={"model_hash": reasoner.digest}).write(tmp_path / "sweep")
    assert planned(["step", "entropy"]).endswith(", 100 % done")
    assert planned(["step", "otv"]).endswith(", 50 % done")
    assert "done" not in planned(["step"], extent=Extent(13, 0, 100.0)), "of other problems"
    assert "done" not in planned(["step"], config.model_copy(update={"prefix_tokens": 30})), "at another checkpoint"
