"""Methods by their names, ready to score: as they were tuned, with what they learned, their judges and members."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from prunebench.bench.config import preset
from prunebench.bench.engines.load import DEFAULT_ENGINE, load_engine, parse_judge
from prunebench.bench.engines.registry import EngineKind
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.provenance import method_code
from prunebench.bench.training.cards import Card
from prunebench.methods.base import Generate, LearnablePruner, Pruner, Quadrant, Signal, UsesJudge
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.errors import first_line

SHIPPED_JUDGE = "embedded"
"""How a method names the judge that is shipped for its role."""
PACKAGE = Path(__file__).resolve().parents[1]
EMBEDDED_JUDGES = Path(__file__).parents[1] / "reasoner" / "judges"
PLUGIN = "prunebench_plugin_"
"""How the modules of files from outside are called."""


# --- names --------------------------------------------------------------------------------------------------------


def tunable() -> list[str]:
    """Every registered method but the controls, which have nothing to tune; ensembles last, after their members."""
    names = [name for name, entry in PRUNERS.items() if entry.quadrant() is not Quadrant.CONTROL]
    return sorted(names, key=lambda name: PRUNERS.get(name).quadrant() is Quadrant.MIXED)


def base_name(name: str) -> str:
    """The registered method behind a name: ``mean-rank`` for ``mean-rank(stop,deepconf)``."""
    return name.partition("(")[0]


def parts_of(name: str) -> list[str]:
    """The registered methods behind a name, the members of an ensemble included."""
    base, _, members = name.partition("(")
    if base == MeanRank.name:
        return [base, *MeanRank(members.rstrip(")") or MeanRank().members).names]
    return [base]


def entry_of(name: str) -> type[Pruner]:
    """The registered class behind a name. Raises UserError for an unknown one."""
    try:
        return PRUNERS.get(base_name(name))
    except ValueError as error:
        raise UserError(str(error)) from error


def uses_judge(name: str) -> bool:
    """Whether a method needs another model, which a model that is not shipped has to be given one of."""
    return any(issubclass(PRUNERS.get(part), UsesJudge) for part in parts_of(name))


def reads_of(names: Iterable[str]) -> frozenset[Signal]:
    """All signals that the named methods declare, members of ensembles included."""
    return frozenset().union(*(PRUNERS.get(part).requires for name in names for part in parts_of(name)))


# --- judges -------------------------------------------------------------------------------------------------------


class Judges:
    """Gives methods that use another model that model: ``named`` maps a method's name to a folder or hub id.

    Generative judges share one engine per model; ``vllm:`` before a model says which. The ``shipped`` ones serve the
    shipped reasoners only.
    """

    def __init__(self, named: Mapping[str, str], device: str = "cpu", *, shipped: bool = True) -> None:
        self._named, self._device, self._shipped = dict(named), device, shipped
        self._engines: dict[tuple[EngineKind, str], Generate] = {}
        self.digests: dict[str, str] = {}
        """Of every model that was bound so far, by method."""

    def bind(self, pruner: Pruner) -> None:
        """Give ``pruner`` its judge, if it uses one. Raises UserError for an embedded judge that is missing."""
        if not isinstance(pruner, UsesJudge):
            return
        kind, asked = parse_judge(self._named.get(pruner.name, str(pruner.hyperparameters()["model"])))
        if kind != DEFAULT_ENGINE and not pruner.generative:
            raise UserError(f"method '{pruner.name}' loads its judge itself: leave {kind.name}: out of --judge")
        source = str(EMBEDDED_JUDGES / pruner.role) if asked == SHIPPED_JUDGE else asked
        if asked == SHIPPED_JUDGE and not self._shipped:
            raise UserError(
                f"method '{pruner.name}': the shipped judge knows the shipped reasoners' problems only; name one: "
                f"--judge {pruner.name}=FOLDER_OR_ID"
            )
        if asked == SHIPPED_JUDGE and not Path(source).is_dir():
            raise UserError(
                f"method '{pruner.name}': the shipped judge {source} is missing; rebuild it with: make reasoner"
            )
        if pruner.name not in self.digests:
            self.digests[pruner.name] = _source_digest(source)
        pruner.bind(source, self._generate(kind, source) if pruner.generative else None, self._device)

    def digest_of(self, name: str) -> str:
        """What tells the judge of a method from another; empty for a method without one. Nothing is loaded."""
        entry = entry_of(name)
        if not issubclass(entry, UsesJudge):
            return ""
        _, asked = parse_judge(self._named.get(name, str(getattr(entry, "model", ""))))
        return _source_digest(str(EMBEDDED_JUDGES / entry.role) if asked == SHIPPED_JUDGE else asked)

    def _generate(self, kind: EngineKind, source: str) -> Generate:
        from prunebench.bench.engines.judge import EngineJudge

        if (kind, source) not in self._engines:
            self._engines[kind, source] = EngineJudge(load_engine(source, self._device, kind=kind))
        return self._engines[kind, source]


def all_on_engine(judges: Mapping[str, str], engine: str | None) -> dict[str, str]:
    """Results of an earlier version name one ``engine`` for all generative judges: the same, judge by judge."""
    if engine is None:
        return dict(judges)
    generative = [name for name, entry in PRUNERS.items() if issubclass(entry, UsesJudge) and entry.generative]
    return {**judges, **{name: f"{engine}:{judges.get(name, SHIPPED_JUDGE)}" for name in generative}}


def _source_digest(source: str) -> str:
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.sources import source_of

    return source_of(source, ModelOptions()).digest


# --- methods ------------------------------------------------------------------------------------------------------

Learned = Path | tuple[Path, ...]
"""One folder of learned files and cards, or several: what the first one lacks is taken from the next."""


def home_of(name: str, learned: Learned) -> Path:
    """The folder that holds the card of a method; the first one where none does."""
    folders = (learned,) if isinstance(learned, Path) else learned
    return next((folder for folder in folders if (folder / f"{name}.json").exists()), folders[0])


def train_command(name: str, folder: Path, card: Card | None = None, also: Sequence[str] = ()) -> str:
    """What trains a method into a folder, with the file that brings it where that is none of the package's.

    ``card``: of what is trained again, from the same data for the same model and checkpoint, and ``also`` is.
    What is shipped is left as it is: there it is another folder, with the model and the data that belong to it.
    """
    entry, options, out, then = entry_of(name), list[str](), folder, ""
    if entry.__module__.startswith(PLUGIN):
        options += ["--plugin", str(inspect.getsourcefile(entry))]
    for reasoner in REASONERS.values():
        if folder.resolve() == reasoner.learned.resolve():
            out, then = Path("runs/learned"), ", and name its folder: --learned runs/learned"
            prefix = preset(reasoner.preset).prefix_tokens
            options += ["--model", reasoner.name, "--set", f"prefix={prefix}"]
            options += [text for data in sorted(reasoner.data.glob("*"))[:1] for text in ("--data", str(data))]
    if not then and card is not None and card.origin:
        options += ["--data", card.origin["data"], "--model", card.origin["model"], "--set", f"prefix={card.tuned_at}"]
    return shlex.join(["prunebench", "train", base_name(name), *also, *options, "--out", str(out)]) + then


def learned_file(folder: Path, name: str, number: int = 0) -> Path:
    """Where a method's weights lie; ``number`` counts the seeds that it was trained with."""
    return folder / (f"{name}.seed{number}.safetensors" if number else f"{name}.safetensors")


@dataclass(frozen=True)
class Loaded:
    """A pruner ready to score, with its card if there is one, and a remark for the table.

    ``members``: the same configuration, trained with further seeds.
    """

    pruner: Pruner
    card: Card | None
    note: str
    members: tuple[Pruner, ...] = ()


def load_method(
    name: str, learned: Learned, model_hash: str, prefix_tokens: int, judges: Judges | None = None
) -> Loaded:
    """The method as it was tuned in ``learned``; a method without a card and without anything to learn has defaults.

    Raises UserError for an unknown name, for a learnable method without files, and for files of another model or of
    other code.
    """
    card = _card(name, learned)
    if card is not None and card.model_hash != model_hash:
        raise UserError(
            f"{home_of(name, learned) / name}.json: learned or tuned for model {card.model_hash}, this one is "
            f"{model_hash}; run: {train_command(name, home_of(name, learned))}, or give an empty folder as --learned "
            "to take defaults"
        )
    pruner = _restored(name, card, learned)
    equip(pruner, learned, judges or Judges({}))
    if card is None:
        members = [found for part in parts_of(name)[1:] if (found := _card(part, learned)) is not None]
        notes = [_checked(found, prefix_tokens) for found in members if found.tuned_at != prefix_tokens]
        untuned = "" if pruner.quadrant() is Quadrant.CONTROL else "defaults, not tuned"
        return Loaded(pruner, None, "; ".join(dict.fromkeys(["its members: " + note for note in notes])) or untuned)
    notes = [_checked(card, prefix_tokens)] if card.tuned_at != prefix_tokens else []
    if card.code and card.code != method_code(type(pruner)):
        notes.append(
            f"its code is not what it was tuned with; tune it again: "
            f"{train_command(name, home_of(name, learned), card)}"
        )
    if card.imported:
        notes.append("imported: its training problems are not known, so a leak cannot be excluded")
    further = tuple(_restored(name, card, learned, number) for number in range(1, len(card.members)))
    for member in further:
        equip(member, learned, judges or Judges({}))
    return Loaded(pruner, card, "; ".join(notes), further)


def _checked(card: Card, prefix_tokens: int) -> str:
    """That a method is checked elsewhere than where it was tuned."""
    shortest, longest = min(card.prefix_tokens), max(card.prefix_tokens)
    outside = (
        "" if shortest <= prefix_tokens <= longest else f", outside of what it was given ({shortest} to {longest})"
    )
    return f"tuned at {card.tuned_at} tokens, checked at {prefix_tokens} tokens{outside}"


def equip(pruner: Pruner, learned: Learned, judges: Judges) -> None:
    """Give a pruner its judge; an ensemble its members, as they were tuned in ``learned``, with theirs."""
    judges.bind(pruner)
    if isinstance(pruner, MeanRank):
        members = [_restored(name, _card(name, learned), learned) for name in pruner.names]
        for member in members:
            equip(member, learned, judges)
        pruner.join(members)


def _card(name: str, learned: Learned) -> Card | None:
    path = home_of(name, learned) / f"{name}.json"
    return Card.read(path) if path.exists() else None


def _restored(name: str, card: Card | None, learned: Learned, number: int = 0) -> Pruner:
    """A method with its tuned configuration and what it learned from the seed of that ``number``."""
    entry, folder = entry_of(name), home_of(name, learned)
    if card is None and issubclass(entry, LearnablePruner):
        raise UserError(f"method '{name}' has no learned files in {folder}; train it: {train_command(name, folder)}")
    if card is not None and issubclass(entry, LearnablePruner):
        _require_code(card, entry, folder)
    try:
        seeded = {"seed": card.members[number]["seed"]} if card and number else {}
        pruner = entry(**(card.configuration | seeded)) if card else entry()
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / name}.json: not a configuration of '{name}' ({first_line(error)})") from error
    if name != base_name(name):
        if not issubclass(entry, MeanRank):
            raise UserError(
                f"method '{name}': only an ensemble takes members in brackets, as in mean-rank(stop,entropy)"
            )
        pruner = entry(members=name[len(base_name(name)) + 1 : -1])
    if isinstance(pruner, LearnablePruner):
        file = learned_file(folder, name, number)
        try:
            pruner.load(file)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{file}: cannot be read ({first_line(error)}); train it again: {train_command(name, folder, card)}"
            ) from error
    return pruner


def _require_code(card: Card, entry: type[Pruner], folder: Path) -> None:
    """Raises UserError for what was learned by other code: its weights would meet other features.

    What is shipped belongs to the code that it is shipped with.
    """
    shipped = folder.resolve().is_relative_to(PACKAGE)
    if card.code and not shipped and card.code != method_code(entry):
        others = [name for name in _changed_in(folder) if name != card.method]
        too = f", and so has that of {', '.join(others)}" if others else ""
        raise UserError(
            f"{folder / card.method}.json: the code of '{card.method}' has changed since it was trained{too}; train "
            f"again: {train_command(card.method, folder, card, others)}"
        )


def _changed_in(folder: Path) -> list[str]:
    """The methods at hand whose cards in ``folder`` are of other code: those of one file change together."""
    cards = [Card.read(path) for path in sorted(folder.glob("*.json")) if path.stem in PRUNERS.names()]
    return [card.method for card in cards if card.code and card.code != method_code(PRUNERS.get(card.method))]
