from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.errors import UserError
from prunebench.tasks import near_duplicates as module
from prunebench.tasks.near_duplicates import NearDuplicate, near_duplicates, ngrams, note, tokens


def words(count: int, prefix: str = "w") -> list[str]:
    """Distinct words without digits."""
    letters = "abcdefghij"
    return [prefix + "".join(letters[int(digit)] for digit in str(number)) for number in range(count)]


def test_tokens_are_lower_case_words_whole_numbers_and_single_signs():
    assert tokens("Find  x_12 in\n\\frac{1250}{3.5}, État!") == (
        "find", "x", "_", "12", "in", "\\", "frac", "{", "1250", "}", "{", "3.5", "}", ",", "état", "!",
    )  # fmt: skip


def test_ngrams_are_distinct_and_a_short_prompt_is_one():
    assert ngrams(("a", "b", "a", "b"), 2) == {("a", "b"), ("b", "a")}
    assert ngrams(("a", "b"), 2) == {("a", "b")}
    assert ngrams(("a", "b"), 3) == {("a", "b")}


def test_overlap_is_the_share_of_the_evaluated_problems_ngrams():
    # bigrams of the evaluated: ab bc cd de; of t1: ab bc cx; of t2: cd de ef fg gh
    trained = {"t1": "a b c x", "t2": "c d e f g h", "t3": "a c e"}
    assert near_duplicates({"e": "A b\nc d e"}, trained, n=2) == [
        NearDuplicate("e", "t1", 0.5),
        NearDuplicate("e", "t2", 0.5),
    ]
    # the other way round it is 2 of 3 and 2 of 5
    assert near_duplicates(trained, {"e": "a b c d e"}, n=2) == [NearDuplicate("t1", "e", 2 / 3)]


def test_overlap_is_with_one_training_problem_not_with_all_together():
    assert near_duplicates({"e": "a b c d e"}, {"t1": "a b c", "t2": "c d e"}, n=2, share=0.6) == []


def test_a_gram_that_comes_twice_counts_once():
    # distinct bigrams: ab ba bc; two of them are in t
    assert near_duplicates({"e": "a b a b a b c"}, {"t": "x b a b"}, n=2) == [NearDuplicate("e", "t", 2 / 3)]


def test_one_changed_number_is_found_and_many_are_not():
    text = words(31)
    trained = {"t": " ".join(text)}
    # 24 8-grams, of which the middle token is in 8
    text[15] = "17"
    assert near_duplicates({"e": " ".join(text)}, trained) == [NearDuplicate("e", "t", 16 / 24)]
    # a number changed in every eighth place leaves none
    every = ["17" if place % 8 == 7 else word for place, word in enumerate(words(31))]
    assert near_duplicates({"e": " ".join(every)}, trained, share=0.01) == []


def test_short_prompts_match_only_as_a_whole():
    trained = {"t": "Find 2 + 2 .", "u": "find 2 + 3 .", "v": "please find 2 + 2 . now , I say"}
    assert near_duplicates({"e": "find 2+2."}, trained, share=0.01) == [NearDuplicate("e", "t", 1.0)]


def test_equal_ids_are_left_out():
    assert near_duplicates({"a": "x y z", "b": "x y z"}, {"a": "x y z"}, n=2) == [NearDuplicate("b", "a", 1.0)]


INSTRUCTION = " ".join(words(40, "instruction"))


def test_shared_instructions_count_for_nothing():
    # 33 8-grams of instruction and 1 that reaches into the question (its last token) in every prompt
    trained = {f"t{place}": f"{INSTRUCTION} {word}" for place, word in enumerate(words(20))}
    assert near_duplicates({"e": f"{INSTRUCTION} new"}, trained, share=0.01) == []
    assert near_duplicates({"e": f"{INSTRUCTION} {words(20)[7]}"}, trained) == [NearDuplicate("e", "t7", 1.0)]
    # nine such prompts are too few to tell an instruction from a repeated problem
    nine = dict(list(trained.items())[:9])
    assert {pair.overlap for pair in near_duplicates({"e": f"{INSTRUCTION} new"}, nine)} == {33 / 34}


@pytest.mark.parametrize(
    ("holders", "problems", "is_boilerplate"), [(9, 9, 0), (10, 10, 1), (10, 100, 0), (11, 100, 1)]
)
def test_boilerplate_is_in_ten_problems_and_in_more_than_a_tenth(holders, problems, is_boilerplate):
    others = problems - holders
    trained = {f"t{place}": f"a b c {word}" for place, word in enumerate(words(holders))}
    trained |= {f"u{place}": f"{word} x y z" for place, word in enumerate(words(others, "v"))}
    # of the trigrams abc and bcd, the second is nobody's
    pairs = near_duplicates({"e": "a b c d"}, trained, n=3)
    assert len(pairs) == (0 if is_boilerplate else holders)


def test_where_all_is_boilerplate_only_the_same_whole_prompt_counts():
    trained = {f"t{place}": "a b c d e" for place in range(10)} | {"longer": "a b c d e f"}
    pairs = near_duplicates({"same": "a b c d e", "part": "b c d e"}, trained, n=2)
    assert {pair.evaluated for pair in pairs} == {"same"}
    assert {pair.trained for pair in pairs} == {f"t{place}" for place in range(10)}
    assert {pair.overlap for pair in pairs} == {1.0}


short = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


@given(st.lists(short, min_size=1, max_size=5), st.lists(short, max_size=9), st.integers(1, 4), st.floats(0.01, 1))
def test_equals_the_comparison_of_every_pair(evaluated, trained, n, share):
    """Below ten training problems there is no boilerplate, and the definition can be written down directly."""
    ours = {f"e{place}": text for place, text in enumerate(evaluated)}
    theirs = {f"t{place}": text for place, text in enumerate(trained)}
    expected = set()
    for name, text in ours.items():
        grams = ngrams(tokens(text), n)
        for other, known in theirs.items():
            overlap = len(grams & ngrams(tokens(known), n)) / len(grams)
            if overlap >= share:
                expected.add(NearDuplicate(name, other, overlap))
    pairs = near_duplicates(ours, theirs, n, share)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert [pair.overlap for pair in pairs] == sorted((pair.overlap for pair in pairs), reverse=True)


def test_only_problems_that_share_wording_are_compared(monkeypatch):
    """1,500 prompts against 1,500 with one instruction: every prompt meets its own copy, not the other 1,499."""
    count, compared = 1500, Counter()
    shared = module._shared

    def counting(grams, index):
        shared_by = shared(grams, index)
        compared.update(shared_by)
        return shared_by

    monkeypatch.setattr(module, "_shared", counting)
    prompts = [f"find the value of a and b , if {first} then {second}" for first, second in
               zip(words(count, "p"), words(count, "q"), strict=True)]  # fmt: skip
    pairs = near_duplicates(
        {f"e{place}": text for place, text in enumerate(prompts)},
        {f"t{place}": text for place, text in enumerate(prompts)},
    )
    assert [(pair.evaluated[1:] == pair.trained[1:], pair.overlap) for pair in pairs] == [(True, 1.0)] * count
    # 12 tokens are 5 8-grams; the first two (up to "if") are boilerplate
    assert compared.total() == 3 * count


def test_note_counts_problems_and_names_the_three_closest_pairs():
    assert note([], 12) is None
    pairs = [
        NearDuplicate("e1", "t1", 1.0),
        NearDuplicate("e1", "t2", 0.75),
        NearDuplicate("e2", "t1", 2 / 3),
        NearDuplicate("e3", "t9", 0.5),
    ]
    assert note(pairs, 12) == (
        "3 of 12 evaluated problems nearly repeat a training problem; the closest by wording: "
        "e1 and t1 (100 %), e1 and t2 (75 %), e2 and t1 (67 %)"
    )


@pytest.mark.parametrize(
    ("n", "share", "message"), [(0, 0.5, "n = 0: "), (8, 0, "share = 0: "), (8, 1.5, "share = 1.5: ")]
)
def test_impossible_settings_are_refused(n, share, message):
    with pytest.raises(UserError, match=message):
        near_duplicates({"e": "a"}, {"t": "a"}, n, share)
