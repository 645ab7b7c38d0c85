"""Processes beside this one. They end with it, however it ends: a killed run leaves nobody at work."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process


def process_pool(count: int) -> ProcessPoolExecutor:
    """A pool of ``count`` fresh processes."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Otherwise the queue that it waits at stays open, since its siblings hold it too."""
    parent = parent_process()
    assert parent is not None, "called in a process that another one started"

    def watch(sentinel: int = parent.sentinel) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
