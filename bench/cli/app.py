"""The command line's one application, its shared options, and what its commands share.

Everything heavy is imported inside the commands, so that help and lists answer at once.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines import base
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.registry import EngineKind
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.label_plans import LabelPlan

app = typer.Typer(
    help="Compare path pruning methods for parallel reasoning: same rollouts, same grader, honest intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LOOK, RUN, BRING, EXTEND, CHECK = "Look at results", "Run", "Bring your own", "Extend", "Check"
"""The groups of the help page, in its order."""

EMBEDDED = REASONERS["embedded"]

Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Preset to start from (default: the model's own; see: prunebench list presets)."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file like the presets, instead of one.")]
Task = Annotated[list[str] | None, typer.Option("--task", help="Task name; may be given several times.")]
Model = Annotated[str | None, typer.Option(help="A shipped reasoner, a local checkpoint folder, or a hub id.")]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model-option",
        help="KEY=VALUE: revision, dtype, device_map, trust_remote_code, chat_template, system, reasoning_effort, stop "
        "(several times), tools (python).",
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option("--model-option", help="trust_remote_code=true, where the store's model brings code of its own."),
]
Problems = Annotated[int | None, typer.Option(help="Problems per task.")]
Paths = Annotated[int | None, typer.Option("--n", help="Paths per problem.")]
Kept = Annotated[int | None, typer.Option("--k", help="Paths kept by the pruner.")]
Prefix = Annotated[int | None, typer.Option("--prefix", help="Checkpoint: tokens of a path when it is scored.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.")]
Seed = Annotated[int | None, typer.Option(help="Seed of problems and sampling noise.")]
Split = Annotated[str | None, typer.Option(help="train, validation or test.")]
Methods = Annotated[
    str | None, typer.Option(help="Names joined by commas, ensembles as mean-rank(stop,entropy); or all.")
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that adds methods, votes, answer types, figures, ...; several times."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="TASK=FILE_OR_FOLDER in place of a task's data, or one for all; may be given several times."
    ),
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="METHOD=FOLDER_OR_ID, or METHOD=vllm:FOLDER_OR_ID: the model of a method that uses one; may be given "
        "several times.",
    ),
]
Learned = Annotated[Path, typer.Option(help="Folder of learned files and tuned configurations.")]
Record = Annotated[
    list[str] | None, typer.Option(help="Signal to record; may be given several times. None given: every signal.")
]
Recipe = Annotated[str, typer.Option(help="Plan of the labels: small, cpu, gpu or paper.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What samples: transformers, vllm or openai:URL; with options as in vllm,kv_memory=4 or "
        "transformers,workers=4 (see docs/engines.md).",
    ),
]


_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def main() -> None:
    """Entry point."""
    reported(app)


def reported(run: Callable[[], object]) -> None:
    """Run; a UserError becomes one sentence and exit code 2, and so does a disk that takes nothing."""
    try:
        run()
    except UserError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        place = f" {error.filename}" if error.filename else ""
        said = f"cannot write{place} ({error.strerror}): make room or choose another folder; what is finished is kept"
        typer.echo(f"prunebench: {UserError(said)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("prunebench: stopped; the same command goes on from here", err=True)
        sys.exit(130)


def config_from(preset_name: str | None, config_file: Path | None, **overrides: Any) -> RunConfig:
    """The settings of a file or preset, but for the options that were given.

    Without either it is a shipped reasoner's own preset, or the standard setting for any other model. Tasks that are
    named on the command line and have an end are taken whole, unless a number of problems is given.
    """
    from prunebench.bench.config import STANDARD, load_config, preset
    from prunebench.tasks import catalogue

    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    if "tasks" in given and "problems" not in given:
        named = known(lambda: catalogue.expand(given["tasks"]))
        given |= {} if any(task.endless for task in named) else {"problems": None}
    if config_file is not None:
        return load_config(config_file, **given)
    if preset_name is not None:
        return (load_config if preset_name.endswith(".yaml") else preset)(preset_name, **given)
    model = given.get("model", EMBEDDED.name)
    return preset(REASONERS[model].preset, **given) if model in REASONERS else load_config(STANDARD, **given)


def check_methods(config: RunConfig) -> None:
    from prunebench.bench.policies.procedures import PROCEDURES
    from prunebench.bench.training.loading import parts_of
    from prunebench.methods.registry import PRUNERS, UnknownNameError

    names = [*PRUNERS.names(), *PROCEDURES]
    for name in config.methods:
        for part in () if name in PROCEDURES else parts_of(name):
            if part not in names:
                raise UserError(f"{UnknownNameError('method', part, names)} (a file of your own: --plugin FILE)")
            known(lambda part=part: PRUNERS.get(part))  # type: ignore[misc]


def processes_on(device: str) -> int:
    """How many processes sample: on a CPU one per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1)) if device == "cpu" else 1


def names_of(text: str | None) -> list[str] | None:
    """``a,b(c,d)`` -> a and b(c,d); ``all`` is every method."""
    if text is None:
        return None
    return [] if text == "all" else [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def tokens_of(text: str) -> float:
    """``300k`` is 300 * 1,024 tokens."""
    text = text.strip()
    number = text[:-1] if text.endswith("k") else text
    try:
        return float(number) * (1024 if text.endswith("k") else 1)
    except ValueError as error:
        raise UserError(f"{text}: write a number of tokens, such as 16384 or 16k") from error


def data_of(values: list[str] | None) -> dict[str, str] | None:
    """Task -> file or folder; without a task's name it serves all."""
    return {name or "*": place for name, _, place in (value.rpartition("=") for value in values)} if values else None


def model_options_of(values: list[str] | None) -> ModelOptions | None:
    """Keys and values of --model-option; stop may be given several times."""
    from pydantic import ValidationError

    from prunebench.bench.engines.options import ModelOptions

    if not values:
        return None
    given: dict[str, Any] = pairs_of("--model-option", values, "KEY=VALUE")
    stops = [value.removeprefix("stop=") for value in values if value.startswith("stop=")]
    try:
        return ModelOptions(**{**given, **({"stop": tuple(stops)} if stops else {})})
    except ValidationError as error:
        first = error.errors()[0]
        key, known = ".".join(map(str, first["loc"])), ", ".join(ModelOptions.model_fields)
        raise UserError(f"--model-option {key}={first['input']}: {first['msg'].lower()}; known are {known}") from error


def judged(pairs: list[str] | None) -> dict[str, str]:
    """Method -> folder or hub id."""
    return pairs_of("--judge", pairs, "METHOD=FOLDER_OR_ID, as in --judge prm=Qwen/Qwen2.5-Math-PRM-7B")


def pairs_of(option: str, pairs: list[str] | None, form: str) -> dict[str, str]:
    """What stands before and behind the first equals sign."""
    for pair in pairs or []:
        if "=" not in pair:
            raise UserError(f"{option} {pair}: write {form}")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs or [])}


def load_plugins(paths: list[Path] | None) -> None:
    from prunebench.bench.plugins import load_plugin

    for path in paths or []:
        load_plugin(path)


def label_plan(recipe: str) -> LabelPlan:
    from prunebench.bench.training.label_plans import RECIPES

    if recipe not in RECIPES:
        raise UserError(f"unknown recipe '{recipe}': known are {', '.join(RECIPES)}")
    return RECIPES[recipe]


def known(look: Callable[[], Any]) -> Any:
    """Look a name up; an unknown one is the user's error."""
    try:
        return look()
    except ValueError as error:
        raise UserError(str(error)) from error


def engine_of_store(
    store: RolloutStore, device: str, given: list[str] | None = None, kind: EngineKind | None = None
) -> base.Engine:
    """The model that sampled the rollouts of a store, loaded as it was then; ``given`` are the --model-options."""
    from pydantic import ValidationError

    from prunebench.bench.engines.load import DEFAULT_ENGINE, load_engine
    from prunebench.bench.engines.options import ModelOptions

    folder = store.shards.folder
    try:
        options = ModelOptions(**store.manifest.get("model_options", {}))
    except (ValidationError, TypeError) as error:
        raise UserError(f"{folder}: its model_options are not those of this version; use another store") from error
    require_trust(folder, options, given)
    return load_engine(str(store.manifest["model"]), device, options, kind or DEFAULT_ENGINE)


def require_trust(store: Path, options: ModelOptions, given: list[str] | None = None) -> None:
    """A file does not decide that the code of a model runs. Raises UserError unless the command line says so."""
    allowed = model_options_of(given)
    if options.trust_remote_code and not (allowed and allowed.trust_remote_code):
        raise UserError(
            f"{store}: its model brings code of its own; if you trust it, say so: --model-option trust_remote_code=true"
        )


def require_weights() -> None:
    if not (EMBEDDED.weights / "model.safetensors").exists():
        raise UserError("the shipped reasoner is missing (bench/reasoner/weights); rebuild it with: make reasoner")


def shipped_labels(model: str, sampling_digest: str | None = None, options: ModelOptions | None = None) -> list[Path]:
    """The label stores that a shipped reasoner has, for these settings; none for any other model or other options."""
    from prunebench.bench.rollouts.label_store import KIND
    from prunebench.bench.rollouts.shards import Shards

    as_it_is = model in REASONERS and not (options and options.given)
    folder = REASONERS[model].labels if as_it_is else None
    stores = sorted(path for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else []
    if sampling_digest is None:
        return stores
    return [path for path in stores if Shards.open(path, KIND).manifest["sampling_digest"] == sampling_digest]


def learned_for(model: str, named: Path | None) -> Path:
    """The folder of learned files: the named one, else a shipped reasoner's own, else where training puts them."""
    return named or (REASONERS[model].learned if model in REASONERS else Path("runs/learned"))


def command_line() -> str:
    """What was typed, for the record."""
    return " ".join(["prunebench", *sys.argv[1:]])


class Bars:
    """Bars on stderr and sentences on stdout: a :class:`prunebench.bench.progress.Progress`."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars

    def stretch(self, name: str, total: int | None = None, /) -> Callable[[int], None]:
        bar = self._bars.add_task(name, total=total)
        return lambda count: self._bars.advance(bar, count)

    def say(self, sentence: str, /) -> None:
        typer.echo(sentence)


@contextmanager
def watching() -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)
