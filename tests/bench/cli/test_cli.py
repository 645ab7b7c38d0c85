from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from prunebench.bench.config import PRESETS
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.registry import PRUNERS
from prunebench.tasks import catalogue
from tests.bench.conftest import refused

COMMANDS = (
    "demo", "list", "rollouts", "label", "train", "compare", "perf", "check", "sweep", "guideline", "figures", "study",
    "report", "versus", "rebuild", "solve", "new", "import", "run", "advise",
)  # fmt: skip
SMALL = ("--task", "synthetic/power", "--n", "8", "--k", "2", "--set", "split=validation")


def test_help_names_every_command(prunebench):
    code, out, _ = prunebench("--help")
    assert code == 0
    assert all(f" {command} " in out for command in COMMANDS)


def test_who_stops_a_command_is_told_how_it_goes_on(prunebench, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunebench.bench.cli.compare.compare_with", stopped)
    code, _, err = prunebench("demo")
    assert code == 130 and err == "prunebench: stopped; the same command goes on from here\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(prunebench, command):
    code, out, _ = prunebench(command, "--help")
    assert code == 0
    assert "Usage: prunebench" in out


def test_lists(prunebench):
    code, out, _ = prunebench("list")
    assert code == 0
    assert all(name in out for name in PRUNERS.names())
    assert all(f" {quadrant} " in out for quadrant in ("control", "I", "II", "III", "IV"))
    assert all(name in prunebench("list", "tasks")[1] for name in catalogue.names())
    assert "demo" in prunebench("list", "presets")[1]


def test_help_and_lists_load_no_model_library():
    code = (
        "import sys; from prunebench.bench.cli import main; sys.argv = ['prunebench', {}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({{'torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'matplotlib'}} & set(sys.modules)))"
    )
    for argument in ("'--help'", "'list'"):
        run = subprocess.run([sys.executable, "-c", code.format(argument)], capture_output=True, text=True, check=True)
        assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compare", "--methods", "stpo"), "unknown method 'stpo': did you mean 'stop'"),
        (("compare", "--task", "synthetic/powr"), "unknown task 'synthetic/powr': did you mean 'synthetic/power'"),
        (("compare", "--config", "dmo"), "unknown preset 'dmo'; did you mean 'demo'?"),
        (("compare", "--k", "65"), "k = 65 paths cannot be kept of n = 64; choose k <= n"),
        (("compare", "--policy", "topk:65"), "policy topk:65 keeps 65 of 64 paths; choose k <= n"),
        (("compare", "--policy", "best:3"), "unknown policy 'best:3'"),
        (("compare", "--prefix", "900"), "every path ends before it, at max_new_tokens = 900; choose a smaller prefix"),
        (("compare", "--set", "split=tst"), "--set split=tst: input should be 'train', 'validation' or 'test'"),
        (("compare", "--set", "record=entrpy"), "record = entrpy: did you mean 'entropy'?"),
        (("compare", "--set", "temperature=-1"), "temperature = -1"),
        (("compare", "--model", "."), "model folder .: no config.json"),
        (("compare", "--config", "missing.yaml"), "missing.yaml: no such file"),
        (("label", "nowhere"), "nowhere: no manifest.json, so this is no rollouts store"),
        (("train", "stpo"), "unknown method 'stpo'"),
        (("train", "stop", "--data", "nowhere"), "nowhere/train: nothing is labelled there; make labels with: prune"),
        (("list", "metods"), "nothing is called 'metods': list methods, tasks or presets"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(prunebench, tmp_path, arguments, sentence):
    assert sentence in refused(prunebench(*arguments))
    assert not list(tmp_path.iterdir())


def write_config(folder: Path, **changes: object) -> Path:
    content = yaml.safe_load((PRESETS / "embedded.yaml").read_text())
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def test_an_unknown_key_of_a_file_is_told_its_neighbour(prunebench, tmp_path):
    path = write_config(tmp_path, problms=3)
    assert f"{path}: unknown key 'problms'; did you mean 'problems'?" in refused(
        prunebench("compare", "--config", path)
    )


def test_a_prefix_beyond_the_context_is_refused(prunebench, tmp_path):
    path = write_config(tmp_path, prefix_tokens=1500, max_new_tokens=4000)
    sentence = refused(prunebench("compare", "--config", path, "--out", tmp_path / "out"))
    assert "prefix_tokens = 1500: the context of embedded is 1024 tokens" in sentence
    assert not (tmp_path / "out").exists()


def test_a_store_of_another_seed_or_model_is_refused_and_kept(prunebench, tmp_path, checkpoint):
    store = tmp_path / "store"
    config = write_config(tmp_path, max_new_tokens=48, tasks=["synthetic/power"], problems=1, n=2, k=1)
    assert prunebench("rollouts", "--force", "--config", config, "--out", store)[0] == 0
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    assert "was made with seed = 0, now it is 5" in refused(
        prunebench("rollouts", "--config", config, "--set", "seed=5", "--out", store)
    )
    assert "was made with model = 'embedded', now it is" in refused(
        prunebench("rollouts", "--config", config, "--model", checkpoint, "--out", store)
    )
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


def test_a_truncated_shard_is_named_and_made_again(prunebench, tmp_path):
    store = tmp_path / "store"
    config = write_config(tmp_path, max_new_tokens=48, tasks=["synthetic/power"], problems=1, n=2, k=1)
    assert prunebench("rollouts", "--force", "--config", config, "--out", store)[0] == 0
    shard = store / "shard-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-20])
    sentence = refused(prunebench("label", store, "--out", tmp_path / "labels"))
    assert "shard-00000.parquet does not match its checksum; run the command that made this store again" in sentence
    with pytest.warns(UserWarning, match="shard-00000 is damaged"):
        assert prunebench("rollouts", "--force", "--config", config, "--out", store)[0] == 0
    (stored,) = RolloutStore.open(store).read()
    assert len(stored.paths) == 2


def test_a_killed_run_loses_at_most_one_shard_and_the_same_command_completes_it(prunebench, tmp_path):
    """One with processes of its own is killed; the same command completes it without any."""

    def command(folder: Path) -> list[str]:
        return ["rollouts", *SMALL[:4], "--set", "split=validation", "--problems", "32", "--out", str(folder)]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "prunebench.bench.cli", *command(tmp_path / "killed")]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, env=environment)
    listing = tmp_path / "killed" / "shards.json"
    deadline = time.monotonic() + 120
    while not listing.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    sealed = len(RolloutStore.open(tmp_path / "killed").problems())
    assert 0 < sealed < 32, "killed while it samples"
    assert sealed % 4 == 0, "whole shards"
    for folder in ("killed", "whole"):
        assert prunebench(*command(tmp_path / folder))[0] == 0
    killed, whole = (list(RolloutStore.open(tmp_path / folder).read()) for folder in ("killed", "whole"))
    assert len(whole) == 32
    assert [p.problem for p in killed] == [p.problem for p in whole]
    for ours, theirs in zip(killed, whole, strict=True):
        assert [p.token_ids.tolist() for p in ours.paths] == [p.token_ids.tolist() for p in theirs.paths]
        first, second = ([path.signals["entropy"].tobytes() for path in one.paths] for one in (ours, theirs))
        assert first == second


def test_from_rollouts_to_a_table(prunebench, tmp_path):
    """The commands of a comparison of one's own, one after the other."""
    common = (*SMALL, "--problems", "2")
    missing = refused(prunebench("compare", *common, "--methods", "entropy,slim-sc", "--learned", "none"))
    assert "--learned none: no such folder" in missing
    (tmp_path / "none").mkdir()
    assert prunebench("compare", *common, "--methods", "entropy,slim-sc", "--learned", "none", "--out",
                      "out")[0] == 0  # fmt: skip
    for file in ("results.json", "main_table.csv", "main_table.md", "main_table.tex", "frontier.png", "frontier.svg",
                 "score_quality.png"):  # fmt: skip
        assert (tmp_path / "out" / file).stat().st_size > 200
    code, out, _ = prunebench("label", "out/rollouts", "--continuations", "4", "--out", "labels")
    assert code == 0
    assert "labels of 4 continuations" in out
    code, out, _ = prunebench("compare", *common, "--methods", "potential", "--labels", "labels", "--learned", "none",
                              "--out", "out")  # fmt: skip
    assert code == 0
    assert "potential" in out
    rows = (tmp_path / "out" / "main_table.csv").read_text().splitlines()
    assert sorted(row.split(",")[2] for row in rows[1:]) == ["none", "potential", "random"]


def test_the_plan_of_the_published_comparison(prunebench):
    code, out, _ = prunebench("run", "embedded", "--plan-only", "--set", "speed=10000", "--set", "mean_tokens=240")
    assert code == 0
    assert "400 problems x 64 paths = 25,600 paths of expected 240 tokens each" in out


def test_the_doctor_is_content_here(prunebench):
    code, out, _ = prunebench("check")
    assert code == 0, out


def test_a_rebuilt_comparison_does_not_replace_the_comparison(prunebench, tmp_path):
    code, _, err = prunebench("rebuild", tmp_path, "--out", tmp_path)
    assert code == 2
    assert "this is the comparison itself; choose another folder" in err
