from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation.ledger import (
    entries,
    generator_token,
    in_generator_tokens,
    ledger_csv,
    paper_tokens,
)
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.meter import Cost

LENGTHS = np.array([5, 10, 30, 40])
KEEP = np.array([True, False, True, False])
MODEL = Arithmetic(parameters=1000, layers=2, width=8, kv_bytes=16)
"""2,000 FLOPs per token and 4 * 2 * 8 = 64 per position attended to."""


def record(prompt=3, tool_spans=None):
    pool = SimpleNamespace(prompt_ids=np.zeros(prompt, int))
    record = SimpleNamespace(task="t", problem="p", pool=pool, lengths=LENGTHS, tool_spans=tool_spans)
    record.tool_tokens = partial(ProblemRecord.tool_tokens, record)
    return record


def played(cost=Cost(), keep=KEEP):  # noqa: B008 - a frozen record
    launched = np.minimum(LENGTHS, 10)
    decoded = np.where(keep, LENGTHS, launched)
    return Replay(keep, decoded, launched, np.zeros(4, int), False, np.zeros(4), cost, 0.0)


def test_paper_tokens_are_all_prefixes_and_the_rest_of_the_kept_paths():
    # prefixes 5 + 10 + 10 + 10, then 0 + 20
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=False) == 55
    assert paper_tokens(LENGTHS, 10, np.ones(4, bool), type_ii=True) == 85
    assert paper_tokens(LENGTHS, 10, np.zeros(4, bool), type_ii=False) == 35


def test_paper_tokens_add_a_prefix_per_discarded_path_for_type_ii_only():
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=False) == 55
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=True) == 55 + 2 * 10


def test_a_keep_that_is_no_mask_is_refused():
    with pytest.raises(ValueError, match="keep must be bool"):
        paper_tokens(LENGTHS, 10, np.array([0, 2]), type_ii=False)


def test_decoding_costs_twice_the_parameters_and_attention_to_all_that_came_before():
    # three tokens behind a prompt of 3 attend to 4, 5 and 6 positions
    span = np.array([0]), np.array([3])
    assert MODEL.decoding(3, *span) == 3 * 2000 + 64 * (4 + 5 + 6)
    # in two parts it costs the same
    assert MODEL.decoding(3, np.array([0]), np.array([1])) + MODEL.decoding(3, np.array([1]), np.array([3])) == (
        MODEL.decoding(3, *span)
    )


def test_tokens_fall_into_their_phases_and_kinds():
    launch, check, resume = entries(record(), "m", [played(Cost(7, 5, 3))], MODEL)
    assert (launch.decoded_tokens, check.decoded_tokens, resume.decoded_tokens) == (35, 0, 20)
    assert (check.reencoded_tokens, check.probe_tokens, check.check_tokens) == (7, 5, 3)
    assert launch.tokens + check.tokens + resume.tokens == 35 + 15 + 20
    assert (launch.phase, check.phase, resume.phase) == ("launch", "check", "resume")
    assert launch.flops + resume.flops == MODEL.decoding(3, np.zeros(4, int), np.array([5, 10, 30, 10]))
    # the longest prefix and its prompt are 13 positions
    assert check.flops == 15 * (2000 + 64 * 13)


def test_a_judge_is_charged_by_its_own_size_and_the_generators_share_besides():
    judged = Cost(reencoded_tokens=20, flops=20 * 2 * 2000)
    assert MODEL.beyond(judged, 13) == 80_000
    both = judged + Cost(check_tokens=4)
    assert MODEL.beyond(both, 13) == 80_000 + 4 * (2000 + 64 * 13)


def test_memory_is_what_the_paths_alive_hold_at_once():
    launch, check, resume = entries(record(), "m", [played()], MODEL)
    # at 10 tokens three paths hold 13 positions each: 39; at 5 all four hold 8 each: 32
    assert launch.peak_kv_bytes == check.peak_kv_bytes == 39 * 16
    # only the path of 30 goes on: the one of 5 has ended
    assert resume.peak_kv_bytes == 33 * 16
    everything = entries(record(), "m", [played(keep=np.ones(4, bool))], MODEL)[2]
    # at 30 tokens two paths hold 33 each
    assert everything.peak_kv_bytes == 66 * 16


def test_means_are_over_the_draws():
    rows = entries(record(), "m", [played(Cost(check_tokens=2)), played(Cost(check_tokens=4))], MODEL)
    assert rows[1].check_tokens == 3


def test_a_generator_token_is_the_mean_of_the_complete_paths():
    whole = entries(record(), "none", [played(keep=np.ones(4, bool))], MODEL)
    unit = generator_token([record()], MODEL)
    assert unit == MODEL.decoding(3, np.zeros(4, int), LENGTHS) / 85
    assert in_generator_tokens(whole, [played()], unit) == pytest.approx(85)
    # early tokens attend to little, hence cost less than one each
    pruned = entries(record(), "m", [played()], MODEL)
    assert in_generator_tokens(pruned, [played()], unit) < 55
    flat = Arithmetic(1000, 0, 0, 0)
    judged = played(Cost(reencoded_tokens=20, flops=20 * 2 * 2000))
    rows = entries(record(), "m", [judged], flat)
    assert in_generator_tokens(rows, [judged], generator_token([record()], flat)) == pytest.approx(55 + 40)


def test_without_a_model_only_the_generators_own_tokens_are_a_cost():
    asked, judged = played(Cost(check_tokens=4)), played(Cost(reencoded_tokens=20, flops=1.0))
    assert math.isnan(generator_token([record()], None))
    rows = entries(record(), "m", [asked], None)
    assert math.isnan(rows[0].flops) and math.isnan(rows[0].peak_kv_bytes)
    assert in_generator_tokens(rows, [asked], math.nan) == 59
    assert math.isnan(in_generator_tokens(entries(record(), "m", [judged], None), [judged], math.nan))


def test_the_shape_of_a_model_is_read_from_its_configuration():
    config = SimpleNamespace(num_attention_heads=4, num_key_value_heads=2, hidden_size=32, num_hidden_layers=3)
    model = Arithmetic.of(config, 100, 4)
    assert model == Arithmetic(parameters=100, layers=3, width=32, kv_bytes=2 * 3 * 2 * 8 * 4)
    with pytest.raises(ValueError, match="parameters = 0"):
        Arithmetic.of(config, 0, 4)


def test_the_ledger_is_a_line_per_phase():
    lines = ledger_csv(entries(record(), "m", [played()], None)).splitlines()
    assert lines[0].startswith("task,problem,method,phase,decoded_tokens")
    assert lines[3] == "t,p,m,resume,20,0,0,0,nan,nan,0,0"


def test_a_model_beside_the_generator_is_held_while_it_checks():
    rows = entries(
        record(), "m", [played(Cost(flops=1.0, model_bytes=100)), played(Cost(flops=1.0, model_bytes=300))], None
    )
    assert [row.judge_bytes for row in rows] == [0, 200, 0]
    assert (Cost(model_bytes=3) + Cost(model_bytes=5)).model_bytes == 5


def test_what_tools_wrote_is_counted_where_it_was_decoded():
    """5, 10, 30 and 40 tokens, a check at 10, the first and third path kept; spans before, across and behind it."""
    spans = (((0, 2),), ((4, 12),), ((8, 13), (20, 25)), ((30, 40),))
    launch, check, resume = entries(record(tool_spans=spans), "m", [played()], None)
    assert (launch.tool_tokens, check.tool_tokens, resume.tool_tokens) == (2 + 6 + 2, 0, 3 + 5)
