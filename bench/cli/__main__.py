"""``python -m prunebench.bench.cli`` is ``prunebench``."""

from prunebench.bench.cli import main

main()
