from __future__ import annotations

import base64
import gzip
import json
import math
import re
import shutil

import pytest
from markupsafe import escape

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.results import Results
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.figures.report import write_report
from prunebench.figures.report.explorer import characters, packed
from prunebench.figures.report.page import embedded
from prunebench.figures.report.summary import answer, summary
from prunebench.figures.report.template import sortable
from tests.bench.conftest import prunebench, refused  # noqa: F401 - a fixture
from tests.figures.rows import changed


def payload(page) -> dict:
    (held,) = re.findall(r'id="paths-data">([^<]*)<', page.read_text())
    return json.loads(gzip.decompress(base64.b64decode(held)))


def test_the_page_stands_alone_and_is_small(page):
    text = page.read_text()
    assert len(text) < 5_000_000
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\(\s*['\"]?http|fetch\(|XMLHttp", text)
    assert "Content-Security-Policy" in text and "default-src 'none'" in text


def test_it_is_the_same_every_time(run, page, tmp_path):
    assert write_report(run, tmp_path / "again.html").read_bytes() == page.read_bytes()
    names = {path.name for path in (tmp_path / "again_files").iterdir()}
    assert names == {path.name for path in (run / "figures").iterdir()} and "forest.png" in names


def test_the_main_table_has_every_method_with_its_numbers(run, page):
    text = page.read_text()
    for row in Results.read(run / "results.json").rows:
        assert f'data-filter="{row.method} {row.quadrant}"' in text
        assert f'data-key="{float(row["avg_at_k"].mean)!r}"' in text


def test_the_remark_of_a_row_is_a_note(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    results = Results.read(run / "results.json")
    rows = [r.model_copy(update={"note": "its code is another"}) if r.method == "stop" else r for r in results.rows]
    results.model_copy(update={"rows": rows}).write(tmp_path / "run" / "results.json")
    assert "stop: its code is another" in write_report(tmp_path / "run", tmp_path / "r.html").read_text()


def test_notes_are_sentences(run, page):
    text, results = page.read_text(), Results.read(run / "results.json")
    assert "text=" not in text and results.notes
    assert all(str(escape(note.text)) in text for note in results.notes if note.task in ("", results.task))


def test_the_explorer_holds_the_paths_as_they_were_stored(run, page):
    content = payload(page)
    stored = {p.problem: p for p in RolloutStore.open(run / "rollouts").read(hidden=False)}
    assert content["checkpoint"] == 40 and {problem["id"] for problem in content["problems"]} == set(stored)
    for problem in content["problems"]:
        assert set(problem["methods"]) == {"none", "random", "stop", "entropy", "text-classifier"}
        assert problem["methods"]["stop"]["kept"].count("1") == 2
        for path, source in zip(problem["paths"], stored[problem["id"]].paths, strict=True):
            assert (path["text"], path["length"], path["correct"]) == (source.text, source.length, source.correct)
            assert len(path["ends"]) == len(path["sure"]) == source.length
            assert sum(path["ends"]) == len(source.text)


def test_pieces_add_up_to_the_text():
    from transformers import AutoTokenizer

    from prunebench.bench.engines.shipped import REASONERS

    tokenizer = AutoTokenizer.from_pretrained(str(REASONERS["embedded"].weights))
    ids = tokenizer("plan : early \n\n a = 3 + 4 = 7")["input_ids"]
    sizes, text = characters(tokenizer, ids), tokenizer.decode(ids)
    assert len(sizes) == len(ids) and sum(sizes) == len(text)


def test_markup_of_models_and_files_stays_text(attacked):
    text = attacked.read_text()
    assert "<script>document.title" not in text and "<img src=x" not in text
    assert "&lt;script&gt;document.title" in text  # the command, as text


def test_embedded_data_cannot_end_their_element():
    held = embedded({"a": "</script><!-- \u2028 &"})
    assert not set("<>&\u2028") & set(held)
    assert json.loads(held) == {"a": "</script><!-- \u2028 &"}
    assert packed({"b": 1, "a": 2}) == packed({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("cell", "key"),
    [("41.2 [36.0, 46.4]", "41.2"), ("−3.1 [−5, −1]", "-3.1"), ("≥ 64", "64.0"), ("–", ""), ("Stop", "stop"),
     ("<0.001", "0.001"), ("12,345", "12345.0"), (float("nan"), ""), (2.5, "2.5")],
)  # fmt: skip
def test_what_a_cell_is_sorted_by(cell, key):
    assert sortable(cell) == key


def test_the_summary_says_what_was_found_with_intervals(results):
    said = " ".join(summary(results, "all"))
    assert "48 problems" in said and "keep better paths than chance would" in said and "stop +11.7 [" in said
    nothing = results.model_copy(update={"rows": [changed(r, p_holm=1.0) for r in results.rows]})
    assert "no method of 8 keeps better paths than chance would" in " ".join(summary(nothing, "all"))


def test_the_report_opens_with_the_answer_in_one_sentence(results):
    said = answer(results, "all")
    assert said.startswith("Prune: ") and said.count(". ") == 0
    assert "mix_of_everything (quadrant mixed) gains most, +12.1 [" in said and "at 8 of 64 paths" in said
    nothing = results.model_copy(update={"rows": [changed(r, p_holm=1.0) for r in results.rows]})
    assert answer(nothing, "all").startswith("Not established: none of 8 methods")
    apart = [changed(r, p_holm=math.nan if r.method == "stop" else 1.0) for r in results.rows]
    said = answer(results.model_copy(update={"rows": apart}), "all")
    assert said.startswith("Not established: none of 7 methods") and "that of stop" not in said, (
        "who is tested competes"
    )
    loses = [changed(r, p_holm=0.001 if r.method == "stop" else 1.0) for r in results.rows]
    loses = [changed(r, delta=-5.0) if r.method == "stop" else r for r in loses]
    assert "; stop keeps worse ones." in answer(results.model_copy(update={"rows": loses}), "all")
    alone = [r for r in loses if r.method == "stop" or r.quadrant == "control"]
    said = answer(results.model_copy(update={"rows": alone}), "all")
    assert said.startswith("Do not prune: no method keeps better paths") and "stop keeps worse ones" in said
    alone = [changed(r, p_holm=1.0) for r in alone]
    said = answer(results.model_copy(update={"rows": alone}), "all")
    assert said.startswith("Not established: that stop keeps better paths than chance would, 8 of 64")
    controls = results.model_copy(update={"rows": [r for r in results.rows if r.quadrant == "control"]})
    assert answer(controls, "all").startswith("Nothing is answered")


def test_the_answer_stands_first_and_its_two_pictures_once(run, page):
    text = page.read_text()
    assert (
        text.index('class="answer"')
        < text.index("by quadrant.")
        < text.index("keeping one.")
        < text.index('id="table"')
    )
    assert text.count("<figcaption>What every method gains over keeping all, by quadrant.") == 1


def test_an_ungraded_path_is_not_called_wrong(attacked):
    content = payload(attacked)
    verdicts = {path["correct"] for problem in content["problems"] for path in problem["paths"]}
    assert verdicts <= {True, False, None}
    script = attacked.read_text()
    assert "not graded" in script and 'one.correct ? "right" : "wrong"}, answer' not in script


def test_without_results_it_refuses_and_writes_nothing(tmp_path, prunebench):  # noqa: F811
    assert "no such file" in refused(prunebench("report", tmp_path / "nowhere"))
    with pytest.raises(UserError):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
