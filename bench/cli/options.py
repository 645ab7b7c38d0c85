"""The options that commands share, and what their texts say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.settings import pairs_of, set_option
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.rollouts.first_look import FirstLook

Config = Annotated[
    str | None,
    typer.Option(help="A preset (see: prunebench list presets) or a YAML file like one (default: the model's own)."),
]
Task = Annotated[list[str] | None, typer.Option("--task", help="Task name or file; may be given several times.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="TASK=FILE_OR_FOLDER in place of a task's data, or one for all; may be given several times."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A shipped reasoner, a checkpoint or LoRA folder, a GGUF file, package:NAME/PATH, or a hub id (default: "
        "the preset's, else embedded)."
    ),
]
Problems = Annotated[int | None, typer.Option(help="Problems per task.")]
Paths = Annotated[int | None, typer.Option("--n", help="Paths per problem.")]
Prefix = Annotated[int | None, typer.Option("--prefix", help="Checkpoint: tokens of a path when it is scored.")]
Methods = Annotated[
    str | None, typer.Option(help="Names joined by commas, ensembles as mean-rank(stop,entropy); or all.")
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="METHOD=FOLDER_OR_ID, or METHOD=vllm:FOLDER_OR_ID: the model of a method that uses one; may be given "
        "several times.",
    ),
]
Learned = Annotated[
    Path | None,
    typer.Option(
        help="Learned files and tuned configurations; what it lacks comes from the shipped ones (default: these alone; "
        "of a model without any runs/learned)."
    ),
]
Store = Annotated[Path, typer.Argument(help="A rollout store (see: prunebench rollouts).")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What samples: transformers, vllm or openai:URL; with options as in vllm,kv_memory=4 or "
        "transformers,workers=4 (see docs/engines.md).",
    ),
]
RUN_KEYS = (
    "any key of a preset (temperature, top_p, top_k, min_p, max_new_tokens, seed, split, record, ...) or of a model "
    "(revision, base, dtype, device_map, trust_remote_code, chat_template, system, reasoning_effort, enable_thinking, "
    "stop, tools)"
)
"""The fields of RunConfig and of ModelOptions."""
RunSettings = Annotated[list[str] | None, set_option(RUN_KEYS)]


def data_of(values: list[str] | None) -> dict[str, str] | None:
    """Task -> file or folder; without a task's name it serves all."""
    return {name or "*": place for name, _, place in (value.rpartition("=") for value in values)} if values else None


def judged(pairs: list[str] | None) -> dict[str, str]:
    """Method -> folder or hub id. Raises UserError for a name that no method has which uses a judge."""
    judges = pairs_of("--judge", pairs, "METHOD=FOLDER_OR_ID, as in --judge prm=Qwen/Qwen2.5-Math-PRM-7B")
    if judges:
        from prunebench.bench.config import nearest
        from prunebench.methods.base import UsesJudge
        from prunebench.methods.registry import PRUNERS

        using = [name for name, entry in PRUNERS.items() if issubclass(entry, UsesJudge)]
        for name in judges:
            if name not in using:
                raise UserError(f"--judge {name}=...: no method of this name uses a judge; {nearest(name, using)}")
    return judges


def device_given(context: typer.Context) -> str | None:
    """That of ``--device``; None where it was not given."""
    given: str | None = context.find_root().params["device"]
    return given


def device_of(context: typer.Context) -> str:
    """``cpu`` unless ``--device`` says otherwise."""
    return device_given(context) or "cpu"


def first_look(context: typer.Context) -> FirstLook:
    """At the first problem of what is sampled; --force goes on all the same."""
    from prunebench.bench.rollouts.first_look import FirstLook

    return FirstLook(bool(context.find_root().params["force"]))
