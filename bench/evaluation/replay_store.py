"""Replays on disk as they come, method by method and pool by pool: a comparison that was stopped goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.files import append_row, rows_in
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Signal
from prunebench.methods.meter import Charge, Cost

FILE = "replays.jsonl"


class ReplayStore:
    """A line per method and pool in ``folder/replays.jsonl``; a line that was cut off by a kill is as if never written.

    ``context`` names all that a replay depends on beside its method, policy and pool (code, model, graders);
    ``identities`` say what each method is: its settings, what it learned, its judge. What has another key is not found.
    """

    def __init__(self, folder: Path, context: str, identities: Mapping[str, str]) -> None:
        self._file, self._context, self._identities = folder / FILE, context, dict(identities)
        self._held: dict[str, dict[str, Any]] = {}
        for row in rows_in(self._file):
            if "key" in row:
                self._held[row["key"]] = row

    def __len__(self) -> int:
        return len(self._held)

    def get(self, candidate: Candidate, record: ProblemRecord, number: int = 0) -> Replay | None:
        """What is held of this method, of its training of that ``number``, on this very pool."""
        row = self._held.get(self._key(candidate, record, number))
        return None if row is None else _read(row)

    def holds(self, candidate: Candidate, record: ProblemRecord) -> bool:
        """Whether all of this method on this very pool is held."""
        return all(self._key(candidate, record, number) in self._held for number in range(1 + len(candidate.members)))

    def put(self, candidate: Candidate, record: ProblemRecord, replay: Replay, number: int = 0) -> None:
        """Append one line; the next start finds it."""
        key = self._key(candidate, record, number)
        row = {"key": key, "method": candidate.name, "task": record.task, "problem": record.problem} | _plain(replay)
        self._held[key] = row
        append_row(self._file, row)

    def _key(self, candidate: Candidate, record: ProblemRecord, number: int) -> str:
        pool = record.pool
        digest = hashlib.sha256(
            json.dumps(
                [self._context, self._identities.get(candidate.name, candidate.configuration), candidate.name,
                 str(candidate.policy), record.task, record.problem, pool.position, *([number] if number else [])]
            ).encode()
        )  # fmt: skip
        columns = [pool.paths, record.lengths, record.correct, record.answer_class]
        if Signal.POTENTIAL in candidate.reads and record.halves is not None:  # nobody else is given them
            columns.append(record.halves)
        tokens = pool.token_ids if pool.has(Signal.TOKEN_IDS) else pool.text if pool.has(Signal.TEXT) else ()
        for column in (*columns, *tokens):
            content = column.encode() if isinstance(column, str) else np.asarray(column).tobytes()
            digest.update(len(content).to_bytes(8, "big") + content)
        return digest.hexdigest()[:24]


def _plain(replay: Replay) -> dict[str, Any]:
    return {
        "keep": np.flatnonzero(replay.keep).tolist(),
        "decoded": replay.decoded.tolist(),
        "launched": replay.launched.tolist(),
        "answer_class": replay.answer_class.tolist(),
        "stopped": replay.stopped,
        "scores": replay.scores.tolist(),
        "cost": asdict(replay.cost),
        "seconds": replay.seconds,
        "charges": None if replay.charges is None else [_plain_charge(charge) for charge in replay.charges],
    }


def _plain_charge(charge: Charge) -> dict[str, Any]:
    return {
        "paths": charge.paths.tolist(),
        "tokens": charge.tokens.tolist(),
        "flops": None if charge.flops is None else charge.flops.tolist(),
        "names": None if charge.names is None else charge.names.tolist(),
        "model_bytes": charge.model_bytes,
    }


def _read(row: Mapping[str, Any]) -> Replay:
    decoded = np.array(row["decoded"], np.int64)
    keep = np.zeros(len(decoded), np.bool_)
    keep[row["keep"]] = True
    charges = row["charges"]
    return Replay(
        keep=keep,
        decoded=decoded,
        launched=np.array(row["launched"], np.int64),
        answer_class=np.array(row["answer_class"], np.int64),
        stopped=row["stopped"],
        scores=np.array(row["scores"], np.float64),
        cost=Cost(**row["cost"]),
        seconds=row["seconds"],
        charges=None if charges is None else [_read_charge(charge) for charge in charges],
    )


def _read_charge(charge: Mapping[str, Any]) -> Charge:
    return Charge(
        paths=np.array(charge["paths"], np.int64),
        tokens=np.array(charge["tokens"], np.int64).reshape(-1, 3),
        flops=None if charge["flops"] is None else np.array(charge["flops"], np.float64),
        names=None if charge["names"] is None else np.array(charge["names"], np.uint64),
        model_bytes=charge["model_bytes"],
    )
