"""Policies: scores become the set of paths that go on. They know nothing of methods or answers' correctness.

A policy is written ``kind:value,name=value,...`` on the command line and in files, with ``:keep`` or ``:drop`` behind
it where paths that have ended are not to be ranked; ``str()`` gives that text, and :func:`parse_policy` reads it.
"""

from bench.policies.adaptive_consistency import AdaptiveConsistency
from bench.policies.contract import CheckRecord, Decision, FinishedRule, Policy, keep_best, reach, tied
from bench.policies.early_stopping_consistency import EarlyStoppingConsistency, expected_esc_samples
from bench.policies.funnel import Funnel
from bench.policies.memory_triggered import MemoryTriggered
from bench.policies.patience import DYNASOR_EFFORTS, Patience
from bench.policies.ratio import Ratio
from bench.policies.repeated import Repeated
from bench.policies.speculative_rejection import SpeculativeRejection
from bench.policies.text import KINDS, parse_policy
from bench.policies.threshold import Threshold
from bench.policies.topk import TopK
from bench.policies.warmup_percentile import WarmupPercentile

__all__ = [
    "AdaptiveConsistency",
    "CheckRecord",
    "DYNASOR_EFFORTS",
    "Decision",
    "EarlyStoppingConsistency",
    "FinishedRule",
    "Funnel",
    "KINDS",
    "MemoryTriggered",
    "Patience",
    "Policy",
    "Ratio",
    "Repeated",
    "SpeculativeRejection",
    "Threshold",
    "TopK",
    "WarmupPercentile",
    "expected_esc_samples",
    "keep_best",
    "parse_policy",
    "reach",
    "tied",
]
