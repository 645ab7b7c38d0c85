"""What `prunebench perf` prints: measurements against their goals, how they grow, and how far the limits are.

Ratios within one run; the few absolute numbers are asked for as such. The models are the shipped reasoner, what lies in
memory, and a released one where its package is installed: nothing is loaded from elsewhere.
"""

from __future__ import annotations

from prunebench.bench.engines.load import load_local
from prunebench.bench.perf.decoding import device_limits
from prunebench.bench.perf.harness_goals import comparing, grading, help_and_list, replay
from prunebench.bench.perf.model_goals import check, decoding, pruning, training
from prunebench.bench.perf.released import released
from prunebench.bench.perf.speed import Speed
from prunebench.bench.progress import Progress
from prunebench.bench.provenance import device_name


def measure_goals(device: str, progress: Progress) -> Speed:
    """Everything in turn; ``progress`` says each measurement as soon as it is there."""
    speed = Speed(device_name(device))
    speed.limits = device_limits(device, 1 << 22)
    progress.say(f"{speed.device}: copies {speed.limits.bytes_per_second / 1e9:.1f} GB/s, products "
        f"{speed.limits.flops_per_second / 1e9:.0f} GFLOP/s")  # fmt: skip
    engine = load_local("embedded", device)
    for part in (help_and_list, grading, replay, check, training, decoding, pruning, released, comparing):
        known = {*speed.values, *speed.absent}
        part(speed, engine)
        for line in speed.lines([name for name in (*speed.values, *speed.absent) if name not in known]):
            progress.say(line)
    for name, growths in speed.growth.items():
        for growth in growths:
            sizes = f"{growth.sizes[0]} to {growth.sizes[-1]}"
            progress.say(f"{name} grows with {growth.of} as its power {growth.exponent:.2f} ({sizes})")
    for name, share in speed.share_of_limit.items():
        progress.say(f"{name}: {share:.1%} of the machine's limit")
    return speed
