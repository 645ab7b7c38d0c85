"""``python -m bench.cli`` is ``prunebench``."""

from bench.cli import main

main()
