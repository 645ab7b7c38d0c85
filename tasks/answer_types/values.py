"""What a sentence that declares an answer gives as the answer: a number, an expression, a few words."""

from __future__ import annotations

import re

from prunebench.tasks.answer_types.boxes import Piece, listed, listing
from prunebench.tasks.grading import number, read

_DELIMITED = re.compile(
    r"\$(?P<dollars>[^\s$](?:[^$]{0,400}[^\s$])?)\$(?!\d)|\\\((?P<round>.{1,400}?)\\\)|\\\[(?P<square>.{1,400}?)\\\]"
    r"|\*\*(?P<bold>[^\s*][^*]{0,400}?)\*\*|`(?P<code>[^`]{1,400})`|\"(?P<quoted>[^\"\n]{1,200})\""
)
_CLAUSE = re.compile(
    r",? (?:because|since|which|where|when|as required|as desired|so that|so|i\.e\.)(?: |$)| ?[;—]| [–-] [A-Za-z]{3}"
    r"| \((?=[A-Za-z]{2})|, \""
)
_END = re.compile(r"(?:[.,]|(?<!\d)!)$")
_PROSE = re.compile(r"[A-Za-z]{3}|\b(?:it|is|so|we|he|to|of|in|at|by|an|no|if|as|or|be|me|do|go)\b", re.IGNORECASE)
_TIDY = " \t*_`\"'“”"
_NUMBER = re.compile(r"(?<![\w.,/])[+-]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?(?![\w/^])")
_CHAIN = re.compile(r"(?:[\d\s.,+*/()×·÷−-]|\\(?:times|cdot|div)|(?<=\d )x(?= \d))+|[A-Za-z](?:_\{?\w\}?)?")
_WORDS = re.compile(r"[A-Za-z]{3,}|a|an|of|in|is|he|she|it|at|by|to|we|on|or|and")
_NO_COUNT = re.compile(
    r"\b(?:not|least|most|more|less|fewer|than|over|under|between|above|below|at|or|and|plus|minus|times|divided|squared"
    r"|cubed|root|half|halves|thirds?|quarters?|power|factorial|negative|pi|hundred|thousand|million|billion|trillion"
    r"|dozen|percent|degrees?|infinity|hours?|minutes?|undefined|log|exp|sqrt|sin|cos|tan|mod|modulo|base)\b",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(
    r"(?:an?|the|in|of|to|that|what|we|not|as|it|its|given|unclear|unknown|found|correct|wrong|right|incorrect|this|always"
    r"|also|therefore|so|likely|probably|below|above|based|asked|required|simply|just|going|expected|supposed)\b",
    re.IGNORECASE,
)
_COMMANDS = re.compile(r"\\[A-Za-z]+|\b(?:sqrt|exp|log|ln|sin|cos|tan|inf|pi)\b")
_MATHEMATICS = re.compile(r"[\d\\^=+*/π∞√½⅓¼]")
_WORD = re.compile(r"[A-Za-z]{2,}")
MOST_WORDS = 3
MOST_WORDS_OF_ANSWERS = 12
LONGEST = 200
"""Characters of a value that a sentence gives."""


def expression_in(sentence: str) -> str | None:
    """The number or expression that a declaring sentence gives; None where it gives none."""
    if "\\boxed" in sentence or "\\fbox" in sentence:
        return None  # an empty or an open box
    text = _delimited(sentence) or sentence
    clause = _CLAUSE.search(text, 1) if text is sentence else None
    text = _bare(text[: clause.start()] if clause else text)
    if not text or len(text) > LONGEST or _NO_VALUE.match(text):
        return None
    text = _last_side(text)
    if number(text) is not None:
        return text
    if counted := _counted(text):
        return counted
    return text if _MATHEMATICS.search(text) or len(text.split()) <= MOST_WORDS else None


def expression_alone(line: str) -> str | None:
    """The line where it is a number or an expression and nothing else."""
    text = _bare(_delimited(line, whole=True) or line)
    if not text or len(text) > LONGEST or text[-1] in "?:" or "\\boxed" in text or "\\fbox" in text:
        return None
    text = _last_side(text)
    if read(text).kind in ("number", "percent", "degrees"):
        return text
    plain = _COMMANDS.sub("", text)
    return text if _MATHEMATICS.search(text) and _PROSE.search(plain) is None else None


def is_prose(text: str, most_words: int = MOST_WORDS_OF_ANSWERS) -> bool:
    """Whether a text is a solution rather than an answer: many words, or some words in several lines."""
    words = len(_WORD.findall(_COMMANDS.sub(" ", text)))
    return words > most_words or (words > MOST_WORDS and "\n" in text.strip())


def bold_alone(line: str) -> str | None:
    """What a line says that is bold from its begin to its end."""
    bold = re.fullmatch(r"\*\*([^*]+)\*\*[.]?", line)
    return bold[1].strip() if bold else None


def text_in(sentence: str) -> str | None:
    """What a declaring sentence gives, taken as a text."""
    if "\\boxed" in sentence or "\\fbox" in sentence:
        return None
    first = _DELIMITED.match(sentence)
    text = _bare(_content(first) if first else sentence)
    return text if text and len(text) <= LONGEST else None


def last_number(text: str) -> str | None:
    """The last number of the last sentence."""
    sentences = re.split(r"(?<=[.!?])\s+|\n", text.strip()[-4 * LONGEST :])
    numbers = _NUMBER.findall(sentences[-1])
    return _bare(numbers[-1]) if numbers else None


def _delimited(sentence: str, whole: bool = False) -> str | None:
    """What stands between the first delimiters, and what is listed with it; None where it is not all of the value."""
    pieces = [Piece(match.start(), match.end(), _content(match)) for match in _DELIMITED.finditer(sentence)]
    if not pieces:
        return None
    if whole:
        return pieces[0].content if not sentence[: pieces[0].start] + sentence[pieces[0].end :].strip(" .") else None
    last = 0
    while last + 1 < len(pieces) and listed(sentence, pieces[last], pieces[last + 1]):
        last += 1
    before, behind = sentence[: pieces[0].start], sentence[pieces[last].end :]
    if re.search(r"\d", before) or _NO_COUNT.match(behind.lstrip()) or re.match(r"\s*[\d+*/^=-]", behind):
        return None
    return listing([piece.content for piece in pieces[: last + 1]])


def _content(match: re.Match[str]) -> str:
    return next(text for text in match.groups() if text is not None).strip(" $")


def _bare(text: str) -> str:
    text = text.strip(_TIDY)
    if not text.endswith(".."):  # 0.33... goes on
        text = _END.sub("", text).strip(_TIDY)
    text = text[:-1] if text.endswith("}") and text.count("}") > text.count("{") else text
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == "$" and "$" not in text[1:-1] else text


def _last_side(text: str) -> str:
    """The number at the end of a chain of equations that holds no unknown beside a single variable."""
    *sides, last = text.split("=")
    known = sides and all(_CHAIN.fullmatch(side.strip()) for side in sides)
    return last.strip() if known and number(last.strip()) is not None else text


def _counted(text: str) -> str | None:
    """The only number of a text whose other words say what is counted: 42 of ``42 apples``."""
    numbers = _NUMBER.findall(text)
    rest = _NUMBER.sub(" ", text, count=1).replace(",", " ").split()
    if len(numbers) != 1 or not rest or _NO_COUNT.search(text) or not all(map(_WORDS.fullmatch, rest)):
        return None
    return str(numbers[0])
