import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from satjax.assembly import SPLASH_FROM, assemble, attention_kernel, with_tuned_llm
from satjax.errors import SatjaxError
from satjax.models.router_model import abstract_model
from satjax.scoring.llm import score_step
from satjax.training.job import prepare
from tests.tiny import ABILITY_ALONE, tiny_config, untrained_params, write_tiny_llm


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


def test_output_rows_that_nobody_reads_stay_where_they_are(tmp_path):
    """Of an LLM of 8B parameters they are a gigabyte."""
    weights = f"dir:{write_tiny_llm(tmp_path / 'untied', tied=False)}"
    answering = assemble(tiny_config(tmp_path, router__llm__weights=weights).router)
    assert "llm/head/kernel" in answering.base_params
    alone = assemble(tiny_config(tmp_path, **{**ABILITY_ALONE, "router__llm__weights": weights}).router)
    assert not [path for path in alone.base_params if path.startswith("llm/head")]
    assert "llm/head/kernel" not in abstract_model(alone.model)[1]
    assert set(alone.base_params) <= set(answering.base_params)


def test_kernels_that_stay_as_they_are_have_the_dtype_in_which_they_are_used(tmp_path):
    """Rounding them once or in every step gives the same numbers, and once takes less time and memory."""
    assembly = assemble(tiny_config(tmp_path, router__compute_dtype="bfloat16").router)
    trained = "llm/upper/mlp/up/kernel"
    fixed = assembly.fixed(set(assembly.base_params) - {trained})
    rows = assembly.writer.encode(["What is 2 + 2?"])
    scores = []
    for parts in (assembly, fixed):
        params = untrained_params(parts)
        assert params[trained].dtype == np.float32
        assert params["llm/embedding"].dtype == np.float32
        assert params["llm/upper/mlp/gate/kernel"].dtype == (np.float32 if parts is assembly else jnp.bfloat16)
        soft = jnp.ones((2, 1, 32))
        run = score_step(abstract_model(assembly.model)[0])
        scores.append(np.asarray(run(params, rows.token, rows.length, soft)))
    np.testing.assert_array_equal(*scores)
    wide = assemble(tiny_config(tmp_path).router)
    assert wide.fixed(wide.base_params).base_params == wide.base_params


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_adapters_change_no_score(tmp_path, dtype):
    """Little of what training adds is left of a kernel that is rounded to bfloat16 afterwards."""
    assembly = assemble(tiny_config(tmp_path, router__param_dtype=dtype).router)
    params = untrained_params(assembly)
    params = {path: value + 1e-3 if "/lora_b" in path else value for path, value in params.items()}
    learned = {path: value for path, value in params.items() if path not in assembly.base_params}
    merged, rest = with_tuned_llm(assembly, learned)
    assert not [path for path in merged.base_params if "/lora_" in path]
    rows, soft = assembly.writer.encode(["What is 2 + 2?"]), jnp.ones((2, 1, 32))
    scores = [
        score_step(abstract_model(parts.model)[0])(given, rows.token, rows.length, soft)
        for parts, given in ((assembly, params), (merged, untrained_params(merged) | rest))
    ]
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.parametrize("tokens", ["all", "suffix"])
def test_kernels_that_were_trained_whole_are_held_as_base_weights_are(tmp_path, tokens):
    assembly = assemble(tiny_config(tmp_path, router__llm__lora_tokens=tokens, router__compute_dtype="bfloat16").router)
    params = untrained_params(assembly)
    base = {path for path in assembly.base_params if path.startswith("llm/")}
    learned = {path: value + 1e-3 for path, value in params.items() if path in base or path not in assembly.base_params}
    tuned, rest = with_tuned_llm(assembly, learned)
    assert not base & set(rest)
    assert any("/lora_" in path for path in rest) == (tokens == "suffix")
    kernel = "llm/lower/mlp/gate/kernel"
    np.testing.assert_array_equal(np.asarray(tuned.base_params[kernel]), learned[kernel])
    fixed = tuned.fixed(tuned.base_params).base_params
    assert {str(value.dtype) for path, value in fixed.items() if path in base and path.endswith("/kernel")} == {
        "bfloat16"
    }


@pytest.mark.parametrize("part", ["llm", "encoder"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_another_config_or_tokenizer_beside_the_same_weights_is_refused(tmp_path, part, name):
    router = tiny_config(tmp_path).router
    base = assemble(router).bases[part]
    file = base.directory / name
    file.write_text(file.read_text() + "\n")
    with pytest.raises(SatjaxError, match=r"another sha256 .* with the config\.json and tokenizer\.json"):
        assemble(router, {part: base.sha256})


def test_a_prompt_longer_than_the_llm_reads_is_refused(tmp_path):
    with pytest.raises(SatjaxError, match=r"router.prompt.buckets: 600 tokens are too many .* reads 512"):
        assemble(tiny_config(tmp_path, router__prompt__buckets=(256, 600)).router)


def test_what_follows_the_longest_prompt_has_to_fit_too(tmp_path):
    tail = "\nAnswer" * 20 + ":"

    def config(longest):
        return tiny_config(
            tmp_path, router__prompt={"buckets": (256, longest), "tail": tail}, router__llm__join_layer=0
        ).router

    after = len(assemble(config(300)).model.tail_ids) + 1
    assert after > 17
    assemble(config(512 - after))
    with pytest.raises(SatjaxError, match=f"{513 - after} tokens are too many .* reads 512, {after} of them after"):
        assemble(config(513 - after))


def test_parameters_in_bfloat16(tmp_path):
    assembly = assemble(tiny_config(tmp_path, router__param_dtype="bfloat16").router)
    assert {str(value.dtype) for value in assembly.base_params.values()} == {"bfloat16"}


def test_what_training_starts_from_is_never_rounded(tmp_path):
    published = assemble(tiny_config(tmp_path).router).base_params
    config = tiny_config(tmp_path, router__param_dtype="bfloat16", router__llm__lora_rank=0)
    stage = dataclasses.replace(config.stages[0], trainable=("connector/.*", "encoder/.*"))
    job = prepare(dataclasses.replace(config, stages=(stage,)), tmp_path / "run")
    for path, value in job.assembly.base_params.items():
        assert value.dtype == ("float32" if path.startswith("encoder/") else "bfloat16"), path
    for path in ("encoder/embedding", "encoder/layers/up/kernel"):
        np.testing.assert_array_equal(np.asarray(job.assembly.base_params[path]), np.asarray(published[path]))


def on_gpu(monkeypatch, capability):
    monkeypatch.setattr("jax.local_devices", lambda: [SimpleNamespace(compute_capability=capability)])


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "capability", "kernel"),
    [
        ("cpu", "float32", 64, "", "xla"),
        ("tpu", "float32", 96, "", "splash"),
        ("gpu", "bfloat16", 96, "9.0", "cudnn"),
        ("gpu", "float32", 96, "9.0", "xla"),
        ("gpu", "bfloat16", 60, "9.0", "xla"),
        ("gpu", "bfloat16", 256, "9.0", "xla"),
        ("gpu", "bfloat16", 64, "7.5", "xla"),
        ("gpu", "bfloat16", 64, "gfx942", "xla"),
    ],
)
def test_attention_is_by_the_best_kernel_that_there_is(platform, dtype, width, capability, kernel, monkeypatch):
    on_gpu(monkeypatch, capability)
    assert attention_kernel("auto", platform, dtype, width, SPLASH_FROM) == kernel
    assert attention_kernel(kernel, platform, dtype, width, SPLASH_FROM) == kernel
    assert attention_kernel("xla", platform, dtype, width, SPLASH_FROM) == "xla"
    with pytest.raises(SatjaxError, match=f"no such kernel for {dtype} heads of {width} on {platform}"):
        attention_kernel("cudnn" if kernel != "cudnn" else "splash", platform, dtype, width, SPLASH_FROM)


def test_short_texts_are_xla_s_on_tpu_unless_splash_is_asked_for():
    short = ("tpu", "bfloat16", 96, SPLASH_FROM - 1)
    assert attention_kernel("auto", *short) == "xla"
    assert attention_kernel("splash", *short) == "splash"
