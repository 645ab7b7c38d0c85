"""reasoning-gym in a process of its own: ``python reasoning_gym_process.py`` answers one JSON line per JSON line.

A question is [verb, data set, settings, ...]; the answers:

- ``look``: {"fields": names of its settings}
- ``entry``, number: {"question", "answer", "metadata"}
- ``trial``, number: {"own": what its own answer scores, "nonsense": what no answer should, "scores": whether there is a
  scoring of its own}
- ``score``, number, answers: {"score": the best of them}

Whatever is wrong is {"error": a sentence}. The process sets itself an alarm for every question and lets it kill. Some
data sets hand an answer to ``eval`` or to SymPy's parser, which is one: here both read literals and formulas only. Run
as a file, it imports nothing of this project.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import functools
import json
import logging
import os
import random
import re
import resource
import signal
import sys
from dataclasses import fields
from typing import Any

START_SECONDS, DRAW_SECONDS, SCORE_SECONDS = 120.0, 300.0, 10.0
MEMORY_BYTES = 8 << 30
BLOCK = 500
"""Entries of one seed: a data set draws entry i of seed s by s + i."""
NONSENSE = "nothing of the kind"
LONGEST = 10_000
"""Characters of an answer that is looked at."""
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.BitAnd, ast.BitOr, ast.BitXor, ast.Invert, ast.USub, ast.UAdd, ast.LShift, ast.RShift,
)  # fmt: skip
_FORMULA = re.compile(r"[\w\s+\-*/().,^]*")
_NAMES = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = {
    "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln",
    "sqrt", "Abs", "abs", "pi",
}  # fmt: skip


def plain_value(text: str) -> Any:
    """The value of a literal, or of arithmetic without a name in it. Raises ValueError for anything else."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError):
        tree = ast.parse(text.strip(), mode="eval")
        if not all(isinstance(node, _ARITHMETIC) for node in ast.walk(tree)):
            raise ValueError(f"no literal: {text[:60]}") from None
        return _eval(compile(tree, "arithmetic", "eval"), {"__builtins__": {}})


def is_formula(text: str) -> bool:
    """Whether it is made of numbers, variables of one letter and known functions, so that nothing in it runs."""
    names = set(_NAMES.findall(text))
    known = {name for name in names if name in _FUNCTIONS or re.fullmatch(r"[A-Za-z]\d*", name)}
    return names == known and bool(_FORMULA.fullmatch(text)) and not re.search(r"\.\s*[^\W\d]", text)


_eval = eval


def _read_only_eval(source: Any, *scopes: Any) -> Any:
    """``eval``, but that the data sets only get plain values of texts while they score."""
    caller = str(sys._getframe(1).f_globals.get("__name__"))
    if _Scoring.on and isinstance(source, str) and caller.startswith("reasoning_gym"):
        return plain_value(source)
    if not scopes:
        frame = sys._getframe(1)
        scopes = (frame.f_globals, frame.f_locals)
    return _eval(source, *scopes)


class _Scoring:
    on = False


def guard() -> None:
    """Put readers of literals and formulas in the place of what would run a text. Before reasoning-gym is imported."""
    import sympy
    import sympy.physics.units  # it parses names of its own when it is loaded, which may be in the middle of a score
    from sympy.parsing import sympy_parser

    parse = sympy_parser.parse_expr

    @functools.wraps(parse)
    def parse_formula(text: str, *arguments: Any, **options: Any) -> Any:
        if _Scoring.on and not is_formula(text):
            raise ValueError(f"no formula: {text[:60]}")
        return parse(text, *arguments, **options)

    sympy_parser.parse_expr = sympy.parse_expr = parse_formula
    builtins.eval = _read_only_eval


@functools.lru_cache(maxsize=64)
def data_set(name: str, settings: str, seed: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=seed, size=BLOCK, **json.loads(settings))


@functools.lru_cache(maxsize=4096)
def entry(name: str, settings: str, number: int) -> dict[str, Any]:
    """The same whatever was drawn before: some data sets draw from the random numbers of the process."""
    random.seed(number)
    drawn: dict[str, Any] = data_set(name, settings, number - number % BLOCK)[number % BLOCK]
    return drawn


def score(name: str, settings: str, number: int, answers: list[str]) -> float:
    """The best score of ``answers``; one that makes the data set's own scoring fail has none."""
    drawn, source = entry(name, settings, number), data_set(name, settings, number - number % BLOCK)
    scores = [0.0]
    _Scoring.on = True
    try:
        for answer in answers:
            try:
                scores.append(float(source.score_answer(answer[:LONGEST], drawn)))
            except Exception:  # a data set may raise anything on an answer that it does not expect
                logging.debug("not scored", exc_info=True)
    finally:
        _Scoring.on = False
    return max(scores)


def look(name: str, settings: str) -> dict[str, Any]:
    """Whether data set and settings are known. Raises ValueError with a sentence where they are not."""
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.5)
        some = f"there are {len(DATASETS)}, such as chain_sum, gsm_symbolic and countdown"
        raise ValueError(f"no data set '{name}'; " + (f"did you mean {' or '.join(near)}?" if near else some))
    known = [field.name for field in fields(DATASETS[name][1]) if field.name not in ("seed", "size")]
    for key in json.loads(settings):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
            raise ValueError(f"{name} has no setting '{key}'; {hint}")
    try:
        data_set(name, settings, 0)
    except Exception as error:
        raise ValueError(f"{name} refuses its settings ({type(error).__name__}: {error})") from error
    return {"fields": known}


def trial(name: str, settings: str, number: int) -> dict[str, Any]:
    """Whether the data set can grade an entry of its own."""
    from reasoning_gym.dataset import ProceduralDataset

    answer = str(entry(name, settings, number)["answer"])
    own, nonsense = (score(name, settings, number, [text]) for text in (answer, NONSENSE))
    scoring = type(data_set(name, settings, 0)).score_answer
    return {"own": own, "nonsense": nonsense, "scores": scoring is not ProceduralDataset.score_answer}


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)  # what a data set prints is no reply
    os.dup2(nowhere, 2)
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes our input
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)
    guard()
    import reasoning_gym  # noqa: F401

    signal.setitimer(signal.ITIMER_REAL, 0)
    print("[]", file=replies, flush=True)
    verbs: dict[str, Any] = {
        "look": look, "entry": entry, "trial": trial, "score": lambda *asked: {"score": score(*asked)},
    }  # fmt: skip
    for line in sys.stdin:
        verb, name, settings, *rest = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, SCORE_SECONDS if verb == "score" else DRAW_SECONDS)
        try:
            reply = verbs[verb](name, json.dumps(settings, sort_keys=True), *rest)
        except Exception as error:
            reply = {"error": str(error) if verb == "look" else f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply, default=str), file=replies, flush=True)


if __name__ == "__main__":
    serve()
