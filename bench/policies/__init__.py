"""Policies: scores become the set of paths that go on. They know nothing of methods or answers' correctness.

A policy is written ``kind:value,name=value,...`` on the command line and in files, with ``:keep`` or ``:drop`` behind
it where paths that have ended are not to be ranked; ``str()`` gives that text, and :func:`parse_policy` reads it.
"""

from prunebench.bench.policies.adaptive_consistency import AdaptiveConsistency
from prunebench.bench.policies.answer_streak import AnswerStreak
from prunebench.bench.policies.contract import (
    POLICIES,
    CheckRecord,
    Decision,
    FinishedRule,
    Policy,
    keep_best,
    policy,
    reach,
    tied,
)
from prunebench.bench.policies.early_stopping_consistency import EarlyStoppingConsistency
from prunebench.bench.policies.funnel import Funnel
from prunebench.bench.policies.keep_all import KeepAll
from prunebench.bench.policies.memory_triggered import MemoryTriggered
from prunebench.bench.policies.parse import parse_policy
from prunebench.bench.policies.patience import Patience
from prunebench.bench.policies.ratio import Ratio
from prunebench.bench.policies.repeated import Repeated
from prunebench.bench.policies.speculative_rejection import SpeculativeRejection
from prunebench.bench.policies.threshold import Threshold
from prunebench.bench.policies.topk import TopK
from prunebench.bench.policies.warmup_percentile import WarmupPercentile

__all__ = [
    "AdaptiveConsistency",
    "AnswerStreak",
    "CheckRecord",
    "Decision",
    "EarlyStoppingConsistency",
    "FinishedRule",
    "Funnel",
    "KeepAll",
    "MemoryTriggered",
    "POLICIES",
    "Patience",
    "Policy",
    "Ratio",
    "Repeated",
    "SpeculativeRejection",
    "Threshold",
    "TopK",
    "WarmupPercentile",
    "keep_best",
    "parse_policy",
    "policy",
    "reach",
    "tied",
]
