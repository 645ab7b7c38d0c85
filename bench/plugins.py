"""The plugin kit: a new pruner is one Python file that is written from a template, checked, and loaded by its path."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import keyword
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from string import Template
from types import ModuleType

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.training.loading import PLUGIN
from prunebench.methods import entries
from prunebench.methods.base import Pruner, Quadrant, Setting, Signal
from prunebench.methods.check import PrunerCheckError, check_pruner, checked
from prunebench.methods.declarations import NAME
from prunebench.methods.entries import Registry
from prunebench.methods.examples import EXAMPLE_SETTING
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.answer_types import registry as answer_types

TEMPLATES = Path(__file__).parent / "templates"
QUADRANTS = (Quadrant.I, Quadrant.II, Quadrant.III, Quadrant.IV)


# --- load -----------------------------------------------------------------------------------------------------------


def load_plugin(path: Path) -> list[type[Pruner]]:
    """Import one file; the pruners that it registers, in the order of the file. It may register anything else instead.

    Raises UserError (with file and line) for a file that is missing, cannot be imported, takes a name that exists, or
    registers nothing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; write one with: prunebench new pruner NAME")
    if path.suffix != ".py":
        raise UserError(f"{path}: a plugin is a Python file; its name must end in .py")
    reserved = _reserved()
    module = _import(path)
    classes = [
        entry
        for entry in vars(module).values()
        if isinstance(entry, type) and issubclass(entry, Pruner) and entry.__module__ == module.__name__
    ]
    entries = [entry for entry in classes if _registered(entry)]
    for entry in entries:
        if entry.name in reserved:
            raise UserError(
                f"{path}:{_line(entry)}: the name '{entry.name}' is taken by {reserved[entry.name]}; "
                "choose another name"
            )
    if not entries and classes:
        raise UserError(
            f"{path}:{_line(classes[0])}: {classes[0].__name__} is not registered; put @pruner above @dataclass "
            "(from prunebench.methods.registry import pruner)"
        )
    made = [known.made_in(module.__name__) for known in Registry.all_registries]
    if not any(made) and not answer_types.made_in(module.__name__):
        raise UserError(f"{path}:1: registers no pruner; write one that does with: prunebench new pruner NAME")
    return entries


def _reserved() -> dict[str, str]:
    """Names that no registered class has, but that are taken all the same: by whom."""
    from prunebench.bench.policies.procedures import PROCEDURES

    installed = {
        point.name: f"the package {point.dist.name}" if point.dist else "a package"
        for point in entry_points(group="prunebench.pruners")
    }
    return installed | dict.fromkeys(PROCEDURES, "a built-in procedure")


def _import(path: Path) -> ModuleType:
    """The file as a module of a name of its own. Whatever it raises becomes one sentence with the line in the file."""
    resolved = path.resolve()
    name = f"{PLUGIN}{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno or 1}: not valid Python ({error.msg})") from error
    except (Exception, SystemExit) as error:  # a foreign file may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(resolved)]
        where = f"{path}:{lines[-1] if lines else 1}"
        if isinstance(error, ValueError) and frames[-1].filename in (entries.__file__, answer_types.__file__):
            raise UserError(f"{where}: {error}; choose another name") from error
        raise UserError(f"{where}: cannot be imported ({type(error).__name__}: {error})") from error
    return module


def _registered(entry: type[Pruner]) -> bool:
    name = getattr(entry, "name", None)
    return isinstance(name, str) and name in PRUNERS.names() and PRUNERS.get(name) is entry


def _line(entry: type[Pruner]) -> int:
    return inspect.getsourcelines(entry)[1]


# --- write ----------------------------------------------------------------------------------------------------------


def write_pruner(name: str, quadrant: str, folder: Path) -> Path:
    """Write a pruner of one quadrant that runs as it is; returns its file, ``name`` with underscores.

    Raises UserError for a name that is malformed or taken, for another quadrant, and for a file that exists.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name for a pruner: use lower-case words joined by hyphens, as in last-words")
    reserved = dict.fromkeys(PRUNERS.names(), "a registered method") | _reserved()
    if name in reserved:
        raise UserError(f"the name '{name}' is taken by {reserved[name]}; choose another name")
    known = [quadrant.value for quadrant in QUADRANTS]
    if quadrant not in known:
        raise UserError(f"no pruner can be written for quadrant '{quadrant}': choose {', '.join(known)}")
    path = folder / f"{re.sub('[-.]', '_', name)}.py"
    if path.exists():
        raise UserError(f"{path} exists and is left as it is; choose another name or folder")
    template = (TEMPLATES / f"{quadrant}.py.template").read_text(encoding="utf-8")
    text = Template(template).substitute(name=name, class_name=_class_name(name, template))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _class_name(name: str, template: str) -> str:
    """``last-words`` -> LastWords; with ``My`` before what Python or the template already uses otherwise."""
    joined = "".join(word.capitalize() for word in re.split("[-.]", name))
    usable = joined.isidentifier() and not keyword.iskeyword(joined)
    return joined if usable and not re.search(rf"\b{joined}\b", template) else f"My{joined}"


# --- check ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckReport:
    """What the conformance suite says about one configuration of a pruner.

    ``checked``: what was looked at; ``failures``: one sentence per fault; ``skipped``: why the scores were not checked,
    None if they were.
    """

    name: str
    configuration: str
    checked: tuple[str, ...]
    failures: tuple[str, ...] = ()
    skipped: str | None = None

    @property
    def passed(self) -> bool:
        """All of it was checked, and nothing is wrong."""
        return not self.failures and self.skipped is None

    def __str__(self) -> str:
        head = f"{'ok  ' if self.passed else 'FAIL'}  {self.name} ({self.configuration})"
        if self.failures:
            return "\n".join([f"{head}:", *(f"  - {failure}" for failure in self.failures)])
        return f"{head}: {self.skipped or f'{len(self.checked)} rules hold'}"


def check_plugin(path: Path) -> list[CheckReport]:
    """Run :func:`methods.check.check_pruner` on every configuration of every pruner of a file, the defaults first.

    What reads the KV cache or probes is checked on the embedded reasoner. Raises UserError like :func:`load_plugin`.
    """
    registered = load_plugin(path)
    engine = None
    setting = EXAMPLE_SETTING
    if any(entry.requires & {Signal.KV_CACHE, Signal.PROBE, Signal.FORCED_ANSWERS} for entry in registered):
        from prunebench.bench.engines.load import load_local
        from prunebench.bench.training.tuning import setting_of

        engine = load_local("embedded")
        setting = setting_of(engine, EXAMPLE_SETTING.prefix_tokens)
    return [report for entry in registered for report in _reports(entry, setting, engine)]


def _reports(entry: type[Pruner], setting: Setting, engine: Engine | None) -> list[CheckReport]:
    """Of the defaults, and of the configurations that differ from them."""
    try:
        defaults = entry()
    except Exception as error:  # a foreign constructor may raise anything
        return [CheckReport(entry.name, "defaults", (), (f"Every hyper-parameter needs a default: {error}.",))]
    try:
        proposed: Sequence[Pruner] = list(entry.configurations(setting))
    except Exception:
        proposed = ()  # the suite says so of the defaults
    others = [pruner for pruner in proposed if pruner.hyperparameters() != defaults.hyperparameters()]
    return [_report(pruner, engine) for pruner in (defaults, *others)]


def _report(pruner: Pruner, engine: Engine | None) -> CheckReport:
    from prunebench.bench.training.cards import describe
    from prunebench.bench.training.loading import Judges

    name, configuration = type(pruner).name, describe(pruner)
    try:
        Judges({}).bind(pruner)
        skipped = check_pruner(pruner, engine)
    except UserError as error:
        return CheckReport(name, configuration, (), skipped=f"the scores were not checked: {error}")
    except PrunerCheckError as error:
        return CheckReport(name, configuration, checked(pruner), error.failures)
    return CheckReport(name, configuration, checked(pruner), skipped=skipped)
