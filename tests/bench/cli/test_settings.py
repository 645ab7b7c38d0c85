from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from prunebench.bench.cli.settings import config_from, keys_of, names_of, overrides_of, settings_of, sorted_settings
from prunebench.bench.config import RunConfig, tokens_of
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError


@dataclass(frozen=True)
class Example:
    count: int = 3
    share: float = 0.5
    lengths: tuple[int, ...] = (1, 2)
    place: Path | None = None
    trusted: bool = False


def test_texts_are_read_by_the_type_of_their_field():
    pairs = ["count=5", "share=1", "lengths=4,5", "lengths=6", "place=a/b", "trusted=true"]
    assert settings_of(Example, pairs) == Example(5, 1.0, (4, 5, 6), Path("a/b"), True)
    assert settings_of(Example, None) == Example()
    assert keys_of(Example) == "count (3), share (0.5), lengths (1,2), place (-), trusted (False)"


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("count=many", "--set count=many: input should be a valid integer"),
        ("lengths=1,x", "--set lengths=1,x: input should be a valid integer"),
        ("cuont=1", "--set cuont=1: unknown key 'cuont'; did you mean 'count'?"),
        ("count", "--set count: write KEY=VALUE"),
    ],
)
def test_a_wrong_pair_names_itself(pair, sentence):
    with pytest.raises(UserError) as error:
        settings_of(Example, [pair])
    assert sentence in str(error.value)


def test_one_value_is_given_once():
    with pytest.raises(UserError, match="--set count=2: count is given twice"):
        settings_of(Example, ["count=1", "count=2"])


def test_a_configuration_takes_its_keys_and_those_of_its_model():
    pairs = ["top_p=0.95", "top_k=20", "min_p=0.05", "max_new_tokens=2048", "record=entropy,logprobs", "budget=16k",
             "data=power=a/file", "stop=,", "stop=!", "system=be brief: yes", "dtype=auto"]  # fmt: skip
    config = config_from("demo", pairs, tasks=["synthetic/power"])
    assert (config.top_p, config.top_k, config.min_p, config.max_new_tokens) == (0.95, 20, 0.05, 2048)
    assert (config.record, config.budget, config.data) == (("entropy", "logprobs"), 16384.0, {"power": "a/file"})
    assert config.model_options == ModelOptions(stop=(",", "!"), system="be brief: yes", dtype="auto")
    assert config.sampling.top_p == 0.95 and config.tasks == ("synthetic/power",)


def test_the_options_of_a_model_join_those_of_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("tasks: [synthetic]\nmodel: m\nn: 4\nk: 2\nprefix_tokens: 8\ntemperature: 0.6\n"
                    "max_new_tokens: 99\nmodel_options: {reasoning_effort: low, dtype: auto}\n")  # fmt: skip
    config = config_from(str(file), ["dtype=bfloat16"])
    assert config.model_options == ModelOptions(reasoning_effort="low", dtype="bfloat16")


def test_what_is_usual_gives_way():
    assert config_from("demo", None, usual={"recipe": "small"}).recipe == "small"
    assert config_from("demo", ["recipe=gpu"], usual={"recipe": "small"}).recipe == "gpu"


def test_an_option_and_a_pair_do_not_say_the_same():
    assert overrides_of(["n=8"], {"k": 2, "problems": None}) == {"k": 2, "n": 8}
    with pytest.raises(UserError, match="--set n: an option says the same; give one of them"):
        overrides_of(["n=8"], {"n": 4})


def test_every_key_of_a_configuration_and_a_model_can_be_set():
    from prunebench.bench.cli.settings import _fields_of

    assert set(_fields_of(RunConfig)) == set(RunConfig.model_fields) - {"model_options"}
    assert set(_fields_of(ModelOptions)) == set(ModelOptions.model_fields)
    assert not set(RunConfig.model_fields) & set(ModelOptions.model_fields), "a key belongs to one of them"
    assert sorted_settings(["n=8", "tools=python"], RunConfig, ModelOptions) == [{"n": 8}, {"tools": "python"}]


def test_names_are_split_outside_of_brackets():
    assert names_of("stop, mean-rank(stop,entropy) ,none") == ["stop", "mean-rank(stop,entropy)", "none"]
    assert names_of("all") == []


def test_k_is_1024_tokens():
    assert (tokens_of("300k"), tokens_of(" 16384 "), tokens_of("0.5k")) == (300 * 1024, 16384, 512)
    assert (tokens_of("1M"), tokens_of("1.5m"), tokens_of("8K"), tokens_of("16,384")) == (2**20, 3 * 2**19, 8192, 16384)
    with pytest.raises(UserError, match="much: write a number of tokens, such as 16384, 16k or 1M"):
        tokens_of("much")
    for text in ("", "k", "nan", "inf", "infM", "1G"):
        with pytest.raises(UserError, match="write a number of tokens"):
            tokens_of(text)


@pytest.mark.parametrize(
    ("model", "pairs", "prefix"),
    [
        ("mine", (), 2048),
        ("mine", ("max_new_tokens=4096",), 2048),
        ("mine", ("max_new_tokens=1024",), 128),
        ("mine", ("max_new_tokens=1024", "prefix_tokens=500"), 500),
        ("embedded", ("max_new_tokens=79",), 9),
        ("embedded", ("max_new_tokens=80",), 40),
    ],
)
def test_where_paths_are_shorter_than_usual_the_checkpoint_lies_inside_them(model, pairs, prefix):
    assert config_from(None, pairs, model=model).prefix_tokens == prefix


@pytest.mark.parametrize(("n", "k"), [(64, 8), (16, 8), (8, 8), (7, 1), (2, 1)])
def test_of_fewer_paths_than_are_usually_kept_an_eighth_is(n, k):
    assert config_from(None, None, n=n).k == k
