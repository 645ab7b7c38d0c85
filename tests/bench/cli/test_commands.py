"""The command line as a whole: how large it is, how it is grouped, and whether what is written about it is true."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import prunebench.bench.cli  # noqa: F401 - registers every command
from prunebench.bench.cli.app import BRING, CHECK, EXTEND, LOOK, RUN, app, common_first
from prunebench.bench.cli.experiment import PlanSettings
from prunebench.bench.cli.guideline import SweepSettings
from prunebench.bench.cli.perf import MEASUREMENTS
from prunebench.bench.cli.rollouts import CheckpointSettings, LabelSettings
from prunebench.bench.cli.settings import sorted_settings
from prunebench.bench.cli.solve import SolveSettings
from prunebench.bench.cli.study import STUDIES
from prunebench.bench.cli.tasks import Columns
from prunebench.bench.cli.train import TrainSettings
from prunebench.bench.config import RunConfig
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError

ROOT = Path(__file__).parents[3]
MOST_COMMANDS, MOST_PARAMETERS = 20, 120
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
SOURCES = [
    path
    for folder in ("bench", "methods", "tasks", "figures")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".template", ".html") and path.is_file()
]
UsageError = typer.BadParameter.__mro__[1]


def leaves(command, name=""):
    """Every command by its name, those of groups included; a group that can be called is one, too."""
    if not hasattr(command, "commands"):
        return {name: command}
    itself = {name: command} if command.invoke_without_command else {}
    return itself | {
        key: leaf for word, child in command.commands.items() for key, leaf in leaves(child, f"{name} {word}").items()
    }


def parameters(command):
    return [parameter for parameter in command.params if parameter.name != "help"]


COMMANDS = {name.strip(): command for name, command in leaves(get_command(app)).items()}


def test_the_command_line_is_small():
    assert len(COMMANDS) <= MOST_COMMANDS
    assert sum(len(parameters(command)) for command in (get_command(app), *COMMANDS.values())) <= MOST_PARAMETERS


def test_every_parameter_explains_itself():
    assert [
        f"{name} {it.name}" for name, command in COMMANDS.items() for it in parameters(command) if not it.help
    ] == []


def test_the_help_is_grouped(prunebench):
    _, out, _ = prunebench("--help")
    titles = re.findall(r"^╭─ (.*?) ─+╮$", out, flags=re.M)
    assert titles[1:] == [LOOK, RUN, BRING, EXTEND, CHECK]
    groups = dict(zip(titles, re.split(r"^╭─ .* ─+╮$", out, flags=re.M)[1:], strict=True))
    shown = {title: re.findall(r"^│ ([a-z-]+) ", group, flags=re.M) for title, group in groups.items()}
    assert sorted(name for title in titles[1:] for name in shown[title]) == sorted(COMMANDS)
    assert shown[LOOK] == ["figures", "report", "versus", "rebuild", "guideline"]


def test_what_looks_at_a_run_names_it_first():
    first = {name: parameters(COMMANDS[name])[0].name for name in ("figures", "report", "versus", "rebuild")}
    assert first == {"figures": "run", "report": "runs", "versus": "run", "rebuild": "run"}


def lines_of(text):
    """(what is typed behind ``prunebench``, whether it is whole): of fenced blocks, and of spans in a sentence."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
    for block in blocks:
        for line in block.replace("\\\n", "").splitlines():
            if typed := re.match(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*prunebench (.*)$", line):
                yield typed[1], True
    for span in re.findall(
        r"`((?:[A-Z_]+=\S+ )*prunebench [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    ):
        yield span.partition("prunebench ")[2], False


def refusal(line, whole):
    """What the application says of a line, without running it; nothing of a span that leaves something out."""
    words = [word for word in shlex.split(line.partition(" > ")[0], comments=True) if word != "..."]
    words = [word.replace("$prefix", "40") for word in words]
    words = common_first(words)
    while words[0] in ("--plugin", "--device", "--force"):
        words = words[1 if words[0] == "--force" else 2 :]
    if words == ["--help"]:
        return None
    name, *rest = words
    if name not in COMMANDS:
        return f"no command '{name}'"
    try:
        values = COMMANDS[name].make_context(name, rest).params
        if values.get("settings") and values.get("form") in (None, "stop"):  # a format of imports has fields of its own
            sorted_settings([pair.replace("$split", "test") for pair in values["settings"]], *kinds_of(name, values))
    except UsageError as error:
        return None if type(error).__name__ == "MissingParameter" and not whole else error.format_message()
    except UserError as error:
        return str(error)
    return None


def kinds_of(name, values):
    """What ``--set`` of a command may name."""
    return {
        "perf": lambda: [MEASUREMENTS[values["what"]].settings],
        "study": lambda: [STUDIES[values["what"]].settings, ModelOptions],
        "sweep": lambda: [SweepSettings],
        "label": lambda: [LabelSettings],
        "train": lambda: [TrainSettings, ModelOptions],
        "import": lambda: [CheckpointSettings, ModelOptions],
        "new": lambda: [Columns],
        "solve": lambda: [SolveSettings, RunConfig, ModelOptions],
        "run": lambda: [RunConfig, ModelOptions, PlanSettings],
    }.get(name, lambda: [RunConfig, ModelOptions])()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_line_of_the_documents_is_one_of_the_command_line(document):
    lines = list(lines_of(document.read_text()))
    assert {line: reason for line, whole in lines if (reason := refusal(line, whole))} == {}


def test_lines_are_found_and_faults_are_seen():
    text = "a `prunebench versus RUN stop\nother` and\n```\n$ X=1 prunebench compare --n 8 \\\n--k 2  # why\nls\n```\n"
    assert list(lines_of(text)) == [("compare --n 8 --k 2  # why", True), ("versus RUN stop\nother", False)]
    assert refusal("guideline", whole=False) is None
    assert "Missing option" in refusal("guideline", whole=True)
    assert "No such option" in refusal("compare --presett demo", whole=False)
    assert refusal("comparee", whole=True) == "no command 'comparee'"
    assert "valid integer" in refusal("compare --n eight", whole=True)
    assert "unexpected extra argument" in refusal("rebuild a b", whole=True)
    assert "unknown key 'top'" in refusal("compare --set top=0.95", whole=True)
    assert "unknown key 'row'" in refusal("perf check --set row=4", whole=True)


def test_the_makefile_calls_what_there_is():
    text = (ROOT / "Makefile").read_text()
    lines = re.findall(r"^\t(?:\$\(BIN\)/prunebench|\$\(RUN\)) (.*)$", text, flags=re.M)
    assert len(lines) >= 5
    lines = [re.sub(r"\$\(\w+\)", "x", line.replace("$(DTYPE)", "float32")) for line in lines]
    assert {line: reason for line in lines if (reason := refusal(line, whole=True))} == {}


def hints(path):
    """What sentences and templates of the project tell people to type: a command and the options that follow."""
    text = path.read_text()
    if path.suffix == ".py":
        texts = [
            "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            if isinstance(node, ast.JoinedStr)
            else node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        ]
    else:
        texts = [text]
    for sentence in texts:
        yield from re.findall(
            r"prunebench ((?!finds|itself|is\b|report</p>)[a-z][a-z-]*)((?: (?!prunebench)[^\s;,)`]+)*)", sentence
        )


def test_every_hint_names_a_command_and_options_that_there_are():
    wrong = {}
    for path in SOURCES:
        for name, rest in hints(path):
            options = {option for it in parameters(COMMANDS[name]) for option in it.opts} if name in COMMANDS else set()
            options |= {"--plugin"}
            unknown = [word for word in rest.split() if word.startswith("--") and word not in (*options, "--help")]
            if name not in COMMANDS or unknown:
                wrong[f"{path.relative_to(ROOT)}: {name} {' '.join(unknown)}"] = rest
    assert wrong == {}


OF_OTHERS = {"--until", "--served-model-name", "--save-details", "--help", "--no-deps", "--merge"}
"""Options of the program that makes a reasoner, of servers, of other harnesses, of pip, of what splits a GGUF file."""


def test_every_option_that_an_error_names_is_one():
    options = {
        option for command in (get_command(app), *COMMANDS.values()) for it in command.params for option in it.opts
    }
    named = {
        (option, path.relative_to(ROOT).as_posix())
        for path in SOURCES
        if path.suffix == ".py"
        for error in ast.walk(ast.parse(path.read_text()))
        if isinstance(error, ast.Raise)
        for text in ast.walk(error)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.value)
    }
    assert len(named) > 30
    assert {(option, path) for option, path in named if option not in options | OF_OTHERS} == set()


def test_a_plugin_may_be_named_anywhere():
    typed = ["compare", "--plugin", "a.py", "--n", "8", "--plugin=b.py", "--k"]
    assert common_first(typed) == ["--plugin", "a.py", "--plugin=b.py", "compare", "--n", "8", "--k"]
    assert common_first(["compare", "--force", "--n", "8"]) == ["--force", "compare", "--n", "8"]
    assert common_first(["compare", "--plugin"]) == ["--plugin", "compare"], "which is refused, as nothing follows"
