import json

import pytest

from satjax.assembly import assemble
from satjax.config import RouterConfig
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError
from satjax.evaluation.embed import embed
from satjax.training.job import prepare
from satjax.weights.fetch import resolve
from satjax.weights.pooling import FILE, MODULES, check_modules, stated_pooling
from tests.base_models import minilm
from tests.tiny import tiny_config, write_tiny_encoder, write_tiny_llm


def switches(**on):
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {"word_embedding_dimension": 16, **{f"pooling_mode_{name}": on.get(name, False) for name in names}}


def stating(directory, config):
    (directory / FILE).parent.mkdir(parents=True, exist_ok=True)
    (directory / FILE).write_text(config if isinstance(config, str) else json.dumps(config))
    return directory


def test_without_a_statement_it_is_the_mean(tmp_path):
    assert stated_pooling(tmp_path) == "mean"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        (switches(mean_tokens=True), "mean"),
        (switches(cls_token=True), "cls"),
        ({**switches(cls_token=True), "include_prompt": True}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": "cls"}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_what_the_file_states(tmp_path, config, pooling):
    assert stated_pooling(stating(tmp_path, config)) == pooling


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (switches(max_tokens=True), "states the pooling max_tokens, which satjax does not have"),
        (switches(cls_token=True, mean_tokens=True), "states the pooling cls_token, mean_tokens, which"),
        ({"pooling_mode": "lasttoken"}, "states the pooling lasttoken, which"),
        ({**switches(mean_tokens=True), "include_prompt": False}, "states the pooling mean_tokens without the prompt"),
        (switches(), "states the pooling none, which"),
        ("{", "1_Pooling/config.json cannot be read"),
        ("[]", "1_Pooling/config.json cannot be read"),
        ('{"pooling_mode": 1}', "1_Pooling/config.json cannot be read"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path, config, words):
    with pytest.raises(SatjaxError, match=words) as raised:
        stated_pooling(stating(tmp_path, config))
    assert "\n" not in str(raised.value)


def test_a_router_pools_as_its_encoder_states(tmp_path):
    llm, encoder = write_tiny_llm(tmp_path / "llm"), write_tiny_encoder(tmp_path / "encoder")
    config = from_mapping(
        RouterConfig,
        {
            "llm": {"weights": f"dir:{llm}"},
            "encoder": {"weights": f"dir:{encoder}"},
            "prompt": {"buckets": (256,), "tail": ""},
        },
    )
    assert assemble(config).model.encoder.pooling == "mean"
    stating(encoder, switches(cls_token=True))
    assert assemble(config).model.encoder.pooling == "cls"
    stating(encoder, switches(max_tokens=True))
    with pytest.raises(SatjaxError, match="states the pooling max_tokens"):
        assemble(config)


def naming(directory, **folders):
    """Modules by their kinds, each with its folder."""
    prefix = "sentence_transformers.models"
    modules = [{"idx": i, "type": f"{prefix}.{kind}", "path": path} for i, (kind, path) in enumerate(folders.items())]
    (directory / MODULES).write_text(json.dumps(modules))
    return directory


def test_modules_that_are_read_are_taken(tmp_path):
    check_modules(tmp_path)
    check_modules(naming(tmp_path, Transformer=""))
    stating(tmp_path, switches(cls_token=True))
    check_modules(naming(tmp_path, Transformer="", Pooling="1_Pooling", Normalize="2_Normalize"))
    assert (minilm().directory / MODULES).is_file()
    assert not (minilm().directory / FILE).is_file()
    check_modules(minilm().directory)


def test_modules_that_are_not_read_are_refused_in_one_line(tmp_path):
    encoder = write_tiny_encoder(tmp_path / "encoder")
    naming(encoder, Transformer="", Pooling="1_Pooling", Normalize="2_Normalize")
    with pytest.raises(
        SatjaxError, match=r"names the pooling 1_Pooling, and there is no 1_Pooling/config\.json"
    ) as absent:
        check_modules(encoder)
    stating(encoder, switches(cls_token=True))
    naming(encoder, Transformer="", Pooling="1_Pooling", Dense="2_Dense", Normalize="3_Normalize")
    with pytest.raises(SatjaxError, match="names a module Dense, which satjax does not have") as other:
        embed(resolve(f"dir:{encoder}"), ["a text"])
    for content in ("{", "[1]", '[{"path": ""}]', '[{"type": 1, "path": ""}]'):
        (encoder / MODULES).write_text(content)
        with pytest.raises(SatjaxError, match=r"modules\.json cannot be read"):
            check_modules(encoder)
    assert "\n" not in str(absent.value) + str(other.value)


def test_a_run_begins_without_them_only_and_goes_on_as_it_began(tmp_path):
    config = tiny_config(tmp_path / "home")
    encoder = naming(tmp_path / "home" / "encoder", Transformer="", Dense="2_Dense")
    with pytest.raises(SatjaxError, match="names a module Dense"):
        prepare(config, tmp_path / "run")
    (encoder / MODULES).rename(tmp_path / MODULES)
    prepare(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / MODULES).rename(encoder / MODULES)
    prepare(config, tmp_path / "run")
