r"""An expression as LaTeX that has one meaning: what the parser behind :mod:`tasks.grading` is given to read.

That parser takes a great deal for granted: ``2(\frac12)`` and ``(3)(4)`` are mixed numbers to it, an index at a number
and a degree sign are nothing. So every token has to be one of those that it reads in full, multiplication is written
out, and what a mathematician would ask about (``1/2x``, ``2^3^2``, ``\sqrt12``) is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prunebench.tasks.inequalities import AND, RELATION, joined, rising
from prunebench.tasks.spelling import SQUARED, UNIT, UnreadError

LONGEST_WORD = 40

PLAIN_LOG = r"\log_{?}"
"""How a logarithm without its base is written: to base e, or to base 10."""
_DEGREE = r"\cdot \frac{\pi}{180}"
_ANGLED = {r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc"}
_FUNCTIONS = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp"
_GREEK = (
    "pi|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi"
    "|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega"
)
_TOKEN = re.compile(
    r" +|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<word>(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z]))|(?P<letter>[A-Za-z])"
    rf"|\\(?:(?P<value>(?:{_GREEK}|infty|emptyset)(?![A-Za-z])|mathbb ?\{{[RZNQC]\}})"
    rf"|(?P<function>(?:{_FUNCTIONS})(?![A-Za-z]))|(?P<built>(?:frac|sqrt|binom)(?![A-Za-z]))"
    r"|(?P<matrix>(?:begin|end) ?\{[pbv]?matrix\})"
    r"|(?P<degree>degree)|(?P<series>(?:sum|prod|int)(?![A-Za-z]))"
    r"|(?P<sign>(?:cdot|times|div|pm|le|ge|ne|lt|gt|cup|cap|in|setminus)(?![A-Za-z])|\\)"
    r"|(?P<fence>[{}]|[lr](?:floor|ceil)(?![A-Za-z])))"
    r"|(?P<plain>[-+*/^_!(){}\[\],;=<>|&])"
)
_WORDS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<![A-Za-z\\])(pi|infty|theta|alpha|beta|gamma|lambda|emptyset)(?![A-Za-z])", r"\\\1 "),
        (rf"(?<![A-Za-z\\])(sqrt|{_FUNCTIONS})(?= ?[(^_{{\\\d])", r"\\\1 "),
        (r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"(?<=[\d)}])pi(?![A-Za-z])", r"\\pi "),
        (r"\*\*", "^"),
        (r"<=|=<", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"\^ ?\\prime(?![A-Za-z])", "'"),
        (r"\\(?:lt)(?![A-Za-z])", "<"),
        (r"\\(?:gt)(?![A-Za-z])", ">"),
        (r"\\mid(?![A-Za-z])", "|"),
        (r"\^ ?(?:\{ ?\\circ ?\}|\\circ(?![A-Za-z]))|°| ?\\degree(?![A-Za-z])", r"\\degree "),
        (r"\\lvert(?![A-Za-z])|\\rvert(?![A-Za-z])|\\vert(?![A-Za-z])", "|"),
    )
]
_UNSURE = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|log|lg|equiv|p?mod|bmod|degree|circ|angle)(?![A-Za-z])"
    r"|\\begin ?\{(?:cases|array|align)"
)
_BUILT_SET = re.compile(r"\\\{ ?([A-Za-z])(?: ?\\in ?\\mathbb ?\{R\})? ?[|:] ?([^{}|:,;]+)\\\}")
_OVER = re.compile(r"\{ ?([^{}]+?) ?\\over(?![A-Za-z]) ?([^{}]+?) ?\}")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_POWER_OF_TEN = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)) ?[eE]([+-]?\d{1,3})(?![\d.])")
_OPENING = {"(", "[", "{", r"\{", r"\lfloor", r"\lceil"}
_CLOSING = {")", "]", "}", r"\}", r"\rfloor", r"\rceil"}
_TRAILING_UNIT = re.compile(rf"(?<=[\d}})i]) ?{UNIT}{SQUARED}$")


def expression(text: str) -> str:
    """The tidied ``text`` in the one spelling whose every token is read. Raises UnreadError where there is none."""
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    text = _TRAILING_UNIT.sub("", text)
    text = _OVER.sub(r"\\frac{\1}{\2}", text)
    if built := _BUILT_SET.fullmatch(text):
        if not RELATION.search(built[2]):
            raise UnreadError(text)
        text = built[2]
    if not AND.search(text):
        text = rising(text)
    elif RELATION.search(text):
        text = joined(text)
    else:
        text = AND.sub(", ", text)
    if not re.search(r"[(\[{]", text):
        text = _GROUPED.sub(lambda found: found[0].replace(",", ""), text)
    text = _POWER_OF_TEN.sub(r"(\1\\cdot 10^{\2})", text)
    if text.endswith("%"):
        text = f"({text[:-1]})/100"
    return _Writer(_tokens(text)).written()


def unsure(text: str) -> bool:
    """Whether a parser's reading of a part says nothing about the whole ``text``: something in it works on the rest."""
    return _UNSURE.search(text) is not None or bool(AND.search(text) and RELATION.search(text))


class _Writer:
    """Reads tokens one by one and writes each so that it means one thing. ``out`` ends in a value or does not."""

    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0
        self.closed = ""
        self.angle = False

    def written(self) -> str:
        out = self.sequence(None)
        if self.place < len(self.tokens):
            raise UnreadError(self.tokens[self.place][1])
        return out

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("", "")

    def take(self) -> tuple[str, str]:
        self.place += 1
        return self.tokens[self.place - 1] if self.place <= len(self.tokens) else ("", "")

    def sequence(self, end: str | None, mixed: bool = False) -> str:
        """Everything up to the token ``end``, which is taken, too; ``mixed``: up to either bracket of an interval."""
        self.depth += 1
        if self.depth > 40:
            raise UnreadError("nested too deep")
        out, before, divided = "", "", False  # before: the kind of the value that stands right before, if any
        while True:
            kind, mark = self.peek()
            if mark == end or kind == "":
                break
            if kind == "operator":
                self.take()
                if mark == "^" or mark == "_":
                    out, before = out + self.script(mark, before), "script"
                elif mark == "!":
                    if not before or before == "!":
                        raise UnreadError("!!")
                    out, before = out + "!", "!"
                else:
                    if before or mark in ("/", r"\div"):
                        divided = mark in ("/", r"\div")
                    out, before = f"{out}{_spelt_sign(mark)}", ""
                continue
            if kind == "degree":
                self.take()
                out += self.degrees(before, divided)
                before = "degree"
                continue
            if mixed and mark in (")", "]"):
                break
            if mark in _CLOSING or mark.startswith(r"\end"):
                raise UnreadError(mark)
            if before and mark == "[":
                raise UnreadError("a bracket behind a value")
            value, value_kind = self.value()
            out, before = out + _times(before, value_kind, divided) + value, value_kind
        self.depth -= 1
        if end is not None:
            self.closed = self.take()[1]
            if self.closed == "":
                raise UnreadError(f"no {end}")
        return out

    def degrees(self, before: str, divided: bool) -> str:
        """What a degree sign adds: the unit counts where a function takes the angle; elsewhere it only ends a value."""
        if before not in ("integer", "decimal", "group", "proper", "improper", "letter") or divided:
            raise UnreadError("degrees of nothing")
        if self.angle:
            return _DEGREE
        if self.peek()[1] not in ("", ",", ";", ")", "]", r"\}"):
            raise UnreadError("degrees within an expression")
        return ""

    def script(self, sign: str, before: str) -> str:
        if not before or (sign == "^" and before in ("script", "!")) or (sign == "_" and before != "letter"):
            raise UnreadError(f"{sign} behind nothing, a script or a number")
        kind, mark = self.take()
        if mark in ("{", "("):
            inside = self.sequence("}" if mark == "{" else ")")
        elif mark == "-" and self.peek()[0] == "number":
            inside = "-" + self.take()[1]
        elif kind in ("number", "letter") or mark == r"\infty" or (kind == "value" and sign == "^"):
            inside = mark
        else:
            raise UnreadError(f"{sign}{mark}")
        return f"{sign}{{{inside}}}"

    def group(self) -> str:
        """What a command takes: braces or a single digit or letter."""
        kind, mark = self.take()
        if mark == "{":
            return self.sequence("}")
        if mark == "(":
            return self.sequence(")")
        if kind == "number" and len(mark) == 1 and self.peek()[0] != "number":
            return mark
        if kind == "letter" or mark == r"\pi":
            return mark
        raise UnreadError(mark)

    def value(self) -> tuple[str, str]:
        """One value: a number, a letter, a command with what it takes, or something in brackets; and its kind."""
        kind, mark = self.take()
        if kind == "number":
            return (mark, "integer") if mark.isdigit() else (_exact(mark), "decimal")
        if kind in ("letter", "value"):
            if kind == "letter" and mark in "fghFGPQ" and self.peek()[1] == "(":
                self.take()
                return f"{mark}({self.sequence(')')})", "group"
            return mark + (" " if kind == "value" else ""), "letter"
        if kind == "word":
            return rf"\text{{{mark}}}", "word"
        if kind == "function":
            return self.function(mark), "group"
        if kind == "series":
            return self.series(mark), "group"
        if kind == "matrix" and mark.startswith(r"\begin"):
            end = mark.replace("begin", "end")
            return mark + self.sequence(end) + end, "group"
        if kind == "built":
            return self.built(mark)
        if mark == "{":
            return f"({self.sequence('}')})", "group"
        if mark in ("(", "["):
            inside = self.sequence(")" if mark == "(" else "]", mixed=True)
            if (mark, self.closed) not in (("(", ")"), ("[", "]")) and inside.count(",") != 1:
                raise UnreadError("brackets of two kinds")
            return f"{mark}{inside}{self.closed}", "group"
        pairs = {r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "|": "|"}
        if mark in pairs:
            return f"{mark} {self.sequence(pairs[mark])}{pairs[mark]} ", "group"
        raise UnreadError(mark)

    def series(self, mark: str) -> str:
        """A sum, product or integral between bounds, of all that follows; a sum only of what is one product."""
        scripts = {}
        while self.peek()[1] in ("_", "^"):
            sign = self.take()[1]
            scripts[sign] = self.script(sign, "letter")
        body, over = self.tokens[self.place :], ""
        if mark == r"\int":
            if [kind for kind, _ in body[-2:]] != ["letter", "letter"] or body[-2][1] != "d":
                raise UnreadError("an integral over nothing")
            body, over = body[:-2], f" d{body[-1][1]}"
            if ("letter", "d") in body:
                raise UnreadError("a d that is a variable")
        elif not re.match(r"_\{[A-Za-df-z]=", scripts.get("_", "")) or not _one_product(body):
            raise UnreadError("where the sum ends is not said")
        if self.depth > 1 or set(scripts) != {"_", "^"} or not body:
            raise UnreadError("a sum within something")
        self.place = len(self.tokens)
        return f"{mark}{scripts['_']}{scripts['^']} ({_Writer(body).written()}){over}"

    def built(self, mark: str) -> tuple[str, str]:
        if mark == r"\sqrt":
            root = ""
            if self.peek()[1] == "[":
                self.take()
                root = f"[{self.sequence(']')}]"
            return rf"\sqrt{root}{{{self.group()}}}", "group"
        first_kind = self.peek()[0]
        if first_kind == "number" and len(self.peek()[1]) == 2:  # \frac12
            pair = self.take()[1]
            if not pair.isdigit() or self.peek()[0] == "number":
                raise UnreadError(pair)
            top, bottom = pair[0], pair[1]
        else:
            top, bottom = self.group(), self.group()
        whole = top.isdigit() and bottom.isdigit()
        kind = "group" if not whole else "proper" if int(top) < int(bottom) else "improper"
        return f"{mark}{{{top}}}{{{bottom}}}", kind if mark == r"\frac" else "group"

    def function(self, mark: str) -> str:
        scripts = ""
        while self.peek()[1] in ("^", "_"):
            sign = self.take()[1]
            scripts += self.script(sign, "letter")
        if mark == r"\log" and "_" not in scripts:
            mark = PLAIN_LOG
        if "^" in scripts and "-" in scripts:
            raise UnreadError("an inverse or a reciprocal")
        around, self.angle = self.angle, mark in _ANGLED
        if self.peek()[1] in ("(", "{"):
            closer = ")" if self.take()[1] == "(" else "}"
            inside = self.sequence(closer)
            self.angle = around
        else:
            inside, kind = self.value()
            self.angle = around
            if kind == "integer" and self.peek()[0] in ("letter", "value"):
                inside += rf"\cdot {self.value()[0]}"
            if mark in _ANGLED and self.peek()[0] == "degree":
                self.take()
                inside += _DEGREE
            follower, closer = self.peek()
            if follower not in ("operator", "function", "") and closer not in _CLOSING:
                raise UnreadError("where the argument ends is not said")
        return f"{mark}{scripts}({inside})"


def _one_product(tokens: Sequence[tuple[str, str]]) -> bool:
    """Whether nothing is added, compared or listed but in brackets."""
    depth = 0
    for kind, mark in tokens:
        depth += (mark in _OPENING) - (mark in _CLOSING)
        if depth == 0 and kind == "operator" and mark not in "*/^_!" and mark not in (r"\cdot", r"\times"):
            return False
    return True


def _times(before: str, kind: str, divided: bool) -> str:
    """What is written between two values side by side. Raises UnreadError where that has two meanings."""
    if not before or (before == "integer" and kind == "proper" and not divided):
        return ""
    numbers = ("integer", "decimal", "improper")
    if divided or kind in numbers[:2] or (before in (*numbers, "proper") and kind in (*numbers, "proper")):
        raise UnreadError("a product that could be read in two ways, or a slip")  # 1/2x, x2, 3 4
    return r"\cdot "


def _spelt_sign(mark: str) -> str:
    if mark in (",", ";"):
        return f"{mark} "  # 1, 234 is no number
    return f" {mark} " if mark.startswith("\\") and mark != r"\\" else mark


def _exact(decimal: str) -> str:
    digits, places = decimal.replace(".", ""), len(decimal) - decimal.index(".") - 1
    return rf"\frac{{{int(digits)}}}{{{10**places}}}"


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, place = [], 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise UnreadError(text[place])
        place, kind, mark = found.end(), found.lastgroup or "", found[0]
        if kind == "number" and len(mark) > 1 and mark[0] == "0" and mark[1] != ".":
            raise UnreadError(f"the number {mark}")
        if kind == "word":
            tokens.extend(_word(mark))
        elif kind == "plain":
            tokens.append(("operator" if mark in "-+*/^_!,;=<>&" else "fence", mark))
        elif kind == "sign":
            tokens.append(("operator", mark))
        elif kind:
            tokens.append((kind, mark))
    return tokens


def _word(mark: str) -> list[tuple[str, str]]:
    """A word is one thing, a few small letters are a product."""
    if len(mark) > LONGEST_WORD:
        raise UnreadError(mark)
    if re.search(r"[A-Z][a-z]{2}|[A-Za-z]{5}", mark) or (re.search("[a-z]", mark) is None and len(mark) > 2):
        return [("word", mark.casefold())]
    return [("letter", letter) for letter in mark]
