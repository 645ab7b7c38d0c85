"""What `prunebench perf` prints: eight measurements against their goals, how they grow, and how far the limits are.

Ratios within one run; the few absolute numbers are asked for as such. The models are the shipped reasoner and what lies
in memory: nothing is loaded from elsewhere.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Recording, Request, Sampling
from prunebench.bench.engines.load import load_local
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.tables.main import Setting, main_rows
from prunebench.bench.perf.clock import REPEATS, anew, check_cost, median_seconds, seconds_of
from prunebench.bench.perf.decoding import Limits, limits, step_seconds, untrained
from prunebench.bench.policies import Ratio
from prunebench.bench.processes import process_pool
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.controls.none import KeepAll
from prunebench.methods.controls.random_choice import RandomChoice
from prunebench.methods.learned.stop import Lesson, Reader
from prunebench.methods.pool import Pool
from prunebench.tasks.answer_types import answer_type_of

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine

GOALS: dict[str, tuple[str, float]] = {
    "decode_vs_dynamic": (">=", 2.5),
    "check_vs_reencode": (">=", 20),
    "seconds_over_tokens_saved": (">=", 0.9),
    "replay_seconds": ("<=", 30),
    "replay_peak_mb": ("<=", 1024),
    "train_step_speedup": (">=", 5),
    "help_seconds": ("<=", 0.5),
    "grades_per_second": (">=", 1000),
}


@dataclass(frozen=True)
class Growth:
    """Seconds at several sizes, and the exponent of the power law through them (least squares of the logarithms)."""

    of: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    def described(self) -> dict[str, Any]:
        return {**asdict(self), "exponent": self.exponent}

    @classmethod
    def measured(cls, of: str, sizes: Sequence[int], seconds: Callable[[int], float]) -> Growth:
        return cls(of, tuple(sizes), tuple(seconds(size) for size in sizes))


@dataclass
class Speed:
    """The measurements by name; what else was seen; growth by measurement; ``share_of_limit`` of the machine's."""

    device: str
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    growth: dict[str, list[Growth]] = field(default_factory=dict)
    limits: Limits | None = None
    share_of_limit: dict[str, float] = field(default_factory=dict)

    def met(self, name: str) -> bool:
        sign, goal = GOALS[name]
        return self.values[name] >= goal if sign == ">=" else self.values[name] <= goal

    def described(self) -> dict[str, Any]:
        """One JSON object: the values under their names, and the rest."""
        return {
            **self.values,
            "met": {name: self.met(name) for name in self.values},
            "details": self.details,
            "growth": {
                name: [{**asdict(one), "exponent": one.exponent} for one in found]
                for name, found in self.growth.items()
            },
            "limits": None if self.limits is None else asdict(self.limits),
            "share_of_limit": self.share_of_limit,
            "device": self.device,
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """What is printed of some of the measurements."""
        told = []
        for name in names:
            sign, goal = GOALS[name]
            state = "met" if self.met(name) else "NOT MET"
            told.append(f"{name}: {self.values[name]:.4g} (goal: {sign} {goal:g}; {state})")
        return told


def measure(device: str, say: Callable[[str], None]) -> Speed:
    """Everything in turn; ``say`` is told each measurement as soon as it is there."""
    from prunebench.bench.provenance import device_name

    speed = Speed(device_name(device))
    speed.limits = limits(device, 1 << 22)
    say(f"{speed.device}: copies {speed.limits.bytes_per_second / 1e9:.1f} GB/s, products "
        f"{speed.limits.flops_per_second / 1e9:.0f} GFLOP/s")  # fmt: skip
    engine = load_local("embedded", device)
    for part in (_help, _grading, _replay, _check, _training, _decoding, _pruning):
        known = set(speed.values)
        part(speed, engine)
        for line in speed.lines([name for name in speed.values if name not in known]):
            say(line)
    for name, found in speed.growth.items():
        for one in found:
            say(f"{name} grows with {one.of} as its power {one.exponent:.2f} ({one.sizes[0]} to {one.sizes[-1]})")
    for name, share in speed.share_of_limit.items():
        say(f"{name}: {share:.1%} of the machine's limit")
    return speed


# Decoding


def _decoding(speed: Speed, engine: TransformersEngine) -> None:
    """256 new tokens of 64 rows, log-probabilities and entropies recorded, against ``generate`` with its two caches."""
    import torch

    rows, tokens = 64, 256
    prompt = np.arange(4, 36)
    endless = engine.endless()  # every path as long as the others
    engine.model.generation_config.eos_token_id = None
    recording = Recording((Signal.LOGPROBS, Signal.ENTROPY), topk=0)

    def ours() -> None:
        request = Request("perf", prompt, tuple(range(rows)))
        list(endless.sample([request], Sampling(max_new_tokens=tokens), 0, recording))

    def generate(cache: str) -> None:
        from transformers import GenerationConfig

        ids = torch.from_numpy(prompt).expand(rows, -1).to(engine.device)
        settings = GenerationConfig(
            do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0, eos_token_id=None, bos_token_id=1,
            cache_implementation=cache,
        )  # fmt: skip
        with torch.inference_mode():
            out = engine.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        assert out.shape == (rows, len(prompt) + tokens)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _in_turn(
            {"ours": ours, "dynamic": lambda: generate("dynamic"), "static": lambda: generate("static")}, 3
        )
    finally:
        torch.set_num_threads(threads)
    speed.values["decode_vs_dynamic"] = seconds["dynamic"] / seconds["ours"]
    speed.details["decode_vs_static"] = seconds["static"] / seconds["ours"]
    speed.details["decode_tokens_per_second"] = rows * tokens / seconds["ours"]
    speed.growth["decode_vs_dynamic"] = [
        Growth.measured("rows", (16, 64, 256), lambda size: step_seconds(engine, size, 128)),
        Growth.measured("length", (128, 256, 512, 896), lambda size: step_seconds(engine, rows, size)),
    ]
    assert speed.limits is not None
    charged = engine.arithmetic
    moved = engine.weight_bytes + rows * 256 * charged.kv_bytes
    step = step_seconds(engine, rows, 256)
    # Whichever takes longer on this machine: moving weights and cache, or the products.
    done = charged.decoding(256, np.zeros(rows, np.int64), np.ones(rows, np.int64))
    least = max(moved / speed.limits.bytes_per_second, done / speed.limits.flops_per_second)
    speed.share_of_limit["a decoding step of 64 rows of 256 tokens"] = least / step


# Check


def _check(speed: Speed, engine: TransformersEngine) -> None:
    """STOP's check of 64 prefixes of 512 tokens by the kept cache, against encoding them again."""
    stop = untrained(engine)
    cost = check_cost(engine, stop, 512)
    speed.values["check_vs_reencode"] = 1 / cost.ratio
    speed.growth["check_vs_reencode"] = [
        Growth.measured("length", (128, 256, 512), lambda size: check_cost(engine, stop, size).check_seconds),
        Growth.measured("rows", (16, 64, 256), lambda size: check_cost(engine, stop, 128, size).check_seconds),
    ]
    assert speed.limits is not None
    charged = engine.arithmetic
    lengths = np.full(64, 512)
    flops = charged.decoding(32, np.zeros(64, np.int64), lengths)
    speed.share_of_limit["encoding 64 prefixes of 512 tokens"] = (
        flops / speed.limits.flops_per_second / cost.reencode_seconds
    )
    read = 64 * 512 * charged.kv_bytes / speed.limits.bytes_per_second
    tokens = charged.decoding(544, lengths, lengths + stop.tokens) / speed.limits.flops_per_second
    speed.share_of_limit["a check of 64 prefixes of 512 tokens"] = max(read, tokens) / cost.check_seconds


# Pruning


def _pruning(speed: Speed, engine: TransformersEngine) -> None:
    """What 64 -> 8 saves with 16 problems in flight, on the demo's problems, by the shipped STOP."""
    from prunebench.bench.config import preset
    from prunebench.bench.perf.online import Trial, shipped_stop, timed
    from prunebench.bench.rollouts.sampling import problems_of, tasks_of

    config = preset("demo")
    reasoner = load_local("embedded", engine.device)
    stop = shipped_stop(reasoner, config.prefix_tokens)
    chosen = problems_of(tasks_of(config), config.split, 6, config.seed)[:16]
    requests = [Request(p.id, reasoner.encode_prompt(p.prompt), tuple(range(64))) for _, p in chosen]
    trial = Trial(stop, config.sampling, config.prefix_tokens, kept=8, repeats=3)
    once = replace(trial, repeats=1)
    timed(reasoner, once, requests[:1])  # what is made once is not timed
    run = timed(reasoner, trial, requests)
    speed.values["seconds_over_tokens_saved"] = run.ratio
    speed.details["tokens_saved"], speed.details["seconds_saved"] = run.tokens_saved, run.seconds_saved

    def pruned(count: int) -> float:
        return timed(reasoner, once, requests[:count]).pruned.seconds

    speed.growth["seconds_over_tokens_saved"] = [Growth.measured("problems", (4, 8, 16), pruned)]


# Training


def _training(speed: Speed, engine: TransformersEngine) -> None:
    """A training step of STOP on 8 prefixes of 512 tokens, their caches kept, against encoding them in every step."""
    import torch

    stop = untrained(engine)

    def step(length: int, kept: bool) -> float:
        pool = _prefixes(engine, 8, length)
        cache = pool.kv()
        reader = Reader(engine.model, stop)
        trained = [weights for weights in reader.module.parameters() if weights.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        batch, targets = np.arange(8), np.linspace(0.1, 0.9, 8)
        reader.module.train()

        def once() -> None:
            caches = cache if kept else anew(pool).kv()
            for loss in Lesson(reader, [caches], targets).losses(batch):
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        once()
        return median_seconds(once)

    with_kept, without = step(512, True), step(512, False)
    speed.values["train_step_speedup"] = without / with_kept
    speed.details["train_step_seconds"] = with_kept
    speed.growth["train_step_speedup"] = [Growth.measured("length", (128, 256, 512), lambda size: step(size, True))]


# Replay


@dataclass
class Told(Pruner):
    """Scores that are a fixed function of path and ``number``: what a replay costs does not depend on them."""

    name = "told"
    source = Source.INTERNAL
    requires = frozenset()
    paper = "-"

    number: int = 0

    def score(self, pool: Pool) -> Scores:
        scores: Scores = np.sin(pool.paths * (self.number + 1.0) + int(pool.problem))
        return scores


def replayed(problems: int, methods: int = 30, gammas: int = 8) -> tuple[float, float]:
    """Seconds of grading, charging and testing ``methods`` at ``gammas`` retention ratios, and the peak in MB.

    64 made-up paths per problem; the statistics of every table, with 10,000 sign patterns per method.
    """
    records = [_made_up(number) for number in range(problems)]
    pruners: dict[str, Pruner] = {f"told-{number}": Told(number) for number in range(methods)}
    pruners |= {"random": RandomChoice(), "none": KeepAll()}
    started = time.perf_counter()
    for gamma in np.geomspace(1 / 32, 1, gammas):
        policy = Ratio(float(gamma))
        candidates = {name: Candidate(name, pruner, policy) for name, pruner in pruners.items()}
        replays = replay_methods(records, candidates)
        table = main_rows(records, replays, candidates, Setting("made up", 40, 0, policy, _SIZE))
        assert len(table.rows) == len(candidates)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_SIZE = Arithmetic(1_000_000, 4, 128, 4096)


def _replay(speed: Speed, _engine: TransformersEngine) -> None:
    """In a process of its own, whose memory is this alone."""
    found = {problems: _elsewhere(replayed, problems) for problems in (50, 100, 200)}
    speed.values["replay_seconds"], speed.values["replay_peak_mb"] = found[200]
    speed.growth["replay_seconds"] = [Growth("problems", tuple(found), tuple(seconds for seconds, _ in found.values()))]


def _elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    with process_pool(1) as pool:
        return pool.submit(work, *arguments).result()


def _made_up(number: int, paths: int = 64, position: int = 40) -> ProblemRecord:
    random = np.random.default_rng(number)
    lengths = random.integers(position // 2, 8 * position, paths)
    held = np.minimum(lengths, position)
    rate = random.beta(0.5, 0.5)
    correct = (random.random(paths) < rate).astype(np.float64)
    classes = np.where(correct == 1, 0, random.integers(-1, 6, paths))
    halves = np.clip(rate + 0.2 * random.standard_normal((2, paths)), 0, 1)
    pool = Pool(
        problem=str(number), task="made up", position=position, prompt="", prompt_ids=np.arange(20),
        paths=np.arange(paths), lengths=held, finished=lengths <= position, answer_class=np.full(paths, -1),
        signals={Signal.OUTCOME: correct, Signal.POTENTIAL: halves.mean(0)},
    )  # fmt: skip
    return ProblemRecord("made up", str(number), pool, lengths, correct, classes, 0, halves, None, 1.0)


# Command line and grading


def _help(speed: Speed, _engine: TransformersEngine) -> None:
    """Help and list, each in a new process: the slower of the two."""
    asked = (["--help"], ["list", "methods"])
    speed.values["help_seconds"] = max(median_seconds(partial(_called, words)) for words in asked)


def _called(words: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "prunebench.bench.cli", *words], check=True, stdout=subprocess.DEVNULL)


def _grading(speed: Speed, _engine: TransformersEngine) -> None:
    """Answers that normalisation or a comparison of numbers decides, no two alike."""
    answers = answer_type_of("math")

    def seconds(count: int) -> float:
        begin = next(_numbers) * 1_000_000
        pairs = [(f"{begin + i}.0" if i % 2 else f"\\boxed{{0{begin + i}}}", str(begin + i)) for i in range(count)]
        return seconds_of(lambda: [answers.grade(*pair) for pair in pairs])

    speed.growth["grades_per_second"] = [Growth.measured("answers", (500, 1000, 2000, 4000), seconds)]
    speed.values["grades_per_second"] = 2000 / statistics.median(seconds(2000) for _ in range(REPEATS))


_numbers = iter(range(1, 1_000_000))


# Shared


def _in_turn(actions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            taken = seconds_of(action)
            if repeat:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _prefixes(engine: TransformersEngine, rows: int, length: int) -> Pool:
    from prunebench.bench.engines.tokenization import pool_of_ids

    random = np.random.default_rng(0)
    prefixes = tuple(random.integers(4, 400, length) for _ in range(rows))
    return replace(pool_of_ids(prefixes, random.integers(4, 400, 32)), generator=engine)
