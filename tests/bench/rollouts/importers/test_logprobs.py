from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.logprobs import logprobs_of
from prunebench.bench.rollouts.importers.records import Record

NAN = float("nan")
CHAT = [
    {"token": "so", "logprob": -0.5, "bytes": [115, 111], "top_logprobs": [{"token": "so", "logprob": -0.5}]},
    {"token": " 5", "logprob": -9999.0, "bytes": None, "top_logprobs": []},
]


def read(value, ids=None):
    ids = None if ids is None else np.array(ids, np.int64)
    return logprobs_of(Record(Path("rows.jsonl"), "line 1", {"logprobs": value}, {}), "logprobs", ids)


@pytest.mark.parametrize(
    ("value", "ids", "numbers", "tokens"),
    [
        ([-0.5, -1], None, [-0.5, -1], None),
        ([-0.5, None, NAN, float("-inf"), -9999.0], None, [-0.5, NAN, NAN, NAN, NAN], None),
        ({"content": CHAT, "refusal": None}, None, [-0.5, NAN], ["so", " 5"]),
        (CHAT, None, [-0.5, NAN], ["so", " 5"]),
        (
            {"tokens": ["so", " 5"], "token_logprobs": [None, -1.5], "top_logprobs": [None, {" 5": -1.5}]},
            None,
            [NAN, -1.5],
            ["so", " 5"],
        ),
        (
            [
                {"8": {"logprob": -0.1, "rank": 1, "decoded_token": "a"}, "4": {"logprob": -3, "decoded_token": "so"}},
                {"9": {"logprob": -0.25, "rank": 1, "decoded_token": " 5"}},
            ],
            [4, 9],
            [-3, -0.25],
            ["so", " 5"],
        ),
        ([{"8": -0.1, "4": -3.0}, {"9": -0.25}], [4, 9], [-3, -0.25], None),
        ([{"8": -0.1, "4": -3.0}, {"9": -0.25}], None, [NAN, -0.25], None),  # nothing tells which one was sampled
        ([{"8": -0.1, "4": None}, None], [8, 9], [-0.1, NAN], None),
        ([[-0.5, 4, "so"], [-1.5, 9, " 5"]], None, [-0.5, -1.5], ["so", " 5"]),
        ([[-0.5, 4, None], [-1.5, 9, None]], None, [-0.5, -1.5], None),
        ([], [], [], None),
    ],
)
def test_every_form_gives_the_sampled_tokens(value, ids, numbers, tokens):
    found = read(value, ids)
    assert found is not None and found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, np.array(numbers, np.float32))
    assert found.tokens == tokens


@pytest.mark.parametrize("value", [None, {"content": None, "refusal": None}, {"token_logprobs": None}])
def test_what_the_source_lacks_is_missing(value):
    assert read(value) is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("-0.5", "field 'logprobs' is '-0.5', not a list of log-probabilities"),
        ([-0.5, "x"], r"field 'logprobs\[1\]' is 'x', not a number"),
        ([True], r"field 'logprobs\[0\]' is True, not a number"),
        ({"content": [{"logprob": "x"}]}, r"field 'logprobs\[0\]' is 'x', not a number"),
    ],
)
def test_another_form_is_named(value, complaint):
    with pytest.raises(UserError, match=complaint):
        read(value)
