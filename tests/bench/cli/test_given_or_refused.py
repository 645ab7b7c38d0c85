"""Every option that is given is used or refused: nothing is passed over in silence."""

from __future__ import annotations

import pytest

from prunebench.bench.cli.compare import OF_EXPERIMENTS, WITH_STORE
from prunebench.bench.cli.rollouts import OF_COMPARISONS
from prunebench.bench.config import RunConfig
from prunebench.bench.engines.options import ModelOptions
from tests.bench.conftest import refused
from tests.test_closed_doors import a_store

VALUES = {
    "tasks": "mine", "n": 1, "k": 1, "prefix_tokens": 2, "problems": 1, "temperature": 0.5, "max_new_tokens": 99,
    "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3, "split": "train", "methods": "length",
    "policy": "topk:1", "vote": "majority",
    "record": "entropy", "budget": "2k", "data": "mine=x", "train_tasks": "mine", "recipe": "small", "draws": 0,
    "kv_bytes_per_token": 7, "gpus_per_worker": 0.5, "model": "embedded",
}  # fmt: skip
"""A value of every key of a configuration."""
OF_MODEL = {
    "base": "x", "enable_thinking": "true",
    "revision": "main", "dtype": "auto", "device_map": "auto", "trust_remote_code": "false", "chat_template": "none",
    "system": "hello", "reasoning_effort": "low", "stop": "x", "tools": "python",
}  # fmt: skip
SAMPLED = "the rollouts of --store were sampled already; leave it out"
UNUSED = "this command makes no use of it; leave it out"


@pytest.fixture
def store(tmp_path):
    """Rollouts of one path; the model that they name is not there."""
    return a_store(tmp_path / "store", model="nowhere").shards.folder


def test_every_key_has_a_value_here():
    assert VALUES.keys() == RunConfig.model_fields.keys() - {"model_options"}
    assert OF_MODEL.keys() == ModelOptions.model_fields.keys()


@pytest.mark.parametrize("key", [*VALUES, *OF_MODEL])
def test_with_stored_rollouts_a_key_is_asked_of_them_or_refused(prunebench, store, key):
    value = {**VALUES, **OF_MODEL}[key]
    sentence = refused(prunebench("compare", "--store", store, "--set", f"{key}={value}"))
    assert (f"--set {key}: {SAMPLED}" in sentence) == (key not in WITH_STORE)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--config", "demo", SAMPLED),
        ("--data", "mine=x", SAMPLED),
        ("--model", "embedded", SAMPLED),
        ("--engine", "transformers,workers=2", "nothing is sampled from --store; leave it out"),
    ],
)
def test_with_stored_rollouts_an_option_that_samples_is_refused(prunebench, store, option, value, reason):
    assert reason in refused(prunebench("compare", "--store", store, option, value))


@pytest.mark.parametrize(("option", "value"), [("--engine", "vllm"), ("--device", "cuda")])
def test_imported_rollouts_are_read_by_no_model(prunebench, tmp_path, option, value):
    a_store(tmp_path / "imported", model="imported", model_hash="imported", grading="equivalence")
    sentence = refused(prunebench("compare", "--store", tmp_path / "imported", option, value))
    assert f"{option} {value}: {tmp_path}/imported was imported, and its model is not at hand; leave it out" in sentence


def test_paths_of_a_server_are_read_by_no_other_engine(prunebench, tmp_path):
    a_store(tmp_path / "served", engine="openai http://127.0.0.1:1/v1")
    sentence = refused(prunebench("compare", "--store", tmp_path / "served", "--engine", "vllm"))
    assert f"--engine vllm: {tmp_path}/served was sampled on a server by openai; leave it out" in sentence


@pytest.mark.parametrize(("command", "unused"), [("compare", OF_EXPERIMENTS), ("rollouts", OF_COMPARISONS)])
def test_a_key_that_a_command_does_not_look_at_is_refused(prunebench, command, unused):
    for key in unused:
        assert f"--set {key}: {UNUSED}" in refused(prunebench(command, "--set", f"{key}={VALUES[key]}"))


@pytest.mark.parametrize("command", ["compare", "rollouts", "run", "advise"])
@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("problms=3", "--set problms=3: unknown key 'problms'; did you mean 'problems'?"),
        ("dtyp=auto", "--set dtyp=auto: unknown key 'dtyp'; did you mean 'dtype'?"),
        ("top_p=much", "--set top_p=much: input should be a valid number"),
        ("tasks=synthetic/power", "--set tasks: an option says the same; give one of them"),
        ("top_p", "--set top_p: write KEY=VALUE"),
    ],
)
def test_a_wrong_pair_is_one_sentence(prunebench, tmp_path, command, pair, sentence):
    assert sentence in refused(prunebench(command, "--task", "synthetic/power", "--set", pair))
    assert not list(tmp_path.iterdir())


def test_written_runs_take_what_they_use():
    """There is no option of theirs that only a comparison reads."""
    from tests.bench.cli.test_commands import COMMANDS, parameters

    taken = {name: {it.name for it in parameters(COMMANDS[name])} for name in ("versus", "rebuild")}
    assert taken == {
        "versus": {"run", "methods", "store", "trust"},
        "rebuild": {"run", "store", "trust", "sampling", "out"},
    }


@pytest.mark.parametrize("how", [(), ("--sampling",)])
def test_a_run_is_not_written_over_itself(prunebench, tmp_path, how):
    sentence = refused(prunebench("rebuild", tmp_path, *how, "--out", tmp_path))
    assert "this is the comparison itself; choose another folder" in sentence


def test_a_device_is_asked_of_commands_that_compute(prunebench, tmp_path):
    assert "--device cuda: figures makes no use of it" in refused(prunebench("figures", tmp_path, "--device", "cuda"))
    assert "no model runs without --sampling" in refused(prunebench("rebuild", tmp_path, "--device", "cuda"))
    sentence = refused(prunebench("--device", "cpu", "rebuild", tmp_path, "--sampling", "--store", "x"))
    assert "with --sampling the paths are sampled again" in sentence
