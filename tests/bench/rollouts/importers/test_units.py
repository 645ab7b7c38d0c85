from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import SourcePath
from prunebench.bench.rollouts.importers.units import (
    SourceTokens,
    TokenizerTokens,
    WordTokens,
    load_tokenizer,
    piece_id,
    units_for,
)


def prefixes(measured):
    return [measured.text[:end] for end in measured.ends]


def test_words_are_words_or_single_symbols_with_the_space_before_them():
    measured = WordTokens().measure(SourcePath(text="So  x_1 = 3.5,\nok \n"))
    assert prefixes(measured) == [
        "So",
        "So  x_1",
        "So  x_1 =",
        "So  x_1 = 3",
        "So  x_1 = 3.",
        "So  x_1 = 3.5",
        "So  x_1 = 3.5,",
        "So  x_1 = 3.5,\nok",
        "So  x_1 = 3.5,\nok \n",
    ]
    assert measured.length == 9
    assert len(set(measured.token_ids.tolist())) == 9


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_make_up_the_whole_text(text):
    measured = WordTokens().measure(SourcePath(text=text))
    assert measured.length == len(measured.token_ids) == len(measured.ends)
    ends = [0, *measured.ends.tolist()]
    assert all(before < after for before, after in pairwise(ends))
    assert ends[-1] == len(text)
    pieces = [text[before:after] for before, after in pairwise(ends)]
    assert [piece_id(piece) for piece in pieces] == measured.token_ids.tolist()


def test_a_piece_has_the_same_31_bits_everywhere():
    """SHA-256 of "so" begins with a1 d9 89 08; without the last of these 32 bits that is 0x50ecc484."""
    assert piece_id("so") == 0x50ECC484
    assert max(piece_id(str(number)) for number in range(500)) < 2**31


def test_a_tokenizer_gives_ids_and_the_ends_of_its_tokens(tokenizer):
    loaded = load_tokenizer(tokenizer)
    measured = TokenizerTokens(tokenizer, loaded).measure(SourcePath(text="the answer is é!"))
    assert prefixes(measured) == [
        "the", "the answer", "the answer is", "the answer is ", "the answer is é", "the answer is é", "the answer is é!"
    ]  # fmt: skip
    assert loaded.decode(measured.token_ids.tolist()) == "the answer is é!"


def test_ids_of_the_source_end_where_their_text_ends(tokenizer):
    """A character of four bytes is there with its last token; the end of the text is a token without text."""
    loaded = load_tokenizer(tokenizer)
    ids = np.array([*loaded.encode("the 😀 is").ids, loaded.token_to_id("<eos>")])
    assert len(ids) == 8
    measured = SourceTokens(loaded).measure(SourcePath(text="the 😀 is", token_ids=ids))
    ends = ["the", "the ", "the ", "the ", "the ", "the 😀", "the 😀 is", "the 😀 is"]
    assert prefixes(measured) == ends
    assert measured.token_ids.tolist() == ids.tolist()
    assert prefixes(SourceTokens(loaded).measure(SourcePath(token_ids=ids))) == ends, "the ids alone say it, too"


def test_ids_that_another_tokenizer_would_join_keep_their_own_ends(tokenizer):
    loaded = load_tokenizer(tokenizer)
    ids = np.array([loaded.token_to_id(letter) for letter in ("t", "h", "e")])
    measured = SourceTokens(loaded).measure(SourcePath(text="the", token_ids=ids))
    assert prefixes(measured) == ["t", "th", "the"]
    assert len(loaded.encode("the").ids) == 1


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("the answer", [3, 10, 10]),  # the source cut the stop word off
        ("the answer is", [3, 10, 13]),
        ("an answer is", None),  # ids of something else
        ("the answer is it", None),
    ],
)
def test_ids_have_ends_only_in_their_own_text(tokenizer, text, ends):
    loaded = load_tokenizer(tokenizer)
    ids = np.array(loaded.encode("the answer is").ids)
    measured = SourceTokens(loaded).measure(SourcePath(text=text, token_ids=ids))
    assert measured.text == text
    assert (None if measured.ends is None else measured.ends.tolist()) == ends


def test_half_a_last_character_is_not_there_yet(tokenizer):
    loaded = load_tokenizer(tokenizer)
    ids = np.array(loaded.encode("the 😀").ids[:-1])
    measured = SourceTokens(loaded).measure(SourcePath(text="the \N{REPLACEMENT CHARACTER}", token_ids=ids))
    assert measured.ends.tolist() == [3, 4, 4, 4, 4]


def test_ids_without_a_tokenizer_have_no_ends():
    measured = SourceTokens().measure(SourcePath(text="so 5", token_ids=np.array([4, 9])))
    assert (measured.length, measured.text, measured.ends) == (2, "so 5", None)


def test_tokens_as_texts_need_no_tokenizer():
    measured = SourceTokens().measure(SourcePath(tokens=["so", " 5", "", "!"]))
    assert (measured.text, measured.ends.tolist(), measured.length) == ("so 5!", [2, 4, 4, 5], 4)
    assert measured.token_ids.tolist() == [piece_id(piece) for piece in ("so", " 5", "", "!")]
    other = SourceTokens().measure(SourcePath(text="So 5!", tokens=["so", " 5", "!"]))
    assert (other.text, other.ends) == ("So 5!", None)


def test_a_number_of_tokens_is_only_a_length():
    measured = SourceTokens().measure(SourcePath(length=812))
    assert (measured.length, measured.token_ids, measured.text, measured.ends) == (812, None, None, None)


def test_the_first_path_says_what_a_token_is(tokenizer):
    assert units_for(SourcePath(text="x"), None).name == "words"
    assert units_for(SourcePath(token_ids=np.arange(2)), None).name == "source"
    assert units_for(SourcePath(length=2), tokenizer).name == "source"
    name, digest = units_for(SourcePath(text="x"), tokenizer).name.rsplit(" ", 1)
    assert name == tokenizer and len(digest) == 12


@pytest.mark.parametrize(
    ("units", "path", "complaint"),
    [
        (SourceTokens(), SourcePath(text="x"), "no tokens, although other paths"),
        (WordTokens(), SourcePath(text="x", token_ids=np.arange(1)), "tokens, although other paths"),
        (WordTokens(), SourcePath(), "neither text nor tokens"),
        (SourceTokens(), SourcePath(tokens=["a"], token_ids=np.arange(2)), "2 token ids, but 1 tokens"),
    ],
)
def test_one_import_has_one_kind_of_tokens(units, path, complaint):
    with pytest.raises(ValueError, match=complaint):
        units.check(path)


def test_a_tokenizer_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer folder '.*': no tokenizer can be loaded .* tokenizer\.json"):
        load_tokenizer(str(tmp_path))
