"""The simulated cluster: what can be added up by hand, what must hold whatever happens, and the measured small case."""

from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.config import preset
from prunebench.bench.engines.base import Request
from prunebench.bench.engines.load import load_local
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import Complete, replay
from prunebench.bench.perf.cluster import Arrival, Replica, StepCost, serve
from prunebench.bench.perf.cluster_cases import ClusterCase, outcomes, reproduce, step_cost
from prunebench.bench.perf.decoding import untrained
from prunebench.bench.perf.online import OnlineCase
from prunebench.bench.policies import parse_policy
from prunebench.bench.rollouts.sampling import problems_of, tasks_of
from prunebench.methods.base import Pruner, Source

COST = StepCost(fixed=1.0, per_row=0.1, per_token=0.01, encoded=0.001)
ROOM = Replica(COST, capacity=1 << 30)


def arrival(lengths, at=0.0, prompt=0, seed=0):
    scores = np.random.default_rng(seed).standard_normal(len(lengths))
    return Arrival(at, prompt, np.array(lengths, np.int64), scores)


def workload(problems=5, paths=16, mean=120, seed=0):
    generator = np.random.default_rng(seed)
    return [
        Arrival(float(40 * number), 7, generator.integers(10, 2 * mean, paths), generator.standard_normal(paths))
        for number in range(problems)
    ]


def one_by_one(cost, rows, read, steps):
    return sum(cost.fixed + cost.per_row * rows + cost.per_token * (read + rows * step) for step in range(steps))


def test_a_stretch_of_steps_is_the_sum_of_its_steps():
    assert COST.seconds(3, 50, 17) == pytest.approx(one_by_one(COST, 3, 50, 17))


def test_a_path_alone_takes_its_steps():
    served = serve([arrival([20], prompt=5)], None, 10, [ROOM])
    assert served.seconds == pytest.approx(one_by_one(COST, 1, 5, 20) + 5 * COST.encoded)
    assert (served.decoded, served.recomputed, served.evicted) == (20, 0, 0)
    assert served.latency == [pytest.approx(served.seconds)]


def test_paths_leave_the_step_when_they_end():
    served = serve([arrival([4, 10])], None, 10, [ROOM])
    assert served.seconds == pytest.approx(one_by_one(COST, 2, 0, 4) + one_by_one(COST, 1, 4, 6))
    assert served.peak_held == 10, "the shorter one has left"


def test_a_cut_saves_what_the_dropped_paths_would_have_taken():
    served = serve([arrival([10, 10, 10, 10])], parse_policy("topk:1"), 4, [ROOM], check_tokens=2)
    check = COST.fixed + COST.per_row * 8 + COST.per_token * 16
    assert served.seconds == pytest.approx(one_by_one(COST, 4, 0, 4) + check + one_by_one(COST, 1, 4, 6))
    assert (served.decoded, served.checked) == (4 * 4 + 6, 8)


class Told(Pruner):
    name, paper, source, requires = "told", "-", Source.INTERNAL, frozenset()

    def __init__(self, scores):
        self.scores = scores

    def score(self, pool):
        return self.scores[pool.paths]


@pytest.mark.parametrize("policy", ["topk:4", "funnel:16@20,8@40,4@60:2", "memory:400,every=20", "topk:4:keep"])
@pytest.mark.parametrize("capacity", [1 << 30, 700, 260])
def test_the_tokens_are_those_of_a_replay_whatever_the_memory(policy, capacity, make_pool):
    """Memory moves paths in time, and what is encoded again; never what is decoded."""
    problems, parsed = workload(), parse_policy(policy)
    served = serve(problems, parsed, 20, [Replica(COST, capacity)], check_tokens=1)
    wanted = 0
    for problem in problems:
        complete = Complete(
            problem.lengths, np.full(16, -1), lambda at, problem=problem: make_pool(problem.lengths, at)
        )
        wanted += replay(Told(problem.scores), parsed, complete, 20).decoded.sum()
    assert served.decoded == wanted
    assert served.peak_held <= capacity
    assert served.evicted >= (served.recomputed > 0)
    assert min(served.latency) > 0


@pytest.fixture
def make_pool():
    from prunebench.methods.pool import Pool

    def build(lengths, at):
        count = len(lengths)
        return Pool(
            "p", "t", at, "", np.arange(3), np.arange(count), np.minimum(lengths, at), lengths <= at,
            np.full(count, -1), {},
        )  # fmt: skip

    return build


def test_little_memory_costs_time_and_encoding_again():
    problems = workload(problems=3)
    wide, narrow = (serve(problems, None, 20, [Replica(COST, room)]) for room in (1 << 30, 600))
    assert wide.decoded == narrow.decoded
    assert wide.recomputed == 0 < narrow.recomputed
    assert narrow.seconds > wide.seconds
    planned = serve(problems, None, 20, [Replica(COST, 600, planned=240)])
    assert planned.recomputed == 0, "whoever is let in with room for all of it stays"


def test_places_that_wait_at_a_checkpoint_are_taken_from_them_before_others_stop():
    """32 prefixes of 20 tokens do not fit into 300: the first ones are scored, leave, and those kept are read again."""
    served = serve([arrival([100] * 32)], parse_policy("topk:2"), 20, [Replica(COST, 300)])
    assert served.decoded == 32 * 20 + 2 * 80
    assert served.evicted > 0
    assert served.recomputed <= 2 * 20, "at most the prefixes that are kept"


def test_problems_are_dealt_out_and_devices_work_side_by_side():
    problems = [arrival([50] * 4, seed=number) for number in range(4)]
    alone, four = serve(problems, None, 20, [ROOM]), serve(problems, None, 20, [ROOM] * 4)
    assert four.decoded == alone.decoded
    assert four.seconds < alone.seconds
    assert four.busy_seconds > alone.busy_seconds, "a step shares its fixed cost"


def test_latency_counts_from_arrival():
    late = serve([arrival([10]), arrival([10], at=1000.0)], None, 5, [ROOM])
    assert late.seconds == pytest.approx(1000 + late.latency[1])
    assert late.latency[0] == pytest.approx(late.latency[1])


def test_a_path_that_never_fits_is_refused():
    with pytest.raises(UserError, match="a path of 105 tokens with its prompt exceeds the room for 90"):
        serve([arrival([100], prompt=5)], None, 10, [Replica(COST, 90)])


def test_measured_steps_give_their_cost_back():
    steps = [(rows, rows * length, COST.seconds(rows, rows * length)) for rows in (1, 8, 64) for length in (10, 100)]
    cost = StepCost.fitted(steps, COST.encoded)
    np.testing.assert_allclose(
        [cost.fixed, cost.per_row, cost.per_token], [COST.fixed, COST.per_row, COST.per_token], rtol=1e-6
    )


def test_two_runs_are_equal_and_pruning_saves_more_than_its_share_of_tokens():
    case = ClusterCase(problems=8, paths=64, tokens=2000, prefix=128, gpus=2, simulated=2, kv_gigabytes=2.0)
    first, second = outcomes(case), outcomes(case)
    assert first == second
    by = {outcome.policy.partition(":")[0]: outcome for outcome in first}
    assert by["topk"].decoded < 0.25 * by["none"].decoded
    assert by["topk"].hours < 0.5 * by["none"].hours
    assert by["funnel"].decoded < by["none"].decoded
    assert by["none"].price == pytest.approx(by["none"].gpu_hours * case.price)


def test_a_cluster_of_which_no_device_gets_a_problem_is_refused():
    with pytest.raises(UserError, match="problems=4: none falls to the 2 simulated of 64 devices; give at least 32"):
        ClusterCase(problems=4).arrivals()


def test_arrivals_make_a_cluster_wait():
    case = ClusterCase(problems=8, paths=16, tokens=2000, prefix=128, gpus=1, simulated=1)
    slow = outcomes(replace(case, rate=1e-4))[0]
    assert slow.hours > outcomes(case)[0].hours
    assert slow.latency_median < outcomes(case)[0].latency_median


def test_the_shape_is_that_of_the_model():
    assert ClusterCase().model.parameters == pytest.approx(1.54e9, rel=0.01)
    assert ClusterCase().model.kv_bytes == 28_672


def test_the_small_case_is_measured_and_simulated_with_the_same_tokens():
    """Seconds are not compared here: `prunebench perf cluster` does that."""
    engine = load_local("embedded", "cpu")
    config = preset("demo", tasks=("synthetic/power",))
    sampling = replace(config.sampling, max_new_tokens=400)
    case = OnlineCase(untrained(engine), sampling, config.prefix_tokens, 2, repeats=1)
    chosen = problems_of(tasks_of(config), config.split, 2, config.seed)
    requests = [Request(p.id, engine.encode_prompt(p.prompt), tuple(range(6))) for _, p in chosen]
    cost = step_cost(engine, (4, 16), (20, 80))
    assert cost.encoded > 0
    reproduced = reproduce(engine, case, requests, cost)
    assert reproduced.tokens_saved == pytest.approx(reproduced.measured.tokens_saved)
    assert reproduced.whole_seconds > reproduced.pruned_seconds > 0
    assert "measured and simulated" in reproduced.sentence
    assert len(engine.decoder.ends), "what steps were measured without is back"
