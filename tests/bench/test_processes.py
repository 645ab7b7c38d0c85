"""Processes that were started end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunebench.bench.errors import CrashError
from prunebench.bench.processes import count, crew_of, process_pool

STARTS = """
import os, time
from prunebench.bench.errors import CrashError
from prunebench.bench.processes import process_pool

if __name__ == "__main__":
    pool = process_pool(2)
    for found in [pool.submit(os.getpid) for _ in range(2)]:
        print(found.result(), flush=True)
    pool.submit(time.sleep, 600)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_kill_leaves_nobody_at_work(tmp_path):
    (tmp_path / "starts.py").write_text(STARTS)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "starts.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    workers = set()
    while (line := process.stdout.readline().strip()) != "ready":
        workers.add(int(line))
    assert workers and all(map(_runs, workers))
    process.send_signal(signal.SIGKILL)
    assert process.stdout.read() == "", "a worker that lives would hold the pipe"
    process.wait()
    end = time.monotonic() + 30
    while any(map(_runs, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_they_are_given_comes_back():
    with process_pool(1) as pool:
        assert pool.submit(abs, -3).result() == 3


def _counting(steps):
    for _ in range(steps):
        count(1)
    return os.getpid()


def test_a_crew_tells_what_it_counts_and_answers_in_order():
    told = []
    with crew_of(2, told.append) as crew:
        found = list(crew.results([crew.submit(pow, 2, 3), crew.submit(_counting, 50), crew.submit(pow, 2, 4)]))
    assert (found[0], found[2], sum(told)) == (8, 16, 50)


def test_an_error_ends_a_crew_in_the_midst_of_a_job():
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), crew_of(2, int) as crew:
        process = next(crew.results([crew.submit(_counting, 1)]))
        long = crew.submit(time.sleep, 600)
        while not long.running():
            time.sleep(0.01)
        raise ZeroDivisionError
    assert time.monotonic() - began < 60
    while _runs(process):
        assert time.monotonic() - began < 60
        time.sleep(0.01)


def test_a_process_that_somebody_kills_is_a_sentence():
    said = r"ended from outside, .* short of memory; what was finished is kept"
    with pytest.raises(CrashError, match=said), crew_of(2, int) as crew:
        list(crew.results([crew.submit(os.kill, os.getpid(), 0), crew.submit(_killed)]))


def _killed():
    os.kill(os.getpid(), signal.SIGKILL)


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
