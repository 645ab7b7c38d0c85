from __future__ import annotations

import subprocess
import sys

import pytest

from prunebench.tasks import catalogue
from prunebench.tasks.catalogue import UnknownTaskError
from prunebench.tasks.synthetic import FAMILIES


def test_the_group_name_unfolds_to_all_families_once():
    everything = [f"synthetic/{name}" for name in FAMILIES]
    assert [task.name for task in catalogue.expand(["synthetic/power", "synthetic"])] == [
        "synthetic/power",
        *(name for name in everything if name != "synthetic/power"),
    ]
    others = [name.replace("/", f"{kind}/") for kind in ("-25", "-50", "-75", "-100", "-long") for name in everything]
    assert catalogue.names() == [*everything, *others, *catalogue.benchmarks()]


@pytest.mark.parametrize(
    ("wrong", "offered"), [("synthetic/powr", "'synthetic/power'"), ("syntetic", "'synthetic'"), ("q", "known: ")]
)
def test_an_unknown_task_is_told_its_neighbours(wrong, offered):
    with pytest.raises(UnknownTaskError, match=f"unknown task '{wrong}'.*{offered}"):
        catalogue.expand([wrong])


def test_tasks_import_neither_the_harness_nor_the_methods():
    code = (
        "import sys; from prunebench.tasks import catalogue; catalogue.get('synthetic/power').problems('test', 1); "
        "heavy = ('prunebench.bench', 'prunebench.methods', 'torch', 'sympy', 'math_verify'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
