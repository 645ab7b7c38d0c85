"""Many engines through Ray Data on a real local cluster of two nodes; skipped loudly without Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from prunebench.bench.config import preset
from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.ray import Cluster
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.comparison import run_comparison
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.progress import SILENT, uncounted
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import Sampled, problems_of, sample_rollouts, tasks_of
from tests.bench.conftest import refused
from tests.counted import Counted

INSTALLED = importlib.util.find_spec("ray") is not None
EMBEDDED = REASONERS["embedded"]
SAMPLING = Sampling(temperature=0.8, max_new_tokens=300)
N = 8


@pytest.fixture(scope="module")
def nodes():
    """The address of a cluster of two nodes with two CPUs each, and what takes the second one away."""
    if not INSTALLED:
        warnings.warn("NO RAY: many engines are not tested; pip install 'prunebench[ray]'", stacklevel=1)
        pytest.skip("Ray is not installed")
    import ray
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = Nodes(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    second = started.add_node(num_cpus=2)
    ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
    yield started, second
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def problems():
    config = preset("demo", problems=6)
    return problems_of(tasks_of(config), config.split, config.problems, config.seed)


def sampled(engine, problems, folder, cluster=None, progress=SILENT):
    return sample_rollouts(
        engine, problems, folder, n=N, sampling=SAMPLING, seed=0, recording=Recording(topk=0), cluster=cluster,
        progress=progress,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(engine, problems, tmp_path_factory):
    return sampled(engine, problems, tmp_path_factory.mktemp("alone") / "store")


def workers():
    """Process ids of the actors that hold an engine: Ray names their processes so."""
    named = [(int(file.parent.name), file.read_bytes()) for file in Path("/proc").glob("[0-9]*/cmdline")]
    return [number for number, line in named if line.startswith(b"ray::MapWorker")]


@pytest.mark.parametrize("count", [1, 3])
def test_the_store_does_not_depend_on_the_number_of_workers(nodes, engine, problems, alone, tmp_path, count):
    counts = []
    store = sampled(engine, problems, tmp_path / "store", Cluster(count, nodes[0].address), Counted(counts.append))
    assert store.digest() == alone.digest()
    assert store.shards.names() == alone.shards.names()
    assert sum(counts) == N * len(problems)


def test_labels_do_not_depend_on_the_workers(nodes, engine, alone, tmp_path):
    from prunebench.tasks import catalogue

    cuts = [
        cut for stored in list(alone.read(hidden=False))[:4]
        for cut in prefixes_of(catalogue.get(stored.task), stored, 40, 6)
    ]  # fmt: skip
    here, there = (
        label_prefixes(engine, cuts, tmp_path / name, continuations=4, sampling=SAMPLING, seed=1, cluster=cluster)
        for name, cluster in (("here", None), ("there", Cluster(2, nodes[0].address)))
    )
    assert len(here) == len(cuts) > 8
    assert here.shards.digest == there.shards.digest


def test_what_a_worker_refuses_is_the_users_sentence(nodes, engine, problems):
    long = Sampled(N, SAMPLING, 0, Recording())
    task, problem = problems[0]
    spoilt = type(problem)(**{**vars(problem), "prompt": "1 " * 4000})
    with pytest.raises(UserError, match="leaves no room in the context"):
        list(Cluster(1, nodes[0].address).run(engine, [[(task, spoilt)]], long))


def test_a_run_whose_worker_is_killed_ends_with_the_table_of_a_single_process(nodes, engine, tmp_path):
    """The first shard is sealed when one of three workers is killed."""
    config = preset("demo", problems=8, n=N, k=2, methods=("stop", "agreement", "deepconf"))
    inputs = Inputs(EMBEDDED.learned)
    killed = []

    class Watch:
        def stretch(self, name, total=None):
            def progress(count):
                if name.startswith("sampling") and count and not killed:
                    killed.append(workers()[0])
                    os.kill(killed[0], signal.SIGKILL)

            return progress

        def tokens(self):
            return uncounted

    single = run_comparison(engine, config, tmp_path / "single", inputs)
    many = run_comparison(
        engine, config, tmp_path / "many", inputs, progress=Watch(), cluster=Cluster(3, nodes[0].address)
    )
    assert len(killed) == 1
    seconds = {"launch_seconds", "check_seconds"}
    alone, other = (
        [{name: value for name, value in row.flat().items() if name not in seconds} for row in results.rows]
        for results in (single, many)
    )
    assert json.dumps(alone, default=str) == json.dumps(other, default=str)
    assert single.hashes["rollouts"] == many.hashes["rollouts"]


def test_a_node_that_is_lost_costs_only_time(nodes, engine, problems, alone, tmp_path):
    """The last test: it takes the second node away."""
    cluster, second = nodes
    lost = []

    def progress(count):
        if count and not lost:
            lost.append(second)
            cluster.remove_node(second, allow_graceful=False)

    store = sampled(engine, problems, tmp_path / "store", Cluster(3, cluster.address), Counted(progress))
    assert lost
    assert store.digest() == alone.digest()
    np.testing.assert_equal(len(store.problems()), len(problems))


def test_no_worker_and_an_address_without_workers_are_refused(prunebench):
    sentence = refused(prunebench("rollouts", "--engine", "transformers,workers=0", "--out", "x"))
    assert "--engine transformers,workers=0: workers=0: at least one is needed" in sentence
    sentence = refused(prunebench("rollouts", "--engine", "transformers,address=127.0.0.1:1", "--out", "x"))
    assert "address belongs to workers: say how many engines are wanted, as in workers=4" in sentence


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_one_sentence_says_how_to_get_it(prunebench):
    sentence = refused(prunebench("rollouts", "--engine", "transformers,workers=2", "--problems", "1", "--out", "x"))
    assert "Ray is not installed: pip install 'prunebench[ray]'" in sentence
    assert "ray" not in sys.modules
