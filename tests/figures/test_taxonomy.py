"""The quadrant grid follows the registry."""

from __future__ import annotations

import csv

from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.figures.taxonomy import Placed, registered, taxonomy, taxonomy_csv
from prunebench.methods.registry import PRUNERS
from tests.figures.readable import assert_readable, texts


def test_every_registered_method_stands_in_its_quadrant() -> None:
    placed = {method.name: method for method in registered()}
    assert set(placed) == {*PRUNERS.names(), *PROCEDURES}
    for name, entry in PRUNERS.items():
        assert placed[name].quadrant == entry.quadrant().value
    assert (placed["esc"].quadrant, placed["esc"].procedure) == ("I", True)
    assert (placed["stop"].quadrant, placed["stop"].learnable, placed["stop"].procedure) == ("IV", True, False)
    lines = list(csv.DictReader(taxonomy_csv().splitlines()))
    assert [line["method"] for line in lines] == list(placed)


def test_all_names_are_readable() -> None:
    figure = taxonomy()
    assert_readable(figure)
    assert {method.name for method in registered()} <= {text.get_text() for text in texts(figure)}


def test_a_method_of_ones_own_finds_its_place_and_an_empty_quadrant_stays() -> None:
    figure = taxonomy([Placed("mine", "III", False, False)])
    assert_readable(figure)
    shown = {text.get_text(): text for text in texts(figure)}
    header = shown["III  raw confidence"].get_window_extent()
    below = shown["mine"].get_window_extent()
    assert below.y1 < header.y0 and abs(below.x0 - header.x0) < header.width
    assert "II  external judges" in shown


def test_external_signals_stand_to_the_left_and_learned_methods_below() -> None:
    shown = {text.get_text().split(" ")[0].rstrip(":"): text.get_window_extent() for text in texts(taxonomy())}
    external, internal, fixed, learned = (shown[name] for name in ("external", "internal", "fixed", "learned"))
    assert shown["I"].x0 < external.x1 < internal.x0 < shown["III"].x1
    assert shown["II"].x0 == shown["I"].x0 and shown["IV"].x0 == shown["III"].x0
    assert shown["I"].y0 > fixed.y0 > shown["II"].y0 > learned.y0
