from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from prunebench.bench.cli import doctor


def test_this_checkout_imports_its_own_packages() -> None:
    assert doctor.own_packages(doctor.PROJECT).ok


def test_a_foreign_folder_is_named(tmp_path: Path) -> None:
    def find(name: str) -> Path | None:
        folder = name.removeprefix("prunebench.")
        return (tmp_path / "elsewhere" if folder == "tasks" else doctor.PROJECT) / folder

    check = doctor.own_packages(doctor.PROJECT, find)
    assert not check.ok
    assert str(tmp_path / "elsewhere" / "tasks") in check.detail and "'import prunebench.tasks'" in check.detail


def test_a_package_that_is_not_found_says_how_to_install() -> None:
    check = doctor.own_packages(doctor.PROJECT, lambda name: None)
    assert not check.ok and "pip install" in check.detail


@pytest.mark.parametrize(("running", "ok"), [((3, 10), False), ((3, 11), True), ((3, 14), True)])
def test_oldest_python(running: tuple[int, int], ok: bool) -> None:
    assert doctor.python(running).ok is ok


def test_versions_ignore_build_tags_and_absent_packages_and_name_the_different_ones(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch==2.13.0\nnumpy==2.4.6\nvllm==0.32.0\n")
    versions = {"torch": "2.13.0+cpu", "numpy": "2.4.6"}

    def installed(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    assert doctor.pinned_versions(constraints, installed) == doctor.Check(
        "versions", True, "2 packages as pinned in constraints.txt"
    )
    versions["numpy"] = "2.3.0"
    check = doctor.pinned_versions(constraints, installed)
    assert not check.ok and "numpy 2.3.0 (pinned: 2.4.6)" in check.detail and "torch" not in check.detail


def test_versions_without_a_constraints_file_are_not_compared(tmp_path: Path) -> None:
    assert doctor.pinned_versions(tmp_path / "constraints.txt").ok


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check = doctor.weights(tmp_path)
    assert not check.ok and "model.safetensors, tokenizer.json missing" in check.detail


def test_learned_files_must_carry_the_hash_of_the_weights(tmp_path: Path) -> None:
    folder, cards = tmp_path / "weights", tmp_path / "learned"
    folder.mkdir()
    cards.mkdir()
    assert not doctor.learned(folder, cards).ok
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    digest = doctor.weights(folder).detail.split()[2]
    (cards / "stop.json").write_text(json.dumps({"model_hash": digest}))
    assert doctor.learned(folder, cards).ok
    (cards / "linear-probe.json").write_text(json.dumps({"model_hash": "another"}))
    (cards / "broken.json").write_text("[")
    check = doctor.learned(folder, cards)
    assert not check.ok
    assert "linear-probe.json (another)" in check.detail and "broken.json (no model_hash)" in check.detail
    assert "stop.json" not in check.detail


def test_every_check_has_a_name_and_a_detail() -> None:
    checks = doctor.diagnose()
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.detail for check in checks)
