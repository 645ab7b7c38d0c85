"""`python -m tests.large_store FOLDER`: 1,000 problems with 64 paths, to see what a comparison of so many takes.

20 test problems of the demo are sampled, and stored 50 times under other names.
"""

import sys
from dataclasses import replace
from pathlib import Path

from prunebench.bench.config import preset
from prunebench.bench.engines.load import load_engine
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.bench.rollouts.store import RolloutStore

TIMES = 50


def main() -> None:
    folder, config = Path(sys.argv[1]), preset("demo")
    chosen = problems_of(tasks_of(config), config.split, 5, config.seed)
    sampled = sample_configured(load_engine(config.model, "cpu"), config, chosen, folder / "sampled")
    problems = list(sampled.read())
    manifest = {key: value for key, value in sampled.manifest.items() if key not in ("kind", "schema_version")}
    store = RolloutStore.create_or_open(folder / "store", manifest)
    with store.shards:
        for time in range(TIMES):
            store.append([replace(one, problem=f"{one.problem}-{time}") for one in problems])


if __name__ == "__main__":
    main()
