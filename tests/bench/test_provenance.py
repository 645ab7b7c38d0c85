from __future__ import annotations

import importlib
import sys

import pytest

from prunebench.bench.provenance import method_code, own_files

PLUGIN = "import helper_of_plugin\n\n\nclass Idea:\n    def score(self):\n        return helper_of_plugin.value()\n"
HELPER = "def value():\n    return 1\n"


@pytest.fixture
def code_of(tmp_path, monkeypatch):
    """The code of a plugin whose helper has this text; both files are imported anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(helper):
        (tmp_path / "my_plugin.py").write_text(PLUGIN)
        (tmp_path / "helper_of_plugin.py").write_text(helper)
        for name in ("my_plugin", "helper_of_plugin"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return method_code(importlib.import_module("my_plugin").Idea)

    yield code
    for name in ("my_plugin", "helper_of_plugin"):
        sys.modules.pop(name, None)


def test_what_a_plugin_imports_from_beside_it_is_its_code(code_of):
    first = code_of(HELPER)
    assert code_of("# said otherwise\n" + HELPER) == first
    assert code_of(HELPER.replace("1", "2")) != first


def test_own_files_follow_imports_and_end(tmp_path):
    for name, text in {"a": "import b\nimport json", "b": "from c.d import x\nimport a", "c/d": "x = 1"}.items():
        (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "unasked.py").write_text("")
    assert own_files(tmp_path / "a.py") == [tmp_path / "a.py", tmp_path / "b.py", tmp_path / "c" / "d.py"]
