"""A small real run with its report, and a browser to look at it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from prunebench.bench.config import preset
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.evaluation.comparison import run_comparison
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.guideline.guideline import guideline_of
from prunebench.bench.rollouts.importers import Options, import_rollouts
from prunebench.bench.rollouts.stored_config import config_of
from prunebench.figures.outputs import write_outputs
from prunebench.figures.report import write_report
from tests.made_up_sweep import made_up

ATTACK = "<script>document.title = 'taken'</script></script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Two problems of one family, eight paths, three methods; a guideline lies in the run."""
    out = tmp_path_factory.mktemp("report") / "run"
    engine = TransformersEngine.load("embedded")
    config = preset(
        "demo", tasks=["synthetic/power"], problems=2, n=8, k=2, methods=["stop", "entropy", "text-classifier"],
        split="validation", draws=2,
    )  # fmt: skip
    labels: tuple[Path, ...] = ()
    learned = out.parent / "learned"
    shutil.copytree(REASONERS["embedded"].learned, learned)
    for card in learned.glob("*.json"):  # the validation problems were tuned on; here they only have to be shown
        content = json.loads(card.read_text())
        if "validation_problems" in content:
            card.write_text(json.dumps({**content, "validation_problems": []}))
    results = run_comparison(engine, config, out, Inputs(learned, labels), command="prunebench compare")
    write_outputs(results, out)
    guide = guideline_of(made_up(), "stop").model_copy(update={"model_hash": results.hashes["model"]})
    (out / "sweep").mkdir()
    guide.save(out / "sweep" / "guideline-stop.json")
    return out


@pytest.fixture(scope="session")
def page(run) -> Path:
    return write_report(run, run / "report.html")


@pytest.fixture(scope="session")
def attacked(tmp_path_factory) -> Path:
    """The report of imported rollouts whose texts, answers and names are markup."""
    folder = tmp_path_factory.mktemp("attacked")
    lines = [
        {"problem": f"What is {i}? {ATTACK}", "id": f"p{i}", "answer": "4", "text": f"{ATTACK} so \\boxed{{{i % 3}}}",
         "task": "t"}
        for i in range(2) for _ in range(6)
    ]  # fmt: skip
    for number, line in enumerate(lines):
        line["text"] = f"{ATTACK} step {number} so \\boxed{{{number % 3}}}"
    source = folder / "rollouts.jsonl"
    source.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    import_rollouts("plain", source, folder / "store", Options("evil", None, "equivalence", {}))
    config = config_of(folder / "store", n=6, k=2, prefix_tokens=2, methods=["length", "random"])
    inputs = Inputs(folder / "learned", (), {}, (), folder / "store")
    results = run_comparison(None, config, folder / "run", inputs, command=ATTACK)
    write_outputs(results, folder / "run")
    return write_report(folder / "run", folder / "run" / "report.html")


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium; without it these tests are skipped, loudly."""
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser_path = None
    if browser_path is None:
        warnings.warn("NO BROWSER: the report is not tested; apt-get install chromium, pip install playwright",
                      stacklevel=1)  # fmt: skip
        pytest.skip("no browser: apt-get install chromium, pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, page):
    """The report in a window of a laptop's size; errors on its console are the test's errors."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(page.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    yield opened
    context.close()
    assert errors == []
