"""What a token is for rollouts made elsewhere: the source's own, a tokenizer's, or a word."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import SourcePath

WORDS = "words"
SOURCE = "source"
_PIECE = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


@dataclass(frozen=True)
class Measured:
    """A path in tokens: ``token_ids`` and ``ends`` are int64 (``length``,), see :class:`StoredPath`."""

    length: int
    token_ids: NDArray[np.int64] | None
    text: str | None
    ends: NDArray[np.int64] | None


class TokenUnits(ABC):
    """One way to count tokens, for all paths of an import. ``name`` is what the manifest calls it."""

    name: str

    @abstractmethod
    def check(self, path: SourcePath) -> None:
        """Raises ValueError for a path that does not have these tokens."""

    @abstractmethod
    def measure(self, path: SourcePath) -> Measured:
        """A checked path in these tokens."""


def has_tokens(path: SourcePath) -> bool:
    """Whether the source itself counts the path's tokens."""
    return path.token_ids is not None or path.tokens is not None or path.length is not None


def units_for(path: SourcePath, tokenizer: str | None) -> TokenUnits:
    """The units that fit ``path``: the source's tokens where it has them, else the tokenizer's, else words."""
    loaded = None if tokenizer is None else load_tokenizer(tokenizer)
    if has_tokens(path):
        return SourceTokens(loaded)
    return WordTokens() if loaded is None else TokenizerTokens(str(tokenizer), loaded)


class SourceTokens(TokenUnits):
    """The tokens of the source, as ids, as texts, or only as a number.

    ``tokenizer`` turns ids into text; where the source's text does not begin as these ids do, prefixes have no text.
    """

    name = SOURCE

    def __init__(self, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer

    def check(self, path: SourcePath) -> None:
        if not has_tokens(path):
            raise ValueError("no tokens, although other paths of this source have some; give all of them or none")
        if path.token_ids is not None and path.tokens is not None and len(path.token_ids) != len(path.tokens):
            raise ValueError(f"{len(path.token_ids)} token ids, but {len(path.tokens)} tokens")

    def measure(self, path: SourcePath) -> Measured:
        ids, pieces = path.token_ids, path.tokens
        if ids is None and pieces is not None:
            ids = _ids(pieces)
        if ids is None:
            return Measured(path.length or 0, None, path.text, None)
        if pieces is None and self.tokenizer is not None:
            pieces = _decoded(self.tokenizer, ids)
        if pieces is None:
            return Measured(len(ids), ids, path.text, None)
        return Measured(len(ids), ids, *_aligned(path.text, pieces))


def _aligned(text: str | None, pieces: Sequence[str]) -> tuple[str, NDArray[np.int64] | None]:
    """The text and the ends of its pieces; None for the ends where the pieces are not those of the text.

    The source may have cut off the end (a stop word, blanks), or show half of a last character as U+FFFD.
    """
    joined = "".join(pieces)
    if text is None:
        text = joined
    if not joined.startswith(text) and text.rstrip("\N{REPLACEMENT CHARACTER}") != joined:
        return text, None
    return text, np.minimum(np.fromiter(accumulate(map(len, pieces)), np.int64, len(pieces)), len(text))


class TextUnits(TokenUnits):
    """What is counted in the text, because the source has no tokens."""

    def check(self, path: SourcePath) -> None:
        if has_tokens(path):
            raise ValueError("tokens, although other paths of this source have only text; give all of them or none")
        if path.text is None:
            raise ValueError("neither text nor tokens")


class TokenizerTokens(TextUnits):
    """The text in the tokens of a tokenizer."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.name = f"{name} {hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:12]}"

    def measure(self, path: SourcePath) -> Measured:
        text = path.text or ""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        ends = np.array([end for _, end in encoded.offsets], np.int64)
        return Measured(len(ends), np.array(encoded.ids, np.int64), text, ends)


class WordTokens(TextUnits):
    """Words and single symbols, each with the white space before it; the pieces make up the whole text."""

    name = WORDS

    def measure(self, path: SourcePath) -> Measured:
        text = path.text or ""
        pieces = _PIECE.findall(text)
        ends = np.fromiter(accumulate(map(len, pieces)), np.int64, len(pieces))
        return Measured(len(pieces), _ids(pieces), text, ends)


@lru_cache(maxsize=1 << 16)
def piece_id(piece: str) -> int:
    """31 bits that stand for a piece of text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(piece.encode()).digest()[:4], "big") >> 1


def _ids(pieces: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(piece_id, pieces), np.int64, len(pieces))


def _decoded(tokenizer: Any, ids: NDArray[np.int64]) -> list[str]:
    """The text that every token adds; nothing for special ones and for those that end within a character."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    return [stream.step(tokenizer, int(token)) or "" for token in ids]


def load_tokenizer(name: str) -> Any:
    """The ``tokenizers.Tokenizer`` of a folder or cached id on this machine. Raises UserError where there is none."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        kind = "folder" if Path(name).is_dir() else "id"
        raise UserError(
            f"tokenizer {kind} '{name}': no tokenizer can be loaded from it on this machine; "
            "give a folder with a tokenizer.json, or download it first"
        ) from error
    tokenizer = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        raise UserError(f"tokenizer '{name}' is not a fast one, so its tokens have no offsets; give a fast tokenizer")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
