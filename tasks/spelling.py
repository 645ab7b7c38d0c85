"""One spelling for what only looks different: characters of Unicode, commands that set a style, units in words."""

from __future__ import annotations

import re
import unicodedata

UNIT = (
    r"(?:mm|cm|dm|km|(?:milli|centi|kilo)?met(?:er|re)|in|inch(?:es)?|ft|foot|feet|yd|yard|mi|mile|mph"
    r"|mg|kg|(?:milli|kilo)?gram|lb|pound|oz|ounce|ton|m[lL]|(?:milli)?lit(?:er|re)|gallon"
    r"|sec|second|min|minute|hr|hour|day|week|month|year|deg|degree|rad|radian"
    r"|cup|pint|quart|tablespoon|teaspoon|acre|hectare|USD|EUR|GBP|dollar|cent|euro|unit|point|person|people|way)s?"
)
SQUARED = r"(?: ?\^ ?(?:[23]|\{ ?[23] ?\})|[²³])?"

_CHARACTERS: dict[int, int | str | None] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width
_CHARACTERS |= dict.fromkeys(map(ord, "\u2212\u2013\u2010\u2011\ufe63"), "-")  # minus signs, and what stands for them
_CHARACTERS |= dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u2061\u2062"), None)
_COMMANDS = {
    "π": "pi", "∞": "infty", "·": "cdot", "⋅": "cdot", "∙": "cdot", "×": "times", "÷": "div", "±": "pm",
    "≤": "le", "≥": "ge", "⩽": "le", "⩾": "ge", "≠": "ne", "≈": "approx", "∈": "in", "∪": "cup", "∩": "cap",
    "∅": "emptyset", "ℝ": "mathbb{R}", "ℤ": "mathbb{Z}", "ℕ": "mathbb{N}", "ℚ": "mathbb{Q}", "ℂ": "mathbb{C}",
    "…": "ldots", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "θ": "theta", "λ": "lambda",
    "μ": "mu", "ρ": "rho", "σ": "sigma", "φ": "phi", "ω": "omega",
}  # fmt: skip
_CHARACTERS |= {ord(character): f"\\{command} " for character, command in _COMMANDS.items()}
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢ"
_SCRIPTS = [(re.compile(f"[{_RAISED}]+"), "^"), (re.compile(f"[{_LOWERED}]+"), "_")]
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"([√∛∜]) ?(\d+(?:\.\d+)?|[A-Za-z]|(?=[({\\]))")

_SYNONYMS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:dfrac|tfrac|cfrac|nicefrac|sfrac)(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr|Bigl?|Bigr|limits|rm|bf|it|bfseries)(?![A-Za-z])", ""),
        (r"(?<!\\)\\[!()\[\]]", ""),
        (r"\\(?:text)?color ?\{[A-Za-z0-9!]*\}", r"\\textcolor"),
        (r"\\(?:varnothing|O)(?![A-Za-z])|\\\{ ?\\\}", r"\\emptyset "),
        (r"\\(?:leqslant|leqq|leq)(?![A-Za-z])", r"\\le "),
        (r"\\(?:geqslant|geqq|geq)(?![A-Za-z])", r"\\ge "),
        (r"\\neq(?![A-Za-z])", r"\\ne "),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\(?:lbrace|rbrace)(?![A-Za-z])", lambda found: r"\{" if found[0] == r"\lbrace" else r"\}"),
        (r"\\(?:dots|cdots|dotsc|dotsb|hdots)(?![A-Za-z])", r"\\ldots "),
        (r"\\operatorname\*? ?\{(sin|cos|tan|log|ln|exp|arctan|arcsin|arccos)\}", r"\\\1 "),
    )
]
_STYLES = (
    r"text|textbf|textit|textrm|textsf|texttt|textup|textnormal|emph|mbox|hbox|fbox|framebox|boxed|mathrm|mathbf|mathit|mathsf"
    r"|mathtt|mathnormal|boldsymbol|bm|pmb|underline|textcolor"
)
_STYLE = re.compile(rf"\\(?:{_STYLES}) ?\{{([^{{}}]*)\}}")
_BRACED = re.compile(rf"\\(?:{_STYLES}) ?\{{")
_COLOUR = re.compile(r"\\textcolor(?![A-Za-z{])")
_BLANK = re.compile(r"\\(?:q?quad|thinspace|space|enspace)(?![A-Za-z])|(?<!\\)\\[,:;> ]|~")
_INFINITY = re.compile(r"^([+-]?)inf(?:inity)?$", re.IGNORECASE)
_REALS = re.compile(r"(?:the )?(?:set of )?(?:all )?(?:the )?real numbers|(?:all )?(?:the )?reals", re.IGNORECASE)
_PLAIN_SET = re.compile(r"\{[^{}\\]*,[^{}\\]*\}")
_BOLD = re.compile(r"(\*\*|__)(.+)\1", re.DOTALL)
_LETTERED = re.compile(r"\(?[A-H]\):? (?=\$|[+-]?[\d.]|[+-]?\\(?:frac|sqrt|pi)(?![A-Za-z]))(.+)", re.DOTALL)

_NOUN = re.compile(
    r"(?<=[\d})a-z!]) ?\\(?:text|mbox|textrm|mathrm) ?\{ ?([A-Za-z]+(?: [A-Za-z]+){0,2}) ?\}(?:\^ ?\{?[23]\}?)?[.$ ]*$"
)
_NO_NOUNS = re.compile(
    r"\b(?:is|was|has|plus|minus|times|less|unless|perhaps|always|thus|this|its|or|and|not|more|than|at|least|most|if|else"
    r"|no|over|per|mod|modulo|base|digits|pairs|halves|thirds|fourths|quarters|(?:fif|six|seven|eigh|nin|ten)ths|ones|tens"
    r"|(?:hundred|thousand|million|billion|trillion|dozen|percent)(?:th)?s|squares|cubes|factors|solutions|only|as|us|yes"
    r"|zeroe?s|ways|powers|roots)\b"
)


class UnreadError(ValueError):
    """Something in the expression has no one meaning."""


def _script(sign: str, run: str) -> str:
    return f"{sign}{{{unicodedata.normalize('NFKC', run)}}}".replace("\u2212", "-")


def _vulgar(found: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", found[0]).split("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _root(found: re.Match[str]) -> str:
    index = {"√": "", "∛": "[3]", "∜": "[4]"}[found[1]]
    return rf"\sqrt{index}{{{found[2]}}}" if found[2] else rf"\sqrt{index}"


def _without_noun(text: str) -> str:
    r"""``12\text{ apples}`` without its last word in the plural: what is counted is not graded, as units are not."""
    noun = _NOUN.search(text)
    words = noun[1].split() if noun else []
    if noun and len(words[-1]) > 3 and words[-1].endswith("s") and not _NO_NOUNS.search(noun[1].casefold()):
        return text[: noun.start()]
    return text


def _without_styles(text: str) -> str:
    r"""Commands that only set a style give way to what they hold, the innermost first, a few levels deep."""
    for _ in range(4):
        text, count = _STYLE.subn(r" \1 ", text)
        if not count:
            break
    while len(text) <= 1000 and (styled := _BRACED.search(text)) and (end := closing(text, styled.end() - 1)) > 0:
        text = f"{text[: styled.start()]} {text[styled.end() : end]} {text[end + 1 :]}"
    return _COLOUR.sub("", text)


def unstyled(text: str) -> str:
    r"""``text`` without the commands that only set its style: ``\text{New York}`` and ``New\ York`` are New York."""
    return _BLANK.sub(" ", _without_styles(text)).strip("$ ") if "\\" in text else text


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` closes, by its own kind; -1 if nowhere."""
    opened, closed, depth = text[start], {"{": "}", "(": ")", "[": "]"}[text[start]], 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1 : place] == "\\":
            continue
        depth += (text[place] == opened) - (text[place] == closed)
        if depth == 0:
            return place
    return -1


def tidy(answer: str) -> str:
    r"""One spelling: blanks, ``$``, ``\left``, ``\dfrac``, text commands, colours, roots and powers of Unicode."""
    text = answer
    if not text.isascii():
        for run, sign in _SCRIPTS:
            text = run.sub(lambda found, sign=sign: _script(sign, found[0]), text)  # type: ignore[misc]
        text = _ROOT.sub(_root, _VULGAR.sub(_vulgar, text))
        text = text.translate(_CHARACTERS)
    if "\\" in text:
        text = text.replace("\\$", "$").replace("{,}", ",").replace("\\%", "%")
        for pattern, replacement in _SYNONYMS:
            text = pattern.sub(replacement, text)
        text = _BLANK.sub(" ", _without_styles(_without_noun(text)))
    text = " ".join(text.replace("{,}", ",").replace("{:}", ":").replace("~", " ").split()).strip("$ ")
    if bold := _BOLD.fullmatch(text):
        text = bold[2].strip("$ ")
    if _PLAIN_SET.fullmatch(text):
        text = rf"\{text[:-1]}\}}"
    if lettered := _LETTERED.fullmatch(text):
        text = lettered[1].strip("$ ")
    text = r"\mathbb{R}" if _REALS.fullmatch(text) else _INFINITY.sub(r"\1\\infty", text)
    return text if text.endswith("..") else text.removesuffix(".").strip("$ ")  # 0.33... goes on
