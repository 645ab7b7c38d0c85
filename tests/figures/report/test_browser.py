"""The report in a real browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.guideline.answer import advise
from prunebench.bench.guideline.guideline import Guideline
from prunebench.figures.report.explorer import packed

AXE = Path(__file__).parent / "assets" / "axe.min.js"
"""axe-core 4.14.1, Mozilla Public License 2.0 (see axe-LICENSE beside it)."""


def column(tab, table: str, number: int) -> list[str]:
    return tab.eval_on_selector_all(
        f"{table} tbody tr", f"rows => rows.filter(r => !r.hidden).map(r => r.cells[{number}].dataset.key)"
    )


def test_the_table_sorts_both_ways_with_undefined_values_last(tab):
    header = tab.locator("#main thead th button").nth(2)
    header.click()
    keys = column(tab, "#main", 2)
    defined = [float(key) for key in keys if key]
    assert defined == sorted(defined) and keys[len(defined) :] == [""] * (len(keys) - len(defined))
    header.click()
    assert [float(key) for key in column(tab, "#main", 2) if key] == sorted(defined, reverse=True)
    assert tab.locator("#main thead th").nth(2).get_attribute("aria-sort") == "descending"


def test_the_table_shows_six_columns_says_its_sorting_and_has_the_others_behind_a_box(tab):
    shown = "ths => ths.filter(th => th.offsetParent !== null).map(th => th.textContent)"
    six = ["method", "avg@k [95 %]", "Δ none [95 %]", "p (Holm)", "maj@k", "saved %"]
    assert sorted(tab.eval_on_selector_all("#main thead th", shown)) == sorted(six)
    assert "sorted by Δ none [95 %], greatest first" in tab.text_content("#table .controls .sorted")
    gains = [float(key) for key in column(tab, "#main", 3) if key]
    assert gains == sorted(gains, reverse=True)
    tab.locator("#main thead th button", has_text="maj@k").click()
    assert tab.text_content("#table .controls .sorted") == "sorted by maj@k, smallest first"
    tab.check("#all-columns")
    assert len(tab.eval_on_selector_all("#main thead th", shown)) > 12


def test_a_quadrant_is_filtered_by_its_box_and_marked_by_its_colour(tab):
    tab.uncheck("input[data-quadrant=control]")
    assert sorted(column(tab, "#main", 0)) == ["entropy", "stop", "text-classifier"]
    tab.uncheck("input[data-quadrant=IV]")
    assert sorted(column(tab, "#main", 0)) == ["entropy", "text-classifier"]
    colour = tab.eval_on_selector("tr.q-IV .quadrant", "one => getComputedStyle(one).backgroundColor")
    assert colour == "rgb(213, 94, 0)"  # the figures' colour


def with_other_paths(chromium, page, changed, edit):
    """The page with every problem of its explorer edited, opened at stop's decisions in the order of the paths."""
    (held,) = re.findall(r'id="paths-data">([^<]*)<', page.read_text())
    content = json.loads(gzip.decompress(base64.b64decode(held)))
    for problem in content["problems"]:
        edit(problem)
    changed.write_text(page.read_text().replace(held, packed(content)))
    context = chromium.new_context()
    opened = context.new_page()
    opened.goto(changed.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    opened.select_option("#e-method", "stop")
    opened.select_option("#e-order", "path")
    return context, opened


def test_what_is_not_graded_is_called_so_and_kept_is_what_votes(chromium, page, tmp_path):
    def edit(problem):
        problem["paths"][0]["correct"] = None
        decision = problem["methods"]["stop"]
        decision["kept"] = "1" + "0" * (len(decision["kept"]) - 1)
        for whole in (0, 1):  # the second one ended before the check, and was not chosen
            decision["decoded"][whole] = problem["paths"][whole]["length"]

    context, opened = with_other_paths(chromium, page, tmp_path / "ungraded.html", edit)
    said = opened.locator("#e-rows .spoken").all_inner_texts()
    assert ", not graded, " in said[0] and said[0].endswith("kept")
    assert said[1].endswith("not kept, ended by then") and "pruned at" in said[2]
    assert opened.locator("#e-rows button.kept").count() == 1
    assert opened.locator("#e-rows .ungraded").count() >= 1
    opened.locator("#e-rows button").first.click()
    assert "not graded" in opened.locator("#e-text h3").inner_text()
    context.close()


def test_the_filter_narrows_and_counts(tab):
    tab.fill("#filter", "stop")
    assert column(tab, "#main", 0) == ["stop"]
    assert tab.text_content("#count") == "1 method"


def test_the_calculator_says_what_the_command_says(tab, run):
    guideline = Guideline.read(run / "sweep" / "guideline-stop.json")
    asked = [(b, p, t) for b in (2048, 3000, 8192, 9000) for p in (20, 31, 40) for t in (200, 301, 450)]
    backwards = tab.evaluate("asked => prunebench.advise(...asked)", [1, 500, 20, "stop"])
    assert backwards["refused"] == "a prefix of 500 tokens is longer than the mean path of 20 tokens."
    with pytest.raises(UserError, match="longer than the mean path"):
        advise([guideline], 1, 500, 20, "stop")
    answers = 0
    for question in asked:
        recommended = tab.evaluate("asked => prunebench.advise(...asked)", [*question, "stop"])
        try:
            wanted = advise([guideline], *question, "stop")
        except UserError:
            assert recommended["refused"]
            continue
        answers += 1
        assert (recommended["n"], recommended["k"], recommended["form"]) == (wanted.n, wanted.k, wanted.form)
        assert recommended["gamma"] == pytest.approx(wanted.gamma)
        assert recommended["gain"]["mean"] == pytest.approx(wanted.gain.mean)
        assert recommended["nearest"]["budget"] == wanted.nearest.budget
    assert 0 < answers < len(asked)


def test_moving_a_slider_moves_the_answer(tab):
    before = tab.text_content("#g-answer")
    tab.locator("#g-budget").press("Home")
    assert "prefixes" in before or "whole paths" in before or "No answer" in before
    assert tab.text_content("#g-answer") != before


def test_the_explorer_opens_a_path_with_its_checkpoint(tab):
    rows = tab.locator("#e-rows button")
    assert rows.count() == 8
    assert tab.locator("#e-rows .rest").count() == 6  # stop keeps two
    tab.select_option("#e-method", "none")
    assert tab.locator("#e-rows .rest").count() == 0
    rows.first.click()
    text = tab.locator("#e-text")
    assert text.is_visible() and "check at 40" in text.inner_text()
    tab.select_option("#e-method", "stop")
    tab.select_option("#e-order", "score")
    scores = [float(score) for score in tab.locator("#e-rows .s").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)


def test_the_text_is_cut_where_the_row_is_and_its_pieces_are_whole_characters(chromium, page, tmp_path):
    def edit(problem):
        problem["paths"][0] |= {"text": "😀ab𝑥c", "ends": [1, 2, 1, 1], "sure": "9999", "length": 4}
        decision = problem["methods"]["stop"]
        decision["decoded"][0], decision["kept"] = 2, "0" + decision["kept"][1:]

    context, opened = with_other_paths(chromium, page, tmp_path / "changed.html", edit)
    opened.locator("#e-rows button").first.click()
    assert opened.locator("#e-text div span:not(.mark)").all_text_contents() == ["😀", "ab", "𝑥", "c"]
    assert opened.locator("#e-text .after").all_text_contents() == ["𝑥", "c"]
    assert opened.locator("#e-text .mark").all_text_contents() == ["▸pruned at 2"]
    context.close()


def test_a_phone_sees_everything_without_scrolling_sideways(chromium, page):
    context = chromium.new_context(viewport={"width": 360, "height": 740}, is_mobile=True)
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_there_is_no_serious_accessibility_fault(chromium, page, scheme):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    opened.locator("#e-rows button").first.click()
    opened.add_script_tag(content=AXE.read_text())
    violations = opened.evaluate(
        "axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html]))"
    )
    context.close()
    assert [violation for violation in violations if violation[1] in ("serious", "critical")] == []


def test_markup_in_a_path_is_shown_and_never_run(chromium, attacked):
    context = chromium.new_context()
    opened = context.new_page()
    opened.goto(attacked.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    opened.locator("#e-rows button").first.click()
    assert "<script>document.title" in opened.locator("#e-text").inner_text()
    assert opened.title() != "taken" and opened.locator("#e-text script, #e-text img").count() == 0
    context.close()
