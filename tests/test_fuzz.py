"""Hostile input: whatever a file holds, it is read, or refused in one sentence; nothing else, and never for long.

About 2,000 inputs; PRUNEBENCH_FUZZ=100000 asks for so many (``make torture``).
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import signal
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import prunebench.bench.evaluation.decisions
import prunebench.bench.rollouts.label_store
import prunebench.bench.rollouts.store
from prunebench.bench.cli.own_task import examination, write_task
from prunebench.bench.config import PRESETS, load_config
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.reproduce import read_results
from prunebench.bench.guideline.guideline import read_guidelines
from prunebench.bench.rollouts.importers import Options, import_rollouts
from prunebench.bench.rollouts.importers.records import schema_of
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.shards import Shards
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.cards import learned_problems
from prunebench.bench.training.loading import load_method
from prunebench.figures.run_folder import RunFolder
from prunebench.tasks import catalogue
from prunebench.tasks.answer_types import answer_type_of
from tests.bench.rollouts.importers import test_deepconf as deepconf
from tests.bench.rollouts.importers import test_lighteval as lighteval
from tests.bench.rollouts.importers import test_lm_eval as lm_eval
from tests.bench.rollouts.importers import test_matharena as matharena
from tests.bench.rollouts.importers import test_matrix as matrix
from tests.bench.rollouts.test_store import fill

WANTED = int(os.environ.get("PRUNEBENCH_FUZZ", "2000"))
SECONDS = 20
"""No single input takes longer."""


def inputs(share):
    return settings(
        max_examples=max(10, int(WANTED * share)), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@contextmanager
def one_sentence():
    """It works, or it raises a UserError of one line; within :data:`SECONDS`."""

    def late(*_):
        raise AssertionError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError as error:
        said = str(error)
        assert said and said == said.strip() and len(said.splitlines()) == 1, said
        assert len(said) < 2000, said
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([
        "", "\x00", "\ud83d", "../../etc/passwd", "/etc/passwd", "<script>alert(1)</script>", "NaN", "1e999",
        "{{ 7*7 }}",
        "\\boxed{", "\\frac{1}{0}", "9" * 5000, "(" * 3000, "\\boxed{" * 400, "é" * 300, "%s%n", "true", "-0", "0x1f",
    ]),
    st.lists(st.integers(-5, 5), max_size=3),
    st.dictionaries(st.sampled_from(["a", "problem", "text"]), st.integers(), max_size=2),
)  # fmt: skip


def places(content, at=()):
    """Every place in nested lists and dictionaries."""
    yield at
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*at, key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from places(value, (*at, index))


@st.composite
def spoilt(draw, content):
    """A copy of ``content`` with one to three places changed, dropped, doubled or wrapped."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(places(content))[:300]))
        if not at:
            content = draw(st.one_of(st.just(content), st.just([content]), STRANGE)) if draw(st.booleans()) else content
            continue
        holder = content
        for step in at[:-1]:
            holder = holder[step]
        how = draw(st.sampled_from(["replace", "replace", "drop", "double", "wrap"]))
        if how == "replace":
            holder[at[-1]] = draw(STRANGE)
        elif how == "drop":
            del holder[at[-1]]
        elif how == "double" and isinstance(holder, list):
            holder.insert(at[-1], copy.deepcopy(holder[at[-1]]))
        else:
            holder[at[-1]] = [holder[at[-1]]]
    return content


@st.composite
def damaged(draw, content):
    """The bytes of ``content`` cut, flipped, or with bytes put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "put"]))
        if how == "cut":
            del content[place : place + draw(st.integers(1, len(content) or 1))]
        elif how == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        else:
            content[place:place] = draw(st.binary(max_size=8))
    return bytes(content)


PLAIN = [
    {"problem": "sum", "prompt": "2 + 3?", "answer": "5", "text": "So \\boxed{5}", "correct": True, "finish": "stop"},
    {"problem": "sum", "answer": "5", "text": "\\boxed{6}", "token_ids": [1, 2], "tokens": ["\\boxed", "{6}"],
     "logprobs": [-0.5, -1.0], "entropy": [0.1, 0.2], "path": 4},
    {"problem": "half", "answer": "\\frac{1}{2}", "text": ["\\boxed{0.5}", "I do not know"]},
]  # fmt: skip
SOURCES = {
    "plain": ("rows.jsonl", PLAIN),
    "matrix": ("aime24.json", matrix.PROBLEMS),
    "lm-eval": ("samples_t.jsonl", [lm_eval.sample(0, ["\\boxed{5}", "no"], lm_eval.GSM8K, exact_match=0.0)]),
    "lighteval": ("rows.parquet", [lighteval.structs()]),
    "matharena": ("rows.parquet", [row for row in matharena.ROWS if row["model_name"] == "A"]),
    "deepconf": ("q.pkl", deepconf.question()),
}


def written(name, content):
    """The bytes of a file of that kind; None where it cannot hold the content."""
    if name.endswith(".jsonl"):
        rows = content if isinstance(content, list) else [content]
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if name.endswith(".json"):
        return json.dumps(content).encode()
    if name.endswith(".pkl"):
        return pickle.dumps(content)
    try:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(content), sink)
        return sink.getvalue().to_pybytes()
    except (pa.ArrowException, TypeError, AttributeError, OverflowError, ValueError, KeyError):
        return None


def imports(format_, content):
    if content is None:
        return
    name, _ = SOURCES[format_]
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        path = Path(folder) / name
        path.write_bytes(content)
        task = None if format_ == "matrix" else "t"
        import_rollouts(format_, path, Path(folder) / "out", Options(task, None, "equivalence", {}))


@pytest.mark.parametrize("format_", SOURCES)
def test_an_importer_reads_or_refuses(format_):
    name, good = SOURCES[format_]
    assert written(name, good) is not None

    @inputs(0.06)
    @given(spoilt(good))
    def content(changed):
        imports(format_, written(name, changed))

    @inputs(0.03)
    @given(damaged(written(name, good)))
    def file(changed):
        imports(format_, changed)

    content()
    file()


CONFIG = yaml.safe_load((PRESETS / "embedded.yaml").read_text())
TASK = {
    "name": "sums", "prompt": "{problem}", "data": "rows.csv", "answer_type": "integer",
    "problem": "question", "answer": "answer", "splits": {"test": 1.0},
}  # fmt: skip


def yaml_file(folder, content):
    path = Path(folder) / "mine.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")
    return path


@inputs(0.12)
@given(st.one_of(spoilt(CONFIG), damaged(yaml.safe_dump(CONFIG).encode())))
def test_a_configuration_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        load_config(yaml_file(folder, content))


@inputs(0.1)
@given(st.one_of(spoilt(TASK), damaged(yaml.safe_dump(TASK).encode())))
def test_a_task_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        (Path(folder) / "rows.csv").write_text("question,answer\n2+3,5\n1+1,2\n")
        task = catalogue.load_task(yaml_file(folder, content))
        task.problems("test", 2)


TABLES = {
    "rows.csv": "sep=;\nquestion;options;answer\n\"2;3?\";\"['5', '6']\";0\n1+1?;\"['1', '2']\";1\n".encode("utf-16"),
    "rows.tsv": b"question\tA\tB\tanswer\n2+3?\t5\t6\tA\n1+1?\t1\t2\tB\n",
    "rows.jsonl": b'{"question": "2+3?", "choices": {"text": ["5", "6"], "label": ["1", "2"]}, "answer": "1"}\n' * 2,
    "rows.json": b'[{"problem": "2+3?", "solution": "Add.\\n#### 5"}, {"problem": "1+1?", "solution": "\\\\boxed 2"}]',
    "rows.xml": b"<set><p id='1'><question>2+3?</question><answer>5</answer></p>\n<p><question>1+1?</question>"
    b"<answer>2</answer></p></set>",
    "rows.csv.gz": gzip.compress(b"question,answer\n2+3?,5\n"),
}
CELLS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 5), st.floats(), st.sampled_from(["A", "(b)", "x", "#### 4", "1,5"])
    ),
    lambda cell: st.one_of(
        st.lists(cell, max_size=3), st.dictionaries(st.sampled_from(["A", "B", "text", "label"]), cell)
    ),
    max_leaves=6,
)


def described_by_itself(file):
    """A data file, by the description that its rows suggest."""
    write_task("mine", file, file.parent, problem=None, answer=None, shipped_model=False)
    list(examination(catalogue.load_task(file.parent / "mine.yaml")))


@pytest.mark.parametrize("name", TABLES)
def test_a_data_file_is_read_or_refused(name, tmp_path):
    (tmp_path / name).write_bytes(TABLES[name])
    described_by_itself(tmp_path / name)

    @inputs(0.03)
    @given(damaged(TABLES[name]))
    def changed(content):
        with tempfile.TemporaryDirectory() as folder, one_sentence():
            (Path(folder) / name).write_bytes(content)
            described_by_itself(Path(folder) / name)

    changed()


@inputs(0.1)
@given(st.lists(st.fixed_dictionaries({"question": CELLS, "answer": CELLS}, optional={"choices": CELLS}), min_size=1))
def test_rows_of_any_values_are_read_or_refused(content):
    content = [{**row, "question": f"{number}: {row['question']}"} for number, row in enumerate(content)]
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        (Path(folder) / "rows.json").write_text(json.dumps(content))
        described_by_itself(Path(folder) / "rows.json")


BITS = [
    "\\frac{1}{2}", "\\sqrt{3}", "025", "1/2", "x^2", "(1,2)", "\\{1,2\\}", "50\\%", "\\pi", "-", "^", "{", "}", "\\",
    "\\text{cm}", "10^{10^{10}}", "9999999999", "!", "\\boxed{", "$", " ", "inf", "=", "\x00", "٣", "\\int", "A", ")",
]  # fmt: skip
ANSWERS = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(BITS), max_size=8).map("".join))


@pytest.mark.parametrize("kind", ["math", "integer", "choice", "text"])
def test_answers_end_in_a_verdict(kind):
    answers = answer_type_of(kind)

    @inputs(0.05)
    @given(ANSWERS, ANSWERS)
    def graded(text, gold):
        with one_sentence():
            stated = answers.stated(text)
            verdict = answers.grade(text, gold)
            assert verdict.correct in (True, False, None)
            assert len(answers.classes([text, gold, stated, None])) == 4

    graded()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed") / "store"
    fill(folder, ["a", "b"], ["c"])
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_store_is_read_or_refused(sealed):
    def opened(files):
        with tempfile.TemporaryDirectory() as folder, one_sentence():
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            store = RolloutStore.open(Path(folder))
            store.lengths()
            for problem in store.read():
                assert len(problem.paths) == 3

    @inputs(0.08)
    @given(st.data())
    def bytes_(data):
        name = data.draw(st.sampled_from(sorted(name for name in sealed if not name.endswith(".lock"))))
        opened({**sealed, name: data.draw(damaged(sealed[name]))})

    @inputs(0.08)
    @given(st.data())
    def fields(data):
        name = data.draw(st.sampled_from(["manifest.json", "shards.json"]))
        changed = data.draw(spoilt(json.loads(sealed[name])))
        opened({**sealed, name: json.dumps(changed).encode()})

    bytes_()
    fields()


DEMO = json.loads((Path(__file__).parents[1] / "docs" / "embedded" / "results.json").read_text())
DEMO = {**DEMO, **{name: DEMO[name][:2] for name in ("rows", "equal_cost", "votes", "calibration")}}


@inputs(0.06)
@given(st.one_of(spoilt(DEMO), damaged(json.dumps(DEMO).encode())))
def test_results_are_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        path = Path(folder) / "results.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        read_results(path)


CARD = json.loads((REASONERS["embedded"].learned / "entropy.json").read_text())
CARD = {**CARD, "candidates": CARD["candidates"][:2], "validation_problems": CARD["validation_problems"][:2]}


@inputs(0.03)
@given(st.one_of(spoilt(CARD), damaged(json.dumps(CARD).encode())))
def test_a_card_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        path = Path(folder) / "entropy.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        load_method("entropy", Path(folder), CARD["model_hash"], 40)


@inputs(0.02)
@given(damaged(b'{"problem": "a", "prompt": "1 + 1"}\n{"problem": "b", "prompt": "2 + 2"}\n'))
def test_the_prompts_of_what_was_learned_are_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        (Path(folder) / "problems.jsonl").write_bytes(content)
        learned_problems(Path(folder))


@inputs(0.02)
@given(st.sampled_from(["text-classifier", "linear-probe", "stop"]), st.data())
def test_what_was_learned_is_read_or_refused(name, data):
    source = REASONERS["embedded"].learned
    card = json.loads((source / f"{name}.json").read_text())
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        (Path(folder) / f"{name}.json").write_text(json.dumps(card))
        content = (source / f"{name}.safetensors").read_bytes()
        (Path(folder) / f"{name}.safetensors").write_bytes(data.draw(damaged(content[:4000])) + content[4000:])
        load_method(name, Path(folder), card["model_hash"], 40)


def columns_of(schema):
    """Rows of the right types, with what no run writes in them."""
    values = {
        pa.string(): st.none() | st.text(max_size=3), pa.int32(): st.none() | st.integers(-2, 9),
        pa.float64(): st.none() | st.floats(), pa.bool_(): st.none() | st.booleans(),
        pa.int64(): st.none() | st.integers(-2, 9),
        pa.list_(pa.int32()): st.none() | st.lists(st.integers(0, 9), max_size=3),
        pa.list_(pa.float32()): st.none() | st.lists(st.just(0.5), max_size=3),
    }  # fmt: skip
    return st.lists(st.fixed_dictionaries({field.name: values[field.type] for field in schema}), max_size=4)


def sealed_with(folder, kind, rows, schema):
    """A store whose checksums are right."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    made = Shards.create_or_open(folder, kind, {"continuations": 4})
    with made:
        made.seal("shard-00000", {"shard-00000.parquet": sink.getvalue().to_pybytes()})


@pytest.mark.parametrize(
    ("store", "module"),
    [(RolloutStore, prunebench.bench.rollouts.store), (LabelStore, prunebench.bench.rollouts.label_store)],
)
def test_rows_that_no_run_writes_are_read_or_refused(store, module):
    @inputs(0.05)
    @given(columns_of(module._SCHEMA))
    def rows(drawn):
        with tempfile.TemporaryDirectory() as folder, one_sentence():
            sealed_with(Path(folder), module.KIND, drawn, module._SCHEMA)
            opened = store.open(Path(folder))
            if isinstance(opened, RolloutStore):
                opened.lengths()
                list(opened.read())
            else:
                opened.lookup("t", "p", [])

    rows()


@inputs(0.02)
@given(columns_of(prunebench.bench.evaluation.decisions._SCHEMA))
def test_decisions_that_no_run_writes_are_read_or_refused(drawn):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        table = pa.Table.from_pylist(drawn, schema=prunebench.bench.evaluation.decisions._SCHEMA)
        pq.write_table(table, Path(folder) / prunebench.bench.evaluation.decisions.FILE)
        assert sum(len(one.paths) for one in prunebench.bench.evaluation.decisions.read_decisions(Path(folder))) == len(
            drawn
        )


RUN = {
    "ledger.csv": b"task,problem,method,phase,decoded_tokens,reencoded_tokens,probe_tokens,check_tokens,flops,"
    b"peak_kv_bytes,tool_tokens,judge_bytes\nt,p,stop,check,1,0,0,2,3e9,100,0,0\n",
    "timings.csv": b"task,problem,method,launch_seconds,check_seconds,resume_seconds\nt,p,stop,1.5,0.2,nan\n",
}


@inputs(0.04)
@given(st.sampled_from(sorted(RUN)), st.data())
def test_a_run_folder_is_read_or_refused(name, data):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        (Path(folder) / name).write_bytes(data.draw(damaged(RUN[name])))
        for row in getattr(RunFolder(Path(folder)), name.removesuffix(".csv")):
            assert row.method is not None


GUIDELINE = json.loads((REASONERS["embedded"].guideline / "guideline-stop.json").read_text())


@inputs(0.03)
@given(st.one_of(spoilt(GUIDELINE), damaged(json.dumps(GUIDELINE).encode())))
def test_a_guideline_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder, one_sentence():
        path = Path(folder) / "guideline-stop.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        read_guidelines(path)


def test_settings_do_not_refer_to_themselves():
    """A few lines of references can stand for more than any memory holds."""
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with tempfile.TemporaryDirectory() as folder:
        path = yaml_file(folder, bomb.encode())
        with pytest.raises(UserError, match=r"mine\.yaml, line 2: not valid YAML \(references .* are not read"):
            load_config(path)
        path.write_text("tasks: [" + "x, " * 100_000 + "]")
        with pytest.raises(UserError, match="more than 256 KiB, so no file of settings"):
            load_config(path)
        path.write_text('extends: "a\\0b"\n')
        with pytest.raises(UserError, match=r"extends .* is no file"):
            load_config(path)


def test_the_check_can_fail():
    with pytest.raises(KeyError), one_sentence():
        raise KeyError("x")
    with pytest.raises(AssertionError), one_sentence():
        raise UserError("")
    for said in ("x" * 5000, "two\nlines"):
        error = UserError("one")
        error.args = (said,)  # past what it does to sentences
        with pytest.raises(AssertionError), one_sentence():
            raise error


def test_what_a_hundred_thousand_inputs_found_stays_mended(sealed, tmp_path):
    """A sentence with a name of 5,000 characters; a shard without its rows; a card without a prefix length."""
    with pytest.raises(UserError) as told:
        raise UserError(f"there are the models {'9' * 5000}; choose one")
    assert len(str(told.value)) < 1500
    assert str(told.value).startswith("there are the models 99")
    assert str(told.value).endswith("99; choose one")
    for name, content in sealed.items():
        (tmp_path / name).write_bytes(content)
    listing = json.loads(sealed["shards.json"])
    listing["shard-0009"] = listing.pop("shard-00000")
    (tmp_path / "shards.json").write_text(json.dumps(listing))
    with pytest.raises(UserError, match="is no shard; restore it"):
        RolloutStore.open(tmp_path)
    (tmp_path / "entropy.json").write_text(json.dumps({**CARD, "prefix_tokens": []}))
    with pytest.raises(UserError, match=r"not a card of this version .prefix_tokens: List should have at least 1 item"):
        load_method("entropy", tmp_path, CARD["model_hash"], 40)


def test_texts_that_are_none_are_refused(tmp_path):
    """In the name of a column, and in a row of a store whose checksum is right."""
    pq.write_table(pa.table({"model_name": ["A"]}), tmp_path / "rows.parquet", store_schema=False)
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content.replace(b"model_name", b"model\xe5name"))
    with pytest.raises(UserError, match=r"cannot be read as Parquet .*codec"):
        schema_of(tmp_path / "rows.parquet")
    wrong = pa.array([b"\xe5("]).view(pa.string())
    columns = [
        wrong if one.name == "task" else pa.nulls(1, one.type) for one in prunebench.bench.rollouts.label_store._SCHEMA
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=prunebench.bench.rollouts.label_store._SCHEMA), sink)
    made = Shards.create_or_open(tmp_path / "labels", prunebench.bench.rollouts.label_store.KIND, {"continuations": 4})
    with made:
        made.seal("shard-00000", {"shard-00000.parquet": sink.getvalue().to_pybytes()})
    with pytest.raises(UserError, match=r"shard-00000.parquet: cannot be read .*UTF8"):
        LabelStore.open(tmp_path / "labels")
