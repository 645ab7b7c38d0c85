from __future__ import annotations

import json
from dataclasses import fields

import pytest

from prunebench.bench.cli.perf import MEASUREMENTS, Cluster
from prunebench.bench.perf.cluster_cases import ClusterCase
from tests.bench.conftest import refused


def test_the_card_is_a_table_or_one_json_object(prunebench):
    code, out, _ = prunebench("perf", "reasoner")
    assert code == 0
    assert all(family in out for family in ("recurrence", "power", "congruence", "program"))
    code, out, err = prunebench("perf", "reasoner", "--json")
    assert code == 0 and len(json.loads(out)["families"]) == 4 and "Acceptance card of embedded" in err


def test_a_measurement_takes_its_settings(prunebench):
    code, out, _ = prunebench("perf", "check", "--set", "rows=4", "--set", "prefix=40,20", "--json")
    assert code == 0
    assert {length: cost["rows"] for length, cost in json.loads(out).items()} == {"40": 4, "20": 4}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("speed",), "nothing is called 'speed': measure goals, reasoner, check, agreement, engine, engines, cluster"),
        (("check", "--set", "row=4"), "--set row=4: unknown key 'row'; did you mean 'rows'?"),
        (("check", "--set", "rows=four"), "--set rows=four: input should be a valid integer"),
        (("check", "--set", "rows"), "--set rows: write KEY=VALUE"),
        (("check", "--set", "rows=4", "--set", "rows=5"), "--set rows=5: rows is given twice"),
        (("goals", "--set", "rows=4"), "--set rows=4: unknown key 'rows'; there is none"),
        (("cluster", "--device", "cuda"), "--device cuda: perf cluster takes no device; leave it out"),
        (("reasoner", "--set", "name=toyy"), "unknown reasoner 'toyy': shipped are embedded, embedded-base, toy"),
    ],
)
def test_what_a_measurement_does_not_take_is_refused(prunebench, arguments, sentence):
    assert sentence in refused(prunebench("perf", *arguments))


def test_the_help_names_every_setting(prunebench):
    out = " ".join(prunebench("perf", "--help")[1].replace("│", " ").split())
    for name, measurement in MEASUREMENTS.items():
        assert name in out and all(f"{field.name} (" in out for field in fields(measurement.settings))


def test_the_settings_of_the_cluster_are_those_of_its_cases():
    defaults = {field.name: field.default for field in fields(ClusterCase)}
    assert all(defaults[field.name] == field.default for field in fields(Cluster) if field.name != "measure")
