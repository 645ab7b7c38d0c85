"""The house stays readable: imports run one way and in no circle, files and functions are short, packages declared."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from prunebench.tasks.answer_types import registry as answer_types

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "methods", "tasks", "figures")
FLOORS = (
    ("methods", "tasks"),
    ("bench",),  # the files beside the sub-packages
    ("bench.policies",),
    ("bench.engines",),
    ("bench.config",),
    ("bench.rollouts",),
    ("bench.training",),
    ("bench.evaluation", "bench.reasoner"),
    ("bench.guideline", "bench.perf", "bench.plugins", "bench.solving"),
    ("figures",),
    ("bench.cli",),
)
"""From the ground up: a room imports from its own and from lower floors; rooms of one floor do not know each other."""

MOST_LINES, MOST_FUNCTION_LINES = 400, 60


def sources(root: Path) -> dict[str, Path]:
    """Every module by its dotted name below the distribution's, ``bench.engines.base``; a package by its own."""
    found = {}
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the distribution that one imports, wherever the import stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = f"prunebench.{package}".rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            names += [f"{base}.{alias.name}" for alias in node.names]
    ours = [name.removeprefix("prunebench.") for name in names if name.startswith("prunebench.")]
    return {name if name in known else name.rpartition(".")[0] for name in ours} & known.keys()


def named(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that stand in a text, to be imported late; not those that are run as a process of their own."""
    tree = ast.parse(path.read_text())
    run = {
        id(word)
        for node in ast.walk(tree)
        if isinstance(node, ast.List | ast.Tuple)
        for option, word in pairwise(node.elts)
        if isinstance(option, ast.Constant) and option.value == "-m"
    }
    texts = (
        node.value.partition(":")[0].removeprefix("prunebench.")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("prunebench.")
        if id(node) not in run
    )
    return {text if text in known else text.rpartition(".")[0] for text in texts} & known.keys()


def room(module: str) -> str:
    """The longest name of :data:`FLOORS` that holds the module."""
    return max((name for floor in FLOORS for name in floor if f"{module}.".startswith(f"{name}.")), key=len)


def upward(root: Path) -> set[tuple[str, str]]:
    """(module, imported module) of every import of a higher floor or of another room of the same one.

    The front door, ``bench`` itself, names what is looked up behind it when somebody asks for it.
    """
    height = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    known = sources(root)
    return {
        (module, target)
        for module, path in known.items()
        for target in imports(module, path, known) | named(path, known)
        if module != "bench" and room(target) != room(module) and height[room(target)] >= height[room(module)]
    }


def circles(root: Path) -> list[set[str]]:
    """The sets of modules that reach each other through imports."""
    known = sources(root)
    edges = {module: imports(module, path, known) - {module} for module, path in known.items()}
    reach = {module: _reached(module, edges) for module in edges}
    found = {frozenset(m for m in reach[module] if module in reach[m]) for module in edges if module in reach[module]}
    return sorted((set(circle) for circle in found), key=sorted)


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*edges[start]]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += edges[module]
    return seen


def too_long(root: Path) -> set[str]:
    """Modules and functions beyond the bar, by dotted name."""
    found = set()
    for module, path in sources(root).items():
        text = path.read_text()
        if len(text.splitlines()) > MOST_LINES:
            found.add(module)
        for node in ast.walk(ast.parse(text)):
            lines = (getattr(node, "end_lineno", 0) or 0) - getattr(node, "lineno", 0) + 1
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines > MOST_FUNCTION_LINES:
                found.add(f"{module}.{node.name}")
    return found


def packages(root: Path) -> list[str]:
    return sorted(f"prunebench.{module}" for module, path in sources(root).items() if path.name == "__init__.py")


def test_imports_run_one_way():
    assert upward(ROOT) == set()


def test_no_modules_import_each_other():
    assert circles(ROOT) == []


def test_files_and_functions_are_short():
    assert too_long(ROOT) == set()


def test_every_package_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert declared == packages(ROOT)


def rooms_of(root: Path) -> set[str]:
    """The folders of ``bench`` that hold modules, and the three beside it."""
    inside = {f"bench/{path.parent.name}" for path in (root / "bench").glob("*/__init__.py")}
    return inside | {name for name in FOLDERS if name != "bench"}


def test_the_page_and_the_package_name_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    described = re.findall(r"^\| `([\w/]+)` \|", page, flags=re.M)
    assert sorted(described) == sorted(rooms_of(ROOT))
    listed = re.findall(r"^(\w+) {2,}\w", ast.get_docstring(ast.parse((ROOT / "bench/__init__.py").read_text())), re.M)
    assert {f"bench/{name}" for name in listed} == rooms_of(ROOT) - {"methods", "tasks", "figures"}


def test_the_page_shows_the_direction():
    (drawn,) = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), flags=re.S | re.M)
    floors = [tuple(line.replace("/", ".").split()) for line in reversed(drawn.splitlines())]
    beside = sorted(path.stem for path in (ROOT / "bench").glob("*.py"))
    files = [name for name in beside if f"bench.{name}" not in sum(FLOORS, ()) and name != "__init__"]
    assert floors.pop(1) == tuple(f"bench.{', '.join(files)}".split())
    assert floors == [floor for floor in FLOORS if floor != ("bench",)]


def test_the_page_says_how_every_kind_is_added():
    page = (ROOT / "docs" / "architecture.md").read_text()
    kinds = re.findall(r"^\| ([a-z ]+) \|.*\| `@(\w+)` \| `([^`]+)`.*\| `([\w.]+)` \|$", page, flags=re.M)
    registries = [
        [ast.literal_eval(argument) if isinstance(argument, ast.Constant) else None for argument in node.args]
        for path in sources(ROOT).values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Registry"
    ]
    groups = {kind: group for kind, _, _, group in registries}
    assert {kind: group for kind, _, _, group in kinds} == {
        **{kind.replace("method", "pruner"): group for kind, group in groups.items()},
        "answer type": answer_types.GROUP,
    }
    for _, decorator, place, _ in kinds:
        there = ROOT / place.replace("<quadrant>", "surface")
        files = [there] if there.is_file() else sorted(there.glob("*.py"))
        assert any(f"@{decorator}" in path.read_text() for path in files), place


@pytest.fixture
def house(tmp_path):
    """A small house without a fault; ``write`` changes a file of it."""

    def write(name: str, text: str = "") -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("bench/__init__.py")
    write("bench/errors.py")
    write("bench/policies/__init__.py", "from prunebench.bench.policies.topk import TopK\n")
    write("bench/policies/topk.py", "from prunebench.bench import errors\n\nTopK = errors\n")
    write("bench/cli/__init__.py", "from prunebench.bench.policies import TopK\nfrom prunebench import figures\n")
    write("figures/__init__.py", "import os\n")
    write("methods/base.py")
    write("tasks/task.py")
    return tmp_path, write


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("from prunebench.bench.policies.topk import TopK", "bench.policies.topk"),
        ("from prunebench.bench.policies import topk", "bench.policies.topk"),
        ("from prunebench.bench.policies import TopK", "bench.policies"),
        ("import prunebench.bench.policies.topk as best", "bench.policies.topk"),
        ("from .policies import topk", "bench.policies.topk"),
        ("from . import cli", "bench.cli"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from prunebench.figures import forest", "figures"),
        ("def late():\n    import prunebench.bench.policies", "bench.policies"),
        ("def late():\n    return import_module('prunebench.bench.policies')", "bench.policies"),
        ("LAZY = 'prunebench.bench.policies.topk:TopK'", "bench.policies.topk"),
    ],
)
def test_an_upward_import_is_seen_however_it_is_written(house, text, target):
    root, write = house
    assert upward(root) == set()
    write("bench/errors.py", text + "\n")
    assert upward(root) == {("bench.errors", target)}


@pytest.mark.parametrize(
    ("module", "target"),
    [("methods/base.py", "tasks.task"), ("tasks/task.py", "methods.base"), ("methods/base.py", "bench.errors")],
)
def test_methods_and_tasks_know_neither_bench_nor_each_other(house, module, target):
    root, write = house
    write(module, f"import prunebench.{target}\n")
    assert upward(root) == {(module.removesuffix(".py").replace("/", "."), target)}


def test_a_module_that_is_run_as_a_process_is_no_import(house):
    root, write = house
    write("bench/errors.py", "RUN = [executable, '-m', 'prunebench.bench.cli']\n")
    assert upward(root) == set()


def test_a_circle_is_seen_and_so_is_one_through_a_package(house):
    root, write = house
    assert circles(root) == []
    write("methods/pool.py", "import prunebench.methods.base\n")
    write("methods/base.py", "def late():\n    from prunebench.methods import pool\n")
    write("bench/policies/topk.py", "from prunebench.bench import policies\n")
    assert circles(root) == [{"bench.policies", "bench.policies.topk"}, {"methods.base", "methods.pool"}]


def test_length_is_counted_in_lines(house):
    root, write = house
    body = "\n".join(f"    x = {i}" for i in range(59))
    write("tasks/task.py", f"def short():\n{body}\n" + "\n" * 340)
    assert too_long(root) == set()
    write("tasks/task.py", f"def long():\n{body}\n    return x\n" + "\n" * 340)
    assert too_long(root) == {"tasks.task", "tasks.task.long"}


def test_a_folder_with_modules_and_without_an_init_is_no_package(house):
    root, _ = house
    assert packages(root) == [
        "prunebench.bench",
        "prunebench.bench.cli",
        "prunebench.bench.policies",
        "prunebench.figures",
    ]
