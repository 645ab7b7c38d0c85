"""Tuning and training: every method gets its few configurations, chosen on the same validation problems."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import labelled_pools, record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.base import Generate, LearnablePruner, Pruner, Quadrant, Setting, Signal, UsesJudge
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.pool import LabelledPool, PrefixDataset, within_problem_auroc
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.errors import first_line

EMBEDDED = "embedded"
JUDGE_GIB = 2.0
"""What vLLM takes for the keys and values of a judge."""
EMBEDDED_JUDGES = Path(__file__).parents[1] / "reasoner" / "judges"

PROBLEMS = "problems.jsonl"
"""Beside the cards: the prompts of the problems that they name."""

MAX_CONFIGURATIONS = 8
"""Every method, learnable or not, is tuned over at most so many configurations (protocol, fair tuning)."""


@dataclass(frozen=True)
class Card:
    """What stands beside a learned file: how the configuration was chosen, and what it was learned from."""

    method: str
    configuration: dict[str, Any]
    validation_auroc: float
    candidates: list[dict[str, Any]]
    model_hash: str
    sampling_digest: str
    prefix_tokens: Annotated[list[int], Field(min_length=1)]
    train_data: str
    train_problems: list[str]
    validation_problems: list[str]
    train_seconds: float
    seed: int
    imported: str = ""
    """The folder of a checkpoint that was trained elsewhere, on problems that nobody names."""

    @classmethod
    def read(cls, path: Path) -> Card:
        """Raises UserError for a card that is damaged or of another version."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            told = first_line(error)
            if isinstance(error, ValidationError):
                told = ": ".join([*map(str, error.errors()[0]["loc"]), error.errors()[0]["msg"]])
            raise UserError(f"{path}: not a card of this version ({told}); train again") from error

    def write(self, path: Path) -> None:
        write_atomically(path, (json.dumps(self.__dict__, indent=1, sort_keys=True) + "\n").encode())


def training_lengths(prefix_tokens: int) -> tuple[int, int, int]:
    """L/2, L and 2L: the prefix lengths that a method for checkpoint L learns from (protocol, fair tuning)."""
    return max(1, prefix_tokens // 2), prefix_tokens, 2 * prefix_tokens


def setting_of(engine: Engine, prefix_tokens: int) -> Setting:
    """The shape of an experiment, for methods that propose configurations."""
    if engine.shape is None:
        raise UserError(f"model '{engine.name}': learning needs a model that lies here, not one on a server")
    return Setting(prefix_tokens, engine.shape.vocabulary, engine.shape.width, engine.shape.layers)


def tunable() -> list[str]:
    """Every registered method but the controls, which have nothing to tune; ensembles last, after their members."""
    names = [name for name, entry in PRUNERS.items() if entry.quadrant() is not Quadrant.CONTROL]
    return sorted(names, key=lambda name: PRUNERS.get(name).quadrant() is Quadrant.MIXED)


def entry_of(name: str) -> type[Pruner]:
    """The registered class behind a name. Raises UserError for an unknown one."""
    try:
        return PRUNERS.get(base_name(name))
    except ValueError as error:
        raise UserError(str(error)) from error


def uses_judge(name: str) -> bool:
    """Whether a method needs another model, which a model that is not shipped has to be given one of."""
    return any(issubclass(PRUNERS.get(part), UsesJudge) for part in parts_of(name))


def labelled_folder(
    engine: Engine, folder: Path, prefix_tokens: int, reads: Collection[Signal] = ()
) -> tuple[PrefixDataset, PrefixDataset, str]:
    """(train, validation, sampling digest) from ``folder/{train,validation}/<any name>/{rollouts,labels}``.

    The training data hold the labelled prefixes at L/2, L and 2L, whichever there are; validation is at L. ``reads``
    are the signals that the methods want. Raises UserError when a part is missing or was made by another model.
    """
    parts, digests = [], set()
    for split, lengths in (("train", training_lengths(prefix_tokens)), ("validation", (prefix_tokens,))):
        stores = sorted(path for path in (folder / split).glob("*") if (path / "labels").is_dir())
        if not stores:
            raise UserError(f"{folder / split}: no <name>/rollouts and <name>/labels; see prunebench label --help")
        pools: list[LabelledPool] = []
        for path in stores:
            rollouts, labels = RolloutStore.open(path / "rollouts"), LabelStore.open(path / "labels")
            labels.require(engine.digest, str(rollouts.manifest["sampling_digest"]))
            digests.add(str(rollouts.manifest["sampling_digest"]))
            stored = list(rollouts.read())
            for length in lengths:
                pools += labelled_pools(engine, stored, labels, length, reads, partial(task_of, rollouts)).pools
        if not pools:
            raise UserError(f"{folder / split}: no labels of prefixes of {prefix_tokens} tokens")
        parts.append(PrefixDataset(tuple(pools)))
    if len(digests) != 1:
        raise UserError(f"{folder}: its stores were sampled with different settings; use one folder per setting")
    return parts[0], parts[1], digests.pop()


def train_methods(
    engine: Engine,
    data: Path,
    names: Sequence[str],
    folder: Path,
    prefix_tokens: int,
    *,
    seed: int = 0,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> Iterator[Card]:
    """:func:`train_method` for each of ``names``, on what :func:`labelled_folder` finds in ``data``, read once."""
    train, validation, sampling_digest = labelled_folder(engine, data, prefix_tokens, reads_of(names))
    for name in names:
        yield train_method(
            name,
            train,
            validation,
            setting_of(engine, prefix_tokens),
            folder,
            model_hash=engine.digest,
            sampling_digest=sampling_digest,
            seed=seed,
            judges=judges,
            progress=progress,
        )


def test_records(
    engine: Engine, folder: Path, prefix_tokens: int, reads: Collection[Signal] = ()
) -> list[ProblemRecord]:
    """The problems in ``folder/test/<any name>/rollouts``, with their labels where there are any.

    Raises UserError when there are none.
    """
    stores = sorted(path for path in (folder / "test").glob("*") if (path / "rollouts").is_dir())
    if not stores:
        raise UserError(f"{folder / 'test'}: no <name>/rollouts; see prunebench rollouts --help")
    records = []
    for path in stores:
        labels = LabelStore.open(path / "labels") if (path / "labels").is_dir() else None
        store = RolloutStore.open(path / "rollouts")
        for stored in store.read():
            task = task_of(store, stored.task)
            records.append(record_of(engine, stored, prefix_tokens, labels, reads, task=task))
    return records


def reads_of(names: Iterable[str]) -> frozenset[Signal]:
    """All signals that the named methods declare, members of ensembles included."""
    return frozenset().union(*(PRUNERS.get(part).requires for name in names for part in parts_of(name)))


def train_method(
    name: str,
    train: PrefixDataset,
    validation: PrefixDataset,
    setting: Setting,
    folder: Path,
    *,
    model_hash: str,
    sampling_digest: str,
    seed: int = 0,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> Card:
    """Fit (where there is something to fit) every configuration, keep the best on validation, write file and card.

    A finished card of the same data, configurations and seed is left as it is; fits that were interrupted go on from
    ``folder/.work``. Raises UserError when a problem is in both data sets.
    """
    shared = train.problems & validation.problems
    if shared:
        raise UserError(f"train and validation share problems ({', '.join(sorted(shared)[:3])}): split by problem")
    digest = data_digest(train)
    proposed = [_seeded(one, seed) for one in PRUNERS.get(name).configurations(setting)][:MAX_CONFIGURATIONS]
    done = folder / f"{name}.json"
    finished = _finished(done, (digest, seed, model_hash), [one.hyperparameters() for one in proposed])
    if finished is not None:
        return finished
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    best: tuple[float, Pruner] | None = None
    candidates: list[dict[str, Any]] = []
    for pruner in proposed:
        if judges is not None:
            judges.prepare(pruner)
        if isinstance(pruner, LearnablePruner):
            _fit(pruner, train, validation, _state_of(folder, pruner, digest))
        ranking = within_problem_auroc(validation, [pruner.score(labelled.pool) for labelled in validation])
        history = list(getattr(pruner, "history_", []))
        candidates.append({"configuration": pruner.hyperparameters(), "validation_auroc": ranking, "history": history})
        progress.say(f"{name} {describe(pruner)}: validation AUROC {ranking:.3f}")
        if best is None or ranking > best[0]:
            best = (ranking, pruner)
    assert best is not None
    ranking, pruner = best
    if isinstance(pruner, LearnablePruner):
        temporary = folder / f".{name}.tmp"
        try:
            pruner.save(temporary)
        except SafetensorError as error:  # also where the disk is full
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"{temporary}: {first_line(error)}: make room or choose another folder; what is finished is kept"
            ) from error
        temporary.replace(folder / f"{name}.safetensors")
    fitted = isinstance(pruner, LearnablePruner)
    card = Card(
        method=name,
        configuration=pruner.hyperparameters(),
        validation_auroc=ranking,
        candidates=candidates,
        model_hash=model_hash,
        sampling_digest=sampling_digest,
        prefix_tokens=sorted({labelled.pool.position for labelled in (train if fitted else validation)}),
        train_data=digest,
        train_problems=sorted(train.problems) if fitted else [],
        validation_problems=sorted(validation.problems),
        train_seconds=round(time.perf_counter() - started, 1),
        seed=seed,
    )
    _remember_problems(folder, (*train, *validation))
    for one in proposed:
        state = _state_of(folder, one, digest)
        for left in (state, *state.parent.glob(f"*{state.name}*.tmp")):  # of a kill, perhaps
            left.unlink(missing_ok=True)
    with suppress(OSError):  # another method's training may still be there
        (folder / ".work").rmdir()
    card.write(done)  # last: it says that all is done
    return Card.read(done)  # as every later call finds it


def learned_problems(folder: Path) -> dict[str, str]:
    """The prompts of all problems that methods in ``folder`` were trained or tuned on, by id; empty if unknown."""
    path = folder / PROBLEMS
    if not path.exists():
        return {}
    prompts = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); delete it and train") from error
    for number, line in enumerate(filter(None, lines), 1):
        try:
            one = json.loads(line)
            prompts[str(one["problem"])] = str(one["prompt"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: no problem and prompt ({first_line(error)}); delete it and train"
            ) from error
    return prompts


def _remember_problems(folder: Path, pools: Iterable[LabelledPool]) -> None:
    """Keep the prompts beside the cards: whether another problem nearly repeats one cannot be told by its id."""
    prompts = {**learned_problems(folder), **{labelled.pool.problem: labelled.pool.prompt for labelled in pools}}
    lines = [json.dumps({"problem": problem, "prompt": prompts[problem]}) for problem in sorted(prompts)]
    write_atomically(folder / PROBLEMS, ("\n".join(lines) + "\n").encode())


def _fit(pruner: LearnablePruner, train: PrefixDataset, validation: PrefixDataset, state: Path) -> None:
    """Fit, leaving the state of a long training in the file ``state``. Raises UserError for data that do not serve."""
    state.parent.mkdir(exist_ok=True)
    pruner.resume_in_ = state  # type: ignore[misc]
    try:
        pruner.fit(train, validation)
    except ValueError as error:
        raise UserError(f"{pruner.name} ({describe(pruner)}): {error}") from error


def _state_of(folder: Path, pruner: Pruner, data: str) -> Path:
    """Where a long training leaves its state, by method, configuration and data."""
    content = json.dumps([pruner.hyperparameters(), data], sort_keys=True)
    return folder / ".work" / f"{pruner.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.pt"


def _finished(path: Path, origin: tuple[str, int, str], configurations: list[dict[str, Any]]) -> Card | None:
    """The card at ``path``, if it was made of the same data, seed and model, from the same configurations."""
    try:
        card = Card.read(path) if path.exists() else None
    except UserError:  # an older version's: made again
        return None
    if card is None or (card.train_data, card.seed, card.model_hash) != origin:
        return None
    return card if [one["configuration"] for one in card.candidates] == configurations else None


def _seeded(pruner: Pruner, seed: int) -> Pruner:
    """The same configuration with another seed, where it has one."""
    return replace(pruner, seed=seed) if "seed" in pruner.hyperparameters() else pruner  # type: ignore[call-arg]


def data_digest(dataset: PrefixDataset) -> str:
    """16 hex digits over problems, prefixes and labels."""
    digest = hashlib.sha256()
    for labelled in dataset:
        digest.update(labelled.pool.problem.encode())
        for ids in labelled.pool.token_ids:
            digest.update(ids.tobytes())
        digest.update(labelled.success.tobytes())
    return digest.hexdigest()[:16]


def describe(pruner: Pruner) -> str:
    """Hyper-parameters in one line."""
    return describe_configuration(pruner.hyperparameters())


def describe_configuration(configuration: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in configuration.items()) or "defaults"


class Judges:
    """Gives methods that use another model that model: ``named`` maps a method's name to a folder or hub id.

    Generative judges share one engine per model, of the kind ``engine``: transformers or vllm. The ``shipped`` ones
    serve the shipped reasoners only.
    """

    def __init__(
        self,
        named: Mapping[str, str],
        learned: Path,
        device: str = "cpu",
        *,
        shipped: bool = True,
        engine: str = "transformers",
    ) -> None:
        self._named, self._learned, self._device, self._shipped = dict(named), learned, device, shipped
        self._engine = engine
        self._engines: dict[str, Generate] = {}
        self.digests: dict[str, str] = {}
        """Of every model that was bound so far, by method."""

    def prepare(self, pruner: Pruner) -> None:
        """Bind what ``pruner`` needs. Raises UserError for an embedded judge that is missing."""
        if isinstance(pruner, UsesJudge):
            asked = self._named.get(pruner.name, str(pruner.hyperparameters()["model"]))
            source = str(EMBEDDED_JUDGES / pruner.role) if asked == EMBEDDED else asked
            if asked == EMBEDDED and not self._shipped:
                raise UserError(
                    f"method '{pruner.name}': the shipped judge knows the shipped reasoners' problems only; name one: "
                    f"--judge {pruner.name}=FOLDER_OR_ID"
                )
            if asked == EMBEDDED and not Path(source).is_dir():
                raise UserError(
                    f"method '{pruner.name}': the shipped judge {source} is missing; rebuild it with: make reasoner"
                )
            if pruner.name not in self.digests:
                self.digests[pruner.name] = _source_digest(source)
            pruner.bind(source, self._generate(source) if pruner.generative else None, self._device)
        if isinstance(pruner, MeanRank):
            pruner.join([self._member(name) for name in pruner.names])

    def _member(self, name: str) -> Pruner:
        card = Card.read(self._learned / f"{name}.json") if (self._learned / f"{name}.json").exists() else None
        return _restored(name, card, self._learned, self)

    def _generate(self, source: str) -> Generate:
        from prunebench.bench.engines.judge import EngineJudge
        from prunebench.bench.engines.load import load_local

        if source not in self._engines:
            engine = load_local(source, self._device)
            if self._engine == "vllm":
                from prunebench.bench.engines.vllm.engine import VllmEngine

                engine = VllmEngine.beside(engine, JUDGE_GIB)
            self._engines[source] = EngineJudge(engine)
        return self._engines[source]


def _source_digest(source: str) -> str:
    from prunebench.bench.engines.transformers.engine import model_digest

    return model_digest(source)


@dataclass(frozen=True)
class Chosen:
    """A pruner ready to score, with its card if there is one, and a remark for the table."""

    pruner: Pruner
    card: Card | None
    note: str


def base_name(name: str) -> str:
    """The registered method behind a name: ``mean-rank`` for ``mean-rank(stop,deepconf)``."""
    return name.partition("(")[0]


def parts_of(name: str) -> list[str]:
    """The registered methods behind a name, the members of an ensemble included."""
    base, _, members = name.partition("(")
    if base == MeanRank.name:
        return [base, *MeanRank(members.rstrip(")") or MeanRank().members).names]
    return [base]


def _restored(name: str, card: Card | None, folder: Path, judges: Judges) -> Pruner:
    """A method with its tuned configuration, what it learned, its judge and its members."""
    entry = entry_of(name)
    if card is None and issubclass(entry, LearnablePruner):
        raise UserError(f"method '{name}' has no learned files in {folder}; train it: prunebench train {name}")
    try:
        pruner = entry(**card.configuration) if card else entry()
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / name}.json: not a configuration of '{name}' ({first_line(error)})") from error
    if name != base_name(name):
        if not issubclass(entry, MeanRank):
            raise UserError(
                f"method '{name}': only an ensemble takes members in brackets, as in mean-rank(stop,entropy)"
            )
        pruner = entry(members=name[len(base_name(name)) + 1 : -1])
    if isinstance(pruner, LearnablePruner):
        file = folder / f"{name}.safetensors"
        try:
            pruner.load(file)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{file}: cannot be read ({first_line(error)}); train it again: prunebench train {name}"
            ) from error
    judges.prepare(pruner)
    return pruner


def load_method(name: str, folder: Path, model_hash: str, prefix_tokens: int, judges: Judges | None = None) -> Chosen:
    """The method as it was tuned in ``folder``; a method without a card and without anything to learn has defaults.

    Raises UserError for an unknown name, for a learnable method without files, and for files of another model.
    """
    judges = judges or Judges({}, folder)
    path = folder / f"{name}.json"
    card = Card.read(path) if path.exists() else None
    if card is not None and card.model_hash != model_hash:
        raise UserError(
            f"{path}: learned or tuned for model {card.model_hash}, this one is {model_hash}; run: prunebench train "
            f"{name}, or give an empty folder as --learned to take defaults"
        )
    pruner = _restored(name, card, folder, judges)
    if card is None:
        return Chosen(pruner, None, "" if pruner.quadrant() is Quadrant.CONTROL else "defaults, not tuned")
    outside = not min(card.prefix_tokens) <= prefix_tokens <= max(card.prefix_tokens)
    notes = [f"checked at {prefix_tokens} tokens, tuned at {card.prefix_tokens}"] if outside else []
    if card.imported:
        notes.append("imported: its training problems are not known, so a leak cannot be excluded")
    return Chosen(pruner, card, "; ".join(notes))


def refuse_leak(chosen: Mapping[str, Chosen], problems: Sequence[str]) -> None:
    """Raises UserError when a method was trained or tuned on a problem that it is now evaluated on."""
    for name, method in chosen.items():
        if method.card is None:
            continue
        seen = {*method.card.train_problems, *method.card.validation_problems} & set(problems)
        if seen:
            raise UserError(
                f"method '{name}' was trained or tuned on {len(seen)} of these problems "
                f"({', '.join(sorted(seen)[:3])}); evaluate on another split"
            )
