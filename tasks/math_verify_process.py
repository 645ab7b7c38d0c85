"""Math-Verify in a process of its own: ``python math_verify_process.py`` answers one JSON line per JSON line.

A request is [answer, gold, seconds], a reply is [true | false | null]. The process sets itself an alarm for every
request and lets it kill: some expressions hang inside compiled code, where no exception would reach them. Run as a
file, it imports nothing of this project and does not run the caller's script again.
"""

from __future__ import annotations

import json
import logging
import signal
import sys

START_SECONDS = 60.0
OPTIONS = {
    "float_rounding": 12,  # not 6: a rounded decimal is no exact value, as in our own reading of numbers
    "allow_set_relation_comp": True,  # x > 5 answers (5, infinity) as well as the other way round
    "timeout_seconds": None,
}


def verify(answer: str, gold: str) -> bool | None:
    """Whether Math-Verify takes ``answer`` for ``gold``; None when it cannot read one of them."""
    import math_verify

    try:
        parsed_gold, parsed = (
            math_verify.parse(f"${text}$", parsing_timeout=None, raise_on_error=True) for text in (gold, answer)
        )
        if not parsed_gold or not parsed:
            return None
        return bool(math_verify.verify(parsed_gold, parsed, raise_on_error=True, **OPTIONS))
    except Exception:  # whatever a foreign parser raises means: could not be graded
        return None


def serve() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no reply
    logging.disable(logging.WARNING)  # math-verify warns that its own timeouts are off
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes our input
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)
    verify("1", "2")  # loads everything outside of the first request's time
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("[null]", file=replies, flush=True)
    for line in sys.stdin:
        answer, gold, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        verdict = verify(answer, gold)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps([verdict]), file=replies, flush=True)


if __name__ == "__main__":
    serve()
