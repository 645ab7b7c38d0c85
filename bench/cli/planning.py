"""What a command will cost, before it is run: every item that it takes, their sum, and what is there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from prunebench.bench.cli.at_hand import processes_on
from prunebench.bench.cli.power import deciding
from prunebench.bench.cli.trial import TOKENS, Pilot, speed_of, tried
from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Request, Sampling
from prunebench.bench.engines.registry import EngineKind
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import method_of, reads_again
from prunebench.bench.evaluation.scoring import FEWEST
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.labelling import Prefix
from prunebench.bench.rollouts.sampling import SHARD_PROBLEMS, problems_of, require_room, tasks_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.data import training_lengths
from prunebench.bench.training.label_plans import RECIPES, LabelPlan
from prunebench.bench.training.learn import training_folder, training_tasks
from prunebench.bench.training.loading import entry_of
from prunebench.tasks.task import Problem, Task


@dataclass(frozen=True)
class Extent:
    """What a plan counts with.

    Numbers of evaluated problems and of those to learn from; ``tokens_per_second`` of one process, of ``processes``
    that sample, and ``how`` that is known. ``mean_tokens`` None: every path is taken to run to its cap. ``kv_bytes``
    per token; None: not known. ``tokens_read_per_second`` None: as many as are sampled. ``cap``: the most tokens of a
    path, where the context is what ends it. ``validation_problems`` None: a split that would have to be fetched.
    ``right``: the shares of right paths of a trial's problems, empty where these did not end; None without a trial.
    """

    problems: int
    train_problems: int
    tokens_per_second: float
    mean_tokens: int | None = None
    kv_bytes: int | None = None
    validation_problems: int | None = 0
    processes: int = 1
    how: str = ""
    tokens_read_per_second: float | None = None
    learning_tasks: int = 1
    cap: int | None = None
    right: tuple[float, ...] | None = None

    def length(self, config: RunConfig) -> int:
        """Tokens of a path."""
        return self.mean_tokens or self.cap or config.max_new_tokens


@dataclass(frozen=True)
class Item:
    """One part of the work: its tokens, how many of them a second takes, and the share that is done."""

    what: str
    tokens: float
    per_second: float
    done: float = 0.0

    @property
    def seconds(self) -> float:
        return self.tokens / self.per_second

    def line(self) -> str:
        done = f", {100 * self.done:.0f} % done" if self.done else ""
        return f"  {self.what}: {self.tokens:,.0f} tokens, {duration(self.seconds)}{done}"


@dataclass(frozen=True)
class Done:
    """The shares of the parts that are there already; ``swept``: the methods of which a sweep is."""

    rollouts: float = 0.0
    train: float = 0.0
    train_labels: float = 0.0
    validation: float = 0.0
    validation_labels: float = 0.0
    control: float = 0.0
    swept: frozenset[str] = frozenset()


NOTHING_DONE = Done()


def plan_of(
    config: RunConfig,
    recipe: LabelPlan,
    extent: Extent,
    control: bool = True,
    methods: Sequence[str] = (),
    swept: Sequence[str] = (),
    taught: Sequence[str] = (),
    done: Done = NOTHING_DONE,
) -> list[str]:
    """Lines that say paths, tokens, time and memory, item by item and in all.

    ``control``: with the labels of the potential control. ``methods`` score the paths of a comparison, ``swept``
    those of a sweep; those that are ``taught`` are trained, which no trial tells the time of.
    """
    length = extent.length(config)
    rest = max(0, length - config.prefix_tokens)
    kept_tokens = config.n * config.prefix_tokens + config.k * rest
    items = [_rollouts(config, extent, length, done), *_learning(config, recipe, extent, length, done)]
    if control:
        what = f"labels of these prefixes for the potential control (K={recipe.test_continuations}, before duplicates)"
        tokens = extent.problems * config.n * recipe.test_continuations * rest
        items.append(Item(what, tokens, extent.tokens_per_second, done.control))
    items += _scoring(config, extent, methods, swept, done)
    whole = sum(item.seconds for item in items)
    there = sum(item.seconds * item.done for item in items)
    online = Item(
        f"the rollouts online instead, keeping {config.k} of {config.n}", extent.problems * kept_tokens,
        items[0].per_second,
    )  # fmt: skip
    lines = [
        paths_line(config, extent),
        f"at {extent.tokens_per_second:,.0f} tokens/s{_in_processes(extent)}{extent.how}:",
        *[item.line() for item in items],
        f"  together: {bound(extent)} {duration(whole)}"
        + (f", without the training itself ({', '.join(taught)})" if taught and extent.train_problems else "")
        + (f", of which {duration(there)} are done: {duration(whole - there)} to go" if there else ""),
        online.line(),
        *([] if extent.right is None else [deciding(extent.right, config, extent.problems)]),
    ]
    if extent.train_problems and extent.validation_problems is None:
        lines.append("not counted: validation, whose problems would have to be fetched to know their number")
    if extent.kv_bytes is None:
        lines.append("key-value cache: not known, as the model is not at hand and kv_bytes_per_token is not set")
    else:
        uncut, cut = (tokens * extent.kv_bytes / 2**20 for tokens in (config.n * length, kept_tokens))
        lines.append(f"key-value cache per pool: {uncut:,.0f} MiB uncut, {cut:,.0f} MiB after the cut")
    return lines


def paths_line(config: RunConfig, extent: Extent) -> str:
    """How many paths of how many tokens."""
    paths = extent.problems * config.n
    of = f"{'expected' if extent.mean_tokens else 'at most'} {extent.length(config):,} tokens each"
    return f"{extent.problems} problems x {config.n} paths = {paths:,} paths of {of}"


def bound(extent: Extent) -> str:
    return "about" if extent.mean_tokens else "at most"


def _in_processes(extent: Extent) -> str:
    return f" in each of {extent.processes} processes" if extent.processes > 1 else ""


def duration(seconds: float) -> str:
    """Hours from two on, minutes below."""
    return f"{seconds / 3600:,.1f} device-hours" if seconds >= 7200 else f"{seconds / 60:,.1f} minutes"


def _rollouts(config: RunConfig, extent: Extent, length: int, done: Done) -> Item:
    together = extent.processes if extent.problems > SHARD_PROBLEMS else 1
    tokens = extent.problems * config.n * length
    what = "rollouts for a replay (all paths to their end)"
    return Item(what, tokens, extent.tokens_per_second * together, done.rollouts)


def _learning(config: RunConfig, recipe: LabelPlan, extent: Extent, length: int, done: Done) -> Iterator[Item]:
    """Rollouts and labels to learn from; every split of a task is the work of one process."""
    chosen, held = extent.train_problems, extent.validation_problems or 0
    if not chosen:
        return
    lengths = list(zip(training_lengths(config.prefix_tokens), recipe.train_prefixes, strict=True))
    cuts = ", ".join(f"{prefixes} prefixes of {cut}" for cut, prefixes in lengths)
    each = sum(prefixes * max(0, length - cut) for cut, prefixes in lengths)
    rest = max(0, length - config.prefix_tokens)
    k, kept, paths = recipe.train_continuations, recipe.validation_continuations, recipe.validation_paths or config.n
    train = chosen * recipe.train_paths * length, chosen * each * k
    validation = held * paths * length, held * paths * kept * rest
    jobs = sum(train), sum(validation)
    longest = max(sum(jobs) / extent.processes, max(jobs) / extent.learning_tasks)
    speed = extent.tokens_per_second * sum(jobs) / longest
    items = [
        (f"training rollouts ({chosen} problems x {recipe.train_paths} paths)", train[0], done.train),
        (f"training labels ({chosen} problems x {cuts} x K={k})", train[1], done.train_labels),
        (f"validation rollouts ({held} problems x {paths} paths)", validation[0], done.validation),
        (f"validation labels ({held} problems x {paths} prefixes of {config.prefix_tokens} x K={kept}, before "
         "duplicates)", validation[1], done.validation_labels),
    ]  # fmt: skip
    yield from (Item(what, tokens, speed, share) for what, tokens, share in items[: 4 if held else 2])


def _scoring(
    config: RunConfig, extent: Extent, methods: Sequence[str], swept: Sequence[str], done: Done
) -> Iterator[Item]:
    """Prefixes are read again by every method that looks at more than is stored, and in more pools at equal cost."""
    once = extent.problems * config.n * config.prefix_tokens
    speed = extent.tokens_read_per_second or extent.tokens_per_second
    slowly = "" if extent.tokens_read_per_second else ", taken to be as slow as sampling"
    together = extent.processes if extent.problems >= FEWEST else 1
    for what, names, processes in (("scoring", methods, together), ("the sweep", swept, 1)):
        if names:
            reading = sum(map(reads_again, names))
            said = f"{what} with {len(names)} methods, {reading} of which read prefixes again{slowly}"
            there = sum(reads_again(name) for name in names if name in done.swept) / max(1, reading)
            yield Item(said, once * reading, speed * processes, there if names is swept else 0.0)
    if methods and config.draws:
        scoring = [method for name in methods if reads_again(name) and (method := method_of(name))]
        again = [1 if entry_of(method).pointwise else config.draws for method in scoring]
        yield Item(f"comparing at equal cost ({config.draws} draws{slowly})", once * sum(again), speed)


def extent_of(
    config: RunConfig,
    engine: Engine | None,
    speed: float | None = None,
    mean_tokens: int | None = None,
    learning: bool = True,
    device: str = "cpu",
    pilot: Pilot | None = None,
) -> Extent:
    """What a plan counts with; the number of problems is the benchmark's where the data are not at hand.

    Training takes the recipe's number of problems, or all of a task that has fewer; none without ``learning``. Without
    a ``speed`` a ``pilot`` and a trial tell, within seconds.

    Raises UserError for data that cannot be had or do not serve.
    """
    recipe = RECIPES[config.recipe]
    count = sum(_count(task, config.split, config.problems, task.expected) for task in tasks_of(config))
    most, held = recipe.train_problems, recipe.validation_problems or config.problems
    learned_from = [task for task in training_tasks(config) if "train" in task.splits] if learning else []
    arithmetic = engine.arithmetic if engine else None
    extent = Extent(
        count,
        sum(_count(task, "train", most, most) for task in learned_from),
        speed or 1.0,
        mean_tokens,
        config.kv_bytes_per_token or (arithmetic.kv_bytes if arithmetic else None),
        None
        if held is None and any(task.remote for task in learned_from)
        else sum(_count(task, "validation", held, held) for task in learned_from if "validation" in task.splits),
        learning_tasks=max(1, len(learned_from)),
    )
    if speed is not None:
        return extent
    assert engine is not None
    require_room(engine, _asked(config))
    if mean_tokens is None:
        pilot = pilot or Pilot.of(engine, config, None)
    found = speed_of(engine, config, pilot)
    return replace(
        extent,
        tokens_per_second=found.tokens_per_second,
        tokens_read_per_second=found.tokens_read_per_second,
        mean_tokens=mean_tokens or found.mean_tokens,
        processes=processes_on(device) if not engine.backend else 1,
        cap=found.cap,
        how=f" ({found.how})",
        right=pilot.right(engine) if pilot else None,
    )


def _count(task: Task, split: str, limit: int | None, otherwise: int | None) -> int:
    """How many problems of a split there are, up to ``limit``; ``otherwise`` where that would have to be fetched."""
    if task.remote and otherwise is not None:
        return min(otherwise, limit or otherwise)
    return len(problems_of([task], split, limit, 0))


def sampling_plan(
    engine: Engine, config: RunConfig, folder: Path, kind: EngineKind, device: str, piloted: bool = False
) -> Iterator[str]:
    """How many paths of how many tokens a store in ``folder`` still lacks, and how long they take; nothing if none.

    ``piloted``: by some whole paths, which also tell how many problems decide.
    """
    asked = _asked(config)
    require_room(engine, asked)
    wanted = {(task.name, problem.id) for task, problem in asked}
    there = set[tuple[str, str]]()
    with suppress(UserError):  # of a store that is not whole sampling says it, or makes it again
        there = RolloutStore.open(folder).problems()
    missing = len(wanted - there)
    if not missing:
        return
    pilot = Pilot.of(engine, config, None) if piloted else None
    found = speed_of(engine, config, pilot)
    processes = kind.workers or (1 if engine.backend else processes_on(device))
    together = processes if missing > SHARD_PROBLEMS else 1
    extent = Extent(missing, 0, found.tokens_per_second, found.mean_tokens, processes=together, cap=found.cap)
    seconds = missing * config.n * extent.length(config) / (found.tokens_per_second * together)
    speed = f"{found.tokens_per_second:,.0f} tokens/s{_in_processes(extent)}"
    yield f"plan: {paths_line(config, extent)}; at {speed} ({found.how}): {bound(extent)} {duration(seconds)}"
    if pilot:
        yield deciding(pilot.right(engine), config, len(wanted))


def labelling_plan(
    engine: Engine, prefixes: Sequence[Prefix], store: RolloutStore, continuations: int, folder: Path, kind: EngineKind
) -> str | None:
    """How many continuations of how many tokens a label store in ``folder`` lacks, and how long they take."""
    held: LabelStore | None = None
    with suppress(UserError):
        held = LabelStore.open(folder)
    missing = [
        prefix
        for prefix in prefixes
        if prefix.verdict is None
        and (held is None or held.get(prefix.task.name, prefix.problem, prefix.token_ids) is None)
    ]
    if not missing:
        return None
    cut = max(len(prefix.token_ids) for prefix in missing)
    rest = [length - cut for lengths in store.lengths().values() for length in lengths if length > cut]
    tokens = max(1, round(sum(rest) / max(1, len(rest))))
    request = Request(missing[0].problem, missing[0].prompt_ids, tuple(range(continuations)))
    trial = tried(engine, [request], Sampling(**store.manifest["sampling"]), 0, TOKENS)
    workers = kind.workers or 1
    seconds = len(missing) * continuations * tokens / (trial.speed * workers)
    return (
        f"plan: {len(missing)} prefixes x {continuations} continuations of expected {tokens:,} tokens each, as long as "
        f"the stored paths; at {trial.speed:,.0f} tokens/s ({trial.how}): about {duration(seconds)}"
    )


def _asked(config: RunConfig) -> list[tuple[Task, Problem]]:
    return problems_of(tasks_of(config), config.split, config.problems, config.seed)


def done_in(out: Path, engine: Engine, config: RunConfig, extent: Extent) -> Done:
    """How much of an experiment in ``out`` is there, of this model and these settings."""
    recipe, data = RECIPES[config.recipe], training_folder(engine, config, out / "training")
    held = extent.validation_problems or 0
    labelled = extent.train_problems * sum(recipe.train_prefixes), held * (recipe.validation_paths or config.n)

    def share(folders: Sequence[Path], wanted: int) -> float:
        there = 0
        for folder in folders:
            with suppress(UserError):  # what is not whole is made again
                store = LabelStore.open(folder) if folder.name == "labels" else RolloutStore.open(folder)
                of = store.shards.manifest
                if (of.get("model_hash"), of.get("sampling_digest")) == (engine.digest, config.sampling.digest):
                    there += len(store) if isinstance(store, LabelStore) else len(store.problems())
        return min(1.0, there / max(1, wanted))

    splits = [[path for path in (data / split).glob("*") if path.is_dir()] for split in ("train", "validation")]
    rollouts, marked = ([[path / name for path in split] for split in splits] for name in ("rollouts", "labels"))
    return Done(
        share([out / "rollouts"], extent.problems),
        share(rollouts[0], extent.train_problems),
        share(marked[0], labelled[0]),
        share(rollouts[1], held),
        share(marked[1], labelled[1]),
        share([out / "labels"], extent.problems * config.n),
        _swept_in(out / "sweep", engine, config, extent),
    )


def _swept_in(folder: Path, engine: Engine, config: RunConfig, extent: Extent) -> frozenset[str]:
    """The methods of the sweep in ``folder``, where it is one of this model at this checkpoint over these problems."""
    from prunebench.bench.guideline.sweep import Sweep

    try:
        sweep = Sweep.read(folder)
    except UserError:
        return frozenset()
    problems = sum(map(len, sweep.problems.values()))
    same = (sweep.model_hash, problems) == (engine.digest, extent.problems)
    return frozenset(cell.method for cell in sweep.cells if same and cell.prefix == config.prefix_tokens)
