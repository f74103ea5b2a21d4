import numpy as np
import pytest

from satjax.assembly import assemble
from satjax.errors import SatjaxError
from satjax.models.router_model import abstract_model
from tests.tiny import tiny_config


def test_prompt_and_shapes_fit_the_base_weights(tmp_path):
    assembly = assemble(tiny_config(tmp_path).router)
    _, shapes = abstract_model(assembly.model)
    for path, value in assembly.base_params.items():
        assert shapes[path].shape == value.shape, path
        assert value.dtype == np.float32
    learned = set(shapes) - set(assembly.base_params)
    assert learned
    assert all(path.startswith("connector/") or "/lora_" in path for path in learned)
    yes, no = (assembly.writer.tokenizer.decode([i]) for i in (assembly.model.yes_id, assembly.model.no_id))
    assert (yes, no) == (" Yes", " No")


def test_other_base_weights_are_refused(tmp_path):
    router = tiny_config(tmp_path).router
    digest = assemble(router).bases["llm"].sha256
    assemble(router, {"llm": digest})
    with pytest.raises(SatjaxError, match="another sha256"):
        assemble(router, {"llm": "0" * 64})


def test_a_prompt_longer_than_the_llm_reads_is_refused(tmp_path):
    with pytest.raises(SatjaxError, match=r"router.prompt.buckets: 600 tokens are too many .* reads 512"):
        assemble(tiny_config(tmp_path, router__prompt__buckets=(256, 600)).router)


def test_parameters_in_bfloat16(tmp_path):
    assembly = assemble(tiny_config(tmp_path, router__param_dtype="bfloat16").router)
    assert {str(value.dtype) for value in assembly.base_params.values()} == {"bfloat16"}
