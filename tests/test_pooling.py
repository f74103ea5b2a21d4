import json

import pytest

from satjax.assembly import assemble
from satjax.config import RouterConfig, from_mapping
from satjax.errors import SatjaxError
from satjax.weights.pooling import FILE, stated_pooling
from tests.tiny import write_tiny_encoder, write_tiny_llm


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
