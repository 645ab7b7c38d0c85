"""What one method costs on one problem, phase by phase: tokens by kind, arithmetic, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic, Lengths
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.files import csv_text
from prunebench.bench.rollouts.records import ProblemRecord

Phase = Literal["launch", "check", "resume"]


@dataclass(frozen=True)
class LedgerRow:
    """One phase of one method on one problem, means over the method's draws.

    Tokens by kind; ``flops`` of all models; ``peak_kv_bytes``: the most that the paths' keys and values take at once
    when all paths alive march in step (the check holds what the launch left). NaN where nobody knows the model.
    ``tool_tokens``: those of the decoded tokens that a tool wrote and the model only read. ``judge_bytes``: the weights
    of a method's own model, which lie beside the generator while it checks.
    """

    task: str
    problem: str
    method: str
    phase: Phase
    decoded_tokens: float
    reencoded_tokens: float
    probe_tokens: float
    check_tokens: float
    flops: float
    peak_kv_bytes: float
    tool_tokens: float = 0.0
    judge_bytes: float = 0.0

    @property
    def tokens(self) -> float:
        """All tokens, whichever model reads or writes them."""
        return self.decoded_tokens + self.reencoded_tokens + self.probe_tokens + self.check_tokens


def entries(
    record: ProblemRecord, method: str, replays: Sequence[Replay], model: Arithmetic | None
) -> tuple[LedgerRow, LedgerRow, LedgerRow]:
    """Launch, Check and Resume of the ``replays`` of the draws of one method on one problem."""
    held = float(np.mean([replay.cost.model_bytes for replay in replays]))
    rows = np.column_stack(
        [_phases(len(record.pool.prompt_ids), replays, model), _tools(record, replays), [0, held, 0]]
    )
    launch, check, resume = (
        LedgerRow(record.task, record.problem, method, phase, *map(float, numbers))  # type: ignore[arg-type]
        for phase, numbers in zip(("launch", "check", "resume"), rows, strict=True)
    )
    return launch, check, resume


def _tools(record: ProblemRecord, replays: Sequence[Replay]) -> NDArray[np.float64]:
    """(3,) tokens of tools per phase, means over the draws."""
    if record.tool_spans is None:
        return np.zeros(3)
    tokens = [
        [
            record.tool_tokens(np.zeros_like(replay.launched), replay.launched),
            0,
            record.tool_tokens(replay.launched, replay.decoded),
        ]
        for replay in replays
    ]
    means: NDArray[np.float64] = np.mean(tokens, axis=0)
    return means


def _phases(prompt: int, replays: Sequence[Replay], model: Arithmetic | None) -> NDArray[np.float64]:
    """(3, 6): per phase the numbers of a :class:`LedgerRow`, means over the draws."""
    draws = len(replays)
    launched, decoded = (
        np.stack([replay.launched for replay in replays]),
        np.stack([replay.decoded for replay in replays]),
    )
    nothing = np.zeros_like(launched)
    flops, held = np.full(3, np.nan), np.full(3, np.nan)
    if model is not None:
        contexts = prompt + launched.max(axis=1, initial=0)
        beyond = [model.beyond(replay.cost, int(context)) for replay, context in zip(replays, contexts, strict=True)]
        flops = np.array(
            [model.decoding(prompt, nothing, launched), sum(beyond), model.decoding(prompt, launched, decoded)]
        )
        after = np.where(decoded > launched, decoded, 0)
        held = model.kv_bytes * np.array([_most_held(prompt, launched).sum()] * 2 + [_most_held(prompt, after).sum()])
    of_method = [
        sum(getattr(replay.cost, name) for replay in replays)
        for name in ("reencoded_tokens", "probe_tokens", "check_tokens")
    ]
    totals = np.array(
        [
            [launched.sum(), 0, 0, 0, flops[0], held[0]],
            [0, *of_method, flops[1], held[1]],
            [(decoded - launched).sum(), 0, 0, 0, flops[2], held[2]],
        ]
    )
    return totals / draws


def _most_held(prompt: int, lengths: Lengths) -> Lengths:
    """(draws,) the most tokens held at once, from (draws, N): at t tokens those paths are alive that have as many."""
    there = -np.sort(-lengths, axis=1)
    held: Lengths = np.where(there > 0, np.arange(1, lengths.shape[1] + 1) * (prompt + there), 0).max(axis=1, initial=0)
    return held


def whole_cost(record: ProblemRecord, model: Arithmetic | None) -> float:
    """FLOPs (tokens without a model) of all paths of a record to their ends."""
    if model is None:
        return float(record.lengths.sum())
    return model.decoding(len(record.pool.prompt_ids), np.zeros_like(record.lengths), record.lengths)


def path_costs(
    record: ProblemRecord, begin: NDArray[np.int64], end: NDArray[np.int64], model: Arithmetic | None
) -> NDArray[np.float64]:
    """(N,) FLOPs (tokens without a model) of decoding tokens begin+1 .. end, both (N,), of every path of a record."""
    if model is None:
        return (end - begin).astype(np.float64)
    prompt = len(record.pool.prompt_ids)
    return np.array([model.decoding(prompt, *pair) for pair in zip(begin[:, None], end[:, None], strict=True)])


def generator_token(records: Sequence[ProblemRecord], model: Arithmetic | None) -> float:
    """FLOPs of one generator token: the mean over all tokens of the complete paths. NaN without a model."""
    tokens = sum(whole_cost(record, None) for record in records)
    return sum(whole_cost(record, model) for record in records) / tokens if model and tokens else float("nan")


def in_generator_tokens(rows: Sequence[LedgerRow], replays: Sequence[Replay], unit: float) -> float:
    """All phases' arithmetic divided by ``unit``, that of one generator token (see :func:`generator_token`).

    Without a model (``unit`` NaN) it is the number of tokens, if they are all the generator's; else NaN.
    """
    if not np.isnan(unit):
        return sum(row.flops for row in rows) / unit
    of_generator = all(replay.cost.flops is None for replay in replays)
    return sum(row.tokens for row in rows) if of_generator else float("nan")


def ledger_csv(rows: Iterable[LedgerRow]) -> str:
    """The ledger as CSV, a line per row."""
    columns = [field.name for field in fields(LedgerRow)]
    return csv_text(columns, ([getattr(row, column) for column in columns] for row in rows), digits=10)


def paper_tokens(
    lengths: NDArray[np.int64], position: int, keep: NDArray[np.bool_], type_ii: bool
) -> NDArray[np.int64]:
    """The STOP paper's count: every path up to ``position``, the kept ones to their end, and for Type II ``position``
    for each discarded prefix as well.

    It explains Table 2 of arXiv 2604.16029 within its noise. It is not what Type II costs: see :class:`LedgerRow`.
    ``lengths`` int64 (N,) counts the tokens of the complete paths; ``keep`` is bool (..., N), the result (...).
    """
    if keep.dtype != np.bool_ or keep.shape[-1:] != lengths.shape:
        raise ValueError(f"keep must be bool {lengths.shape}, not {keep.dtype} {keep.shape}")
    if position < 0:
        raise ValueError(f"position = {position}: a checkpoint cannot be negative")
    launched = np.minimum(lengths, position).sum()
    resumed = (np.maximum(lengths - position, 0) * keep).sum(-1)
    discarded = (~keep).sum(-1)
    return np.asarray(launched + resumed + (position * discarded if type_ii else 0), np.int64)
