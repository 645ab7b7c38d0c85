from __future__ import annotations

import numpy as np
import pytest

from bench.ledger import Ledger, paper_tokens
from methods.base import Cost

LENGTHS = np.array([5, 10, 30, 40])
KEEP = np.array([True, False, True, False])


def test_paper_tokens_are_all_prefixes_and_the_rest_of_the_kept_paths():
    # prefixes 5 + 10 + 10 + 10, then 0 + 20
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=False) == 55
    assert paper_tokens(LENGTHS, 10, np.ones(4, bool), type_ii=True) == 85
    assert paper_tokens(LENGTHS, 10, np.zeros(4, bool), type_ii=False) == 35


def test_paper_tokens_add_a_prefix_per_discarded_path_for_type_ii_only():
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=False) == 55
    assert paper_tokens(LENGTHS, 10, KEEP, type_ii=True) == 55 + 2 * 10


def test_ledger_counts_all_tokens_but_weighs_flops_by_the_generators_size():
    own = Ledger(100, Cost(20, 3, 4))
    assert own.tokens == 127
    assert own.in_generator_tokens(1000) == 127
    # a judge with twice the parameters reads 20 tokens: 20 * 2 * 2000 FLOPs are 40 tokens of the generator
    judged = Ledger(100, Cost(reencoded_tokens=20, flops=20 * 2 * 2000))
    assert judged.tokens == 120
    assert judged.in_generator_tokens(1000) == 140
    # both of them together: the generator's own tokens count as they are
    both = Ledger(100, judged.beyond + own.beyond)
    assert both.tokens == 147
    assert both.in_generator_tokens(1000) == 100 + 27 + 40
    assert Ledger(100, own.beyond + own.beyond).in_generator_tokens(1000) == 100 + 54


def test_a_keep_that_is_no_mask_is_refused():
    with pytest.raises(ValueError, match="keep must be bool"):
        paper_tokens(LENGTHS, 10, np.array([0, 2]), type_ii=False)
    with pytest.raises(ValueError, match="parameters = 0"):
        Ledger(1, Cost()).in_generator_tokens(0)
