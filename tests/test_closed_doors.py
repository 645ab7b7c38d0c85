"""What a file cannot do: run code, name a path outside of its folder, or start what nobody named."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from prunebench.bench.config import configured
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.reproduce import code_in, read_results
from prunebench.bench.rollouts.importers import Options, import_rollouts
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.shards import LISTING
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem
from prunebench.bench.training.loading import load_method
from prunebench.tasks.answer_types import answer_type_of
from prunebench.tasks.dataset_task import DatasetTask
from prunebench.tasks.task_spec import checked
from tests.bench.conftest import prunebench, refused  # noqa: F401
from tests.bench.evaluation.test_reproduce import results, row

ROOT = Path(__file__).parents[1]
SOURCES = [
    file for package in ("bench", "methods", "tasks", "figures") for file in sorted((ROOT / package).rglob("*.py"))
]

IMPORTS = {
    ("bench/rollouts/importers/unpickling.py", "pickle"): "a reader of plain opcodes, which runs nothing",
    ("bench/training/import_stop.py", "pickle"): "the name of the error of weights_only",
}
CALLS = {
    ("bench/__init__.py", "import_module"): "our own modules",
    ("bench/plugins.py", "exec_module"): "a plugin that was named on the command line",
    ("tasks/python_files.py", "exec_module"): "a task file or grader that was named",
    ("tasks/reasoning_gym_process.py", "compile"): "arithmetic of constants, in the process that scores",
    ("tasks/answer_types/function.py", "import_module"): "a grader that was named",
    ("tasks/answer_types/registry.py", "import_module"): "our own modules",
    ("methods/entries.py", "import_module"): "our own packages, and what added an entry, in a process that was started",
    ("methods/entries.py", "exec_module"): "the plugin that added an entry, in a process that the first one started",
    ("methods/surface/slim_sc.py", "import_module"): "a package by a constant name",
}
"""Doors that are there, and why; whatever else is found is a new one."""
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {"exec_module", "import_module", "os.system", "os.popen"}
UNSAFE_LOADS = {
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "pickle.load",
    "pickle.loads",
    "pd.read_pickle",
}


def told(node: ast.expr) -> str:
    return ast.unparse(node)


def doors(file: Path) -> set[tuple[str, str]]:
    """What in a file could run code that data bring."""
    found, name = set(), file.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found |= {(name, module) for module in modules if module.partition(".")[0] in UNSAFE_MODULES}
        if not isinstance(node, ast.Call):
            continue
        called, options = told(node.func), {option.arg: told(option.value) for option in node.keywords}
        last = called.rpartition(".")[2]
        if called in BUILT_IN:
            found.add((name, called))
        if {last, called} & {*UNSAFE_CALLS, *UNSAFE_LOADS}:
            found.add((name, last if last in UNSAFE_CALLS else called))
        if called == "torch.load" and options.get("weights_only") != "True":
            found.add((name, "torch.load without weights_only"))
        if last == "load" and called.startswith(("np.", "numpy.")) and options.get("allow_pickle", "False") != "False":
            found.add((name, "np.load with allow_pickle"))
        if options.get("shell") == "True" or options.get("trust_remote_code") == "True":
            found.add((name, f"{called} with {'shell' if 'shell' in options else 'trust_remote_code'}"))
    return found


def test_the_source_has_no_door_that_is_not_listed():
    found = {door for file in SOURCES for door in doors(file)}
    assert found == {*IMPORTS, *CALLS}


def test_a_new_door_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "new.py"
    file.write_text(
        "import joblib, pickle\nfrom dill import load\neval('1')\nexec('1')\nyaml.load(x)\ntorch.load(p)\n"
        "torch.load(p, weights_only=False)\nnp.load(p, allow_pickle=True)\nos.system('ls')\nrun(x, shell=True)\n"
        "AutoModel.from_pretrained(x, trust_remote_code=True)\nmodel.eval()\nre.compile('a')\nyaml.safe_load(x)\n"
        "torch.load(p, weights_only=True)\n"
    )  # fmt: skip
    assert {door for _, door in doors(file)} == {
        "joblib", "pickle", "dill", "eval", "exec", "yaml.load", "torch.load without weights_only",
        "np.load with allow_pickle", "os.system", "run with shell", "AutoModel.from_pretrained with trust_remote_code",
    }  # fmt: skip


# --- names are no paths

OUTSIDE = ["../../escaped", "/tmp/escaped", "a/../../escaped", "..", "a\\..\\b", "x\ny"]


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_import_writes_into_its_folder_whatever_its_names_are(tmp_path, name):
    source = tmp_path / "source.jsonl"
    source.write_text(json.dumps({"problem": name, "answer": "5", "text": "so 5"}) + "\n")
    import_rollouts("plain", source, tmp_path / "a" / "out", Options(task=name))
    assert {path for path in everything_under(tmp_path) if not path.startswith("a/out/")} == {
        "source.jsonl",
        "a",
        "a/out",
    }
    (problem,) = RolloutStore.open(tmp_path / "a" / "out").read()
    assert problem.problem in (name, f"problem-{hashlib.sha256(name.encode()).hexdigest()[:12]}")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_listing_names_files_of_its_own_folder_only(tmp_path, name):
    store = a_store(tmp_path / "store")
    listing = json.loads((store.shards.folder / LISTING).read_text())
    for bad in ({name: listing["shard-00000"]}, {"shard-00000": {**listing["shard-00000"], f"{name}.parquet": "0"}}):
        (store.shards.folder / LISTING).write_text(json.dumps(bad))
        with pytest.raises(UserError, match=r"shards\.json: .* is no .*; restore it, or delete it"):
            RolloutStore.open(store.shards.folder)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_kept_task_stays_in_the_store(tmp_path, name):
    store = a_store(tmp_path / "a" / "store")
    task = DatasetTask(checked("here", {"name": "mine", "data": "rows.jsonl"}), tmp_path)
    task.name = name
    store.keep_tasks([task])
    kept = [path for path in everything_under(tmp_path) if path.endswith(".json") and "tasks/" in path]
    assert len(kept) == 1 and kept[0].startswith("a/store/tasks/") and kept[0].count("/") == 3


@pytest.mark.parametrize("name", ["../learned/linear-probe", "/etc/passwd", "mean-rank(../../x,entropy)", "stop(../x)"])
def test_a_method_is_a_name_and_no_path(tmp_path, name):
    with pytest.raises(UserError):
        load_method(name, tmp_path, "m", 40)


@pytest.mark.parametrize("name", ["../mine", "a/b", ".hidden", "", "a b", "<script>"])
def test_the_name_of_a_task_is_no_path(name):
    with pytest.raises(UserError, match="name = "):
        checked("here", {"name": name, "data": "rows.jsonl"})


def test_what_is_shipped_lies_in_the_package():
    for name in ("shipped:../../etc/passwd", "shipped:/etc/passwd"):
        with pytest.raises(UserError, match="what is shipped lies in"):
            Inputs.of({"learned": name, "labels": [], "judges": {}, "plugins": [], "store": None})


# --- code runs only when it is named


def a_store(folder: Path, task: str = "mine", **manifest: object) -> RolloutStore:
    store = RolloutStore.create_or_open(folder, {"model": "m", "model_hash": "h", "sampling_digest": "s", **manifest})
    path = StoredPath(0, np.arange(9), "so 5", "stop", "5", True, "exact")
    with store.shards:
        store.append([StoredProblem(task, "p", "2 + 3?", np.arange(2), "5", [path])])
    return store


BAD = "from pathlib import Path\nPath(__file__).with_name('it-ran').touch()\n"


@pytest.mark.parametrize("where", ["inside", "relative", "named by the rows"])
def test_a_store_runs_no_code_that_it_brings(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    store = a_store(tmp_path / "store", "store/bad.py" if where == "named by the rows" else "mine")
    (tmp_path / "store" / "bad.py").write_text(BAD)
    place = tmp_path / "store" / "bad.py" if where == "inside" else "store/bad.py"
    (tmp_path / "store" / "tasks").mkdir()
    (tmp_path / "store" / "tasks" / "mine.json").write_text(json.dumps({"python": str(place)}))
    with pytest.raises(UserError, match="a store runs no"):
        task_of(store, "store/bad.py" if where == "named by the rows" else "mine")
    assert not (tmp_path / "store" / "it-ran").exists()


@pytest.mark.parametrize("command", ["label", "compare"])
def test_a_store_does_not_decide_that_a_models_code_runs(prunebench, tmp_path, command):  # noqa: F811
    a_store(tmp_path / "store", model_options={"trust_remote_code": True})
    arguments = ("label", tmp_path / "store") if command == "label" else ("compare", "--store", tmp_path / "store")
    assert "say so: --set trust_remote_code=true" in refused(prunebench(*arguments))
    message = refused(prunebench(*arguments, "--set", "trust_remote_code=true"))
    assert "trust_remote_code" not in message, "the model itself is not there"


@pytest.mark.parametrize("grader", ["os:execlp", "subprocess:call", "builtins:exec", "importlib.util:find_spec"])
def test_a_grader_is_no_function_of_pythons_own(grader):
    with pytest.raises(UserError, match="is Python's own and holds no grader"):
        answer_type_of(grader)


def test_results_start_no_code_that_the_command_line_does_not_name(prunebench, tmp_path):  # noqa: F811
    plugin, task = tmp_path / "bad.py", tmp_path / "task.py"
    plugin.write_text(BAD)
    task.write_text(BAD)
    config = {"tasks": [str(task)], "model": "hub/model", "n": 8, "k": 2, "prefix_tokens": 4, "temperature": 1.0,
              "max_new_tokens": 9, "model_options": {"trust_remote_code": True}}  # fmt: skip
    setup = {"config": config, "learned": "none", "labels": [], "judges": {}, "plugins": [str(plugin)], "store": None}
    file = tmp_path / "results.json"
    results(row(), setup=setup).write(file)
    wanted = [f"--trust {plugin}", f"--trust {task}", "--trust trust_remote_code"]
    setup = read_results(file).setup
    assert code_in(configured(str(file), setup["config"], {}), Inputs.of(setup)) == wanted
    for given in ([], ["--trust", plugin], ["--trust", plugin, "--trust", task]):
        for command in (
            ["rebuild", "--sampling", tmp_path],
            ["rebuild", tmp_path],
            ["versus", tmp_path, "stop", "none"],
        ):
            sentence = refused(prunebench(*command, *given))
            assert "it runs code of its own; look at it" in sentence
            asked = "--sampling" in command and not given
            assert (f"--trust {plugin}" in sentence) == asked, "what runs no method asks for no plugin"
    assert not (tmp_path / "it-ran").exists()
    everything = ["--trust", plugin, "--trust", task, "--trust", "trust_remote_code"]
    assert f"{plugin}:1: registers no pruner" in refused(prunebench("rebuild", "--sampling", tmp_path, *everything))
    assert (tmp_path / "it-ran").exists(), "named, it runs"


def test_code_that_a_run_does_not_name_is_not_asked_for(prunebench, tmp_path):  # noqa: F811
    config = {"tasks": ["synthetic/power"], "model": "embedded", "n": 8, "k": 2, "prefix_tokens": 4,
              "temperature": 1.0, "max_new_tokens": 9}  # fmt: skip
    setup = {"config": config, "learned": "none", "labels": [], "judges": {}, "plugins": [], "store": None}
    results(row(), setup=setup).write(tmp_path / "results.json")
    for command in (["rebuild", "--sampling", tmp_path], ["rebuild", tmp_path], ["versus", tmp_path, "stop", "none"]):
        sentence = refused(prunebench(*command, "--trust", "other.py"))
        assert f"--trust other.py: {tmp_path}/results.json names no such code; it names none" in sentence
