"""Confident errors come of wording that ought not to matter: a filler of the path that the problem itself uses.

The problem gives a quantity behind a filler (``so a = ( 3 + 4 ) * 2``), the path reads it behind one of its own
(``now a = ...``); both are drawn evenly and look equally right. Whether the reading goes wrong is certain: it does
where the path's filler is one that the problem uses. The path alone does not tell what the problem uses, the problem
alone not what the path will choose, and where the error is made the next token leaves no doubt.
"""

from __future__ import annotations

FILLERS = ("so", "now", "then", "next")
HEDGE = "well"
"""May stand before any step, as often as it likes, and means nothing: without it all paths of a problem would be
equally undecided but for their errors, and the smallest trace of these in the next token would tell them apart."""
