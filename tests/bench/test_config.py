from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from pydantic import ValidationError

from prunebench.bench.config import RunConfig, load_config, preset, preset_names
from prunebench.bench.engines.base import Sampling
from prunebench.bench.errors import UserError

GOOD = """
    tasks: [synthetic]
    model: embedded
    n: 16
    k: 4
    prefix_tokens: 40
    problems: 3
    temperature: 1
    max_new_tokens: 200
"""


@pytest.fixture
def write(tmp_path):
    def write(*lines, without=()):
        kept = [line for line in textwrap.dedent(GOOD).splitlines() if line.split(":")[0] not in without]
        path = tmp_path / "run.yaml"
        path.write_text("\n".join([*kept, *lines]) + "\n")
        return path

    return write


def test_the_demo_is_what_its_documentation_says():
    config = preset("demo")
    assert preset("embedded") == config.model_copy(update={"problems": 100}), "the published comparison"
    assert (config.tasks, config.split, config.problems, config.model) == (("synthetic",), "test", 5, "embedded")
    assert (config.n, config.k, config.prefix_tokens, config.seed) == (64, 8, 40, 0)
    assert config.sampling == Sampling(temperature=0.8, max_new_tokens=900)
    assert (config.methods, config.policy) == ((), None)


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads(name):
    assert isinstance(preset(name), RunConfig)


def test_overrides_replace_single_keys(write):
    assert load_config(write(), n=32, tasks=["synthetic/power"]).model_dump() == {
        **load_config(write()).model_dump(),
        "n": 32,
        "tasks": ("synthetic/power",),
    }


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        preset("demo").n = 3


REFUSED = [
    # (replaced key, line, sentence)
    ("", "prefx_tokens: 40", "unknown key 'prefx_tokens'; did you mean 'prefix_tokens'?"),
    ("", "zzz: 1", "unknown key 'zzz'; known are tasks, model, n, k"),
    ("n", "", "n is missing"),
    ("n", "n: 0", "n = 0: input should be greater than or equal to 1"),
    ("n", "n: '64'", "n = '64': input should be a valid integer"),
    ("n", "n: 6.5", "n = 6.5: input should be a valid integer"),
    ("n", "n: true", "n = True: input should be a valid integer"),
    ("tasks", "tasks: synthetic", "tasks = 'synthetic': input should be a valid tuple"),
    ("tasks", "tasks: [synthetic, 3]", "tasks.1 = 3: input should be a valid string"),
    ("tasks", "tasks: []", "tasks = []: "),
    ("", "split: reasoner", "split = 'reasoner': input should be 'train', 'validation' or 'test'"),
    ("", "seed: -1", "seed = -1: input should be greater than or equal to 0"),
    ("k", "k: 17", "k = 17 paths cannot be kept of n = 16; choose k <= n"),
    ("prefix_tokens", "prefix_tokens: 200", "prefix_tokens = 200: every path ends before it"),
    ("temperature", "temperature: 11", "temperature = 11.0: give a number from 0.0 to 10.0"),
    ("temperature", "temperature: .nan", "temperature = nan: give a number from 0.0 to 10.0"),
    ("", "top_p: 0", "top_p > 0"),
    ("", "top_k: -1", "top_k >= 0"),
    ("", "policy: topk:17", "policy topk:17 keeps 17 of 16 paths; choose k <= n"),
    ("", "policy: funnel:8@2,4@3", "policy funnel:8@2,4@3 begins with 8 paths, but there are 16"),
    ("", "policy: threshold:1,every=5000,checks=2", "every path ends before it, at max_new_tokens ="),
    ("", "policy: top", "unknown policy 'top'"),
    ("", "policy: ratio:2", "the retention ratio must be above 0 and at most 1"),
]


@pytest.mark.parametrize(("replaced", "line", "sentence"), REFUSED)
def test_a_wrong_setting_is_one_sentence_with_file_key_and_value(write, replaced, line, sentence):
    path = write(line, without=(replaced,))
    with pytest.raises(UserError) as refusal:
        load_config(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert sentence in message
    assert "\n" not in message and "pydantic" not in message


def test_several_mistakes_are_counted(write):
    with pytest.raises(UserError, match=r"n = 0: .* \(and 1 more\)"):
        load_config(write("n: 0", "seed: -1", without=("n",)))


def test_a_wrong_option_is_not_blamed_on_the_file(write):
    with pytest.raises(UserError, match=r"^option: n = 0: "):
        load_config(write(), n=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("n: [1", ", line 2: not valid YAML"),
        ("", "holds no settings"),
        ("- n", "holds no settings"),
        ("a: !!python/object/apply:os.getcwd []", ", line 1: not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, sentence):
    path = tmp_path / "run.yaml"
    path.write_text(content + "\n")
    with pytest.raises(UserError, match=sentence):
        load_config(path)


def test_a_missing_file_and_an_unknown_preset_offer_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"no such file; the shipped presets are .*demo"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"unknown preset 'demoo'; did you mean 'demo'\?"):
        preset("demoo")


def test_a_configuration_is_read_without_loading_a_model_library():
    code = "import sys; from prunebench.bench.config import preset; preset('demo'); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
