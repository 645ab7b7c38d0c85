from __future__ import annotations

import pytest

from prunebench.bench.guideline.guideline import guideline_of
from tests.made_up_sweep import made_up


@pytest.fixture(scope="module")
def guideline():
    return guideline_of(made_up(), "stop")
