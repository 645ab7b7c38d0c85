"""Many engines at once: one per Ray actor, jobs streamed to them through Ray Data.

Ray schedules, bounds the memory of what is finished but not taken yet, and gives the job of a worker that was lost to
another. Results come in the order of the jobs, so that a store does not depend on the number of workers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.load import DEFAULT_ENGINE, load_engine, require_digest
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.registry import EngineKind
from prunebench.bench.errors import UserError
from prunebench.tasks.errors import first_line

IN_FLIGHT = 2
"""Jobs that an actor holds: one at work and one at hand."""


class Work(Protocol):
    """What an engine does with one job; it travels to the workers."""

    def __call__(self, engine: Engine, job: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Cluster:
    """``workers`` engines, on the Ray cluster at ``address`` or, without one, on this machine."""

    workers: int
    address: str | None = None
    gpus_per_worker: float = 0.0
    device: str = "cpu"
    kind: EngineKind = DEFAULT_ENGINE

    @classmethod
    def of(cls, kind: EngineKind, device: str, gpus_per_worker: float = 0.0) -> Cluster | None:
        """Where ``kind`` asks for several engines; ``gpus_per_worker`` holds unless it says otherwise."""
        if kind.workers is None:
            return None
        gpus = gpus_per_worker if kind.gpus_per_worker is None else kind.gpus_per_worker
        return cls(kind.workers, kind.address, gpus, device, kind)

    def run(self, engine: Engine, jobs: Sequence[Any], work: Work) -> Iterator[Any]:
        """What ``work`` gives for each job, job by job in their order; every worker loads the model of ``engine``.

        Raises UserError without Ray, for a cluster that cannot be reached, and what a worker raises.
        """
        ray = self._started()
        from ray.exceptions import RayError

        try:
            # Not as arguments of the actors: these could not be started again where the node that has them is lost.
            pipeline = ray.data.from_items([{"job": _Boxed(job)} for job in jobs], override_num_blocks=len(jobs))
            batches = pipeline.map_batches(
                _Worker,
                fn_constructor_args=(engine.name, self.device, engine.options, self.kind, engine.digest, work),
                batch_size=1,
                num_cpus=1,
                num_gpus=self.gpus_per_worker or None,
                compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=IN_FLIGHT),
            )
            for row in batches.iter_rows():
                result = row["result"].content
                if isinstance(result, UserError):
                    raise result
                yield from result
        except RayError as error:
            raise UserError(f"Ray gave up ({first_line(error)}); the same command goes on") from error

    def _started(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise UserError("Ray is not installed: pip install 'prunebench[ray]'") from error
        if not ray.is_initialized():
            here = self.address is None
            try:
                ray.init(
                    address=self.address,
                    num_cpus=max(self.workers + 1, os.cpu_count() or 1) if here else None,
                    include_dashboard=False if here else None,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UserError(f"address={self.address}: no cluster there ({first_line(error)})") from error
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        return ray


@dataclass(frozen=True)
class _Boxed:
    """Keeps Ray Data from taking a list apart."""

    content: Any


class _Worker:
    """One engine, in an actor. What the user did wrong comes back as a result: Ray would wrap it beyond recognition."""

    def __init__(
        self, model: str, device: str, options: ModelOptions, kind: EngineKind, digest: str, work: Work
    ) -> None:
        self.work = work
        self.refused: UserError | None = None
        try:
            self.engine = load_engine(model, device, options, kind)
            require_digest(self.engine, digest)
        except UserError as error:
            self.refused = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        results = np.empty(len(batch["job"]), object)
        for place, job in enumerate(batch["job"]):
            results[place] = _Boxed(self.refused or self._done(job.content))
        return {"result": results}

    def _done(self, job: Any) -> Any:
        try:
            return self.work(self.engine, job)
        except UserError as error:
            return error
