"""A trained router's LLM as a Hugging Face directory, LoRA merged: what torch, transformers and satjax itself load as any other model."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from satjax.checkpoint import load_arrays
from satjax.errors import SatjaxError
from satjax.export.directory import read_router
from satjax.files import check_space, replacing
from satjax.weights.adapters import merged
from satjax.weights.base import BaseFiles, open_base
from satjax.weights.fetch import check_digest, resolve
from satjax.weights.lazy import LazyTensor, lazy
from satjax.weights.names import decoder_config, decoder_params, decoder_tensors, is_fused
from satjax.weights.safetensors_dir import INDEX

SHARD_BYTES = 2 * 10**9
"""Largest file of weights; one is written at a time, and held in memory for it."""
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja")
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def convert(router: Path, out: Path) -> Path:
    """Writes the LLM of a router directory to `out`, which must not be there yet: config, tokenizer, and weights in the router's `param_dtype`.

    Weights of more than `SHARD_BYTES` are split into files of at most that size. The host holds what was trained, and one file. Raises
    SatjaxError where there is no LLM to write: adapters that serve the candidates' tokens only are part of none, and where the ability
    head scores alone only the LLM's lower layers are there.
    """
    files = read_router(router)
    llm = files.config.llm
    if llm.lora_rank and llm.lora_tokens != "all":
        raise SatjaxError(
            f"router {router}: its adapters serve the candidates' tokens only (router.llm.lora_tokens = {llm.lora_tokens!r}), so merged they "
            "would make another LLM; train with 'all' to convert"
        )
    if files.config.head == "none":
        raise SatjaxError(
            f"router {router}: its ability head scores alone, on the first {files.config.ability_head.depth} layers of {llm.weights}: that is "
            "no LLM that answers, and there is nothing to convert"
        )
    if out.exists():
        raise SatjaxError(f"--out {out} is there already; name a directory that is not, or remove it")
    source, dtype = resolve(llm.weights), files.config.param_dtype
    check_digest(source, files.base_sha256["llm"])
    base = open_base(source.directory)
    config = decoder_config(base.config, lora_rank=llm.lora_rank, join_layer=llm.join_layer)
    wanted = {path: shape for path, shape in files.learned.items() if path.startswith("llm/")}
    learned = {path.removeprefix("llm/"): lazy(value) for path, value in load_arrays(router / "params", wanted).items()}
    params = merged({**decoder_params(base.tensors, config, dtype), **learned})
    named = decoder_tensors(params, config, fused=is_fused(base.tensors))
    tensors = {name: tensor.astype(dtype) for name, tensor in named.items()}
    with replacing(out) as fresh:
        check_space(fresh, sum(tensor.nbytes for tensor in tensors.values()))
        _write_weights(fresh, tensors)
        _write_json(fresh / "config.json", _hf_config(base.config, dtype))
        _write_tokenizer(fresh, source.directory, base)
    return out


def _write_weights(directory: Path, tensors: Mapping[str, LazyTensor]) -> None:
    groups = list(_groups(tensors))
    file_of: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors" if len(groups) > 1 else "model.safetensors"
        arrays = {name: np.ascontiguousarray(tensors[name][...]) for name in names}
        # transformers refuses files that do not say who wrote them.
        save_file(arrays, str(directory / file), metadata={"format": "pt"})
        file_of |= dict.fromkeys(names, file)
    if len(groups) > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        _write_json(directory / INDEX, {"metadata": {"total_size": size}, "weight_map": file_of})


def _groups(tensors: Mapping[str, LazyTensor]) -> Iterator[list[str]]:
    """Names in turn, as many to a group as fit into `SHARD_BYTES`, and at least one."""
    held: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if held and size + tensor.nbytes > SHARD_BYTES:
            yield held
            held, size = [], 0
        held, size = [*held, name], size + tensor.nbytes
    yield held


def _write_tokenizer(directory: Path, source: Path, base: BaseFiles) -> None:
    """The base model's own files, or what stands for them in a GGUF file."""
    if (source / "tokenizer.json").is_file():
        for name in ("tokenizer.json", *BESIDE):
            if (source / name).is_file():
                shutil.copyfile(source / name, directory / name)
        return
    base.tokenizer.save(str(directory / "tokenizer.json"))
    known = {f"{kind}_token": base.config.get(f"{kind}_token_id") for kind in ("bos", "eos")}
    special = {name: base.tokenizer.id_to_token(number) for name, number in known.items() if number is not None}
    _write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})


def _hf_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The base model's `config.json` less what does not hold of the copy: where it came from, code of its own, its dtype."""
    kept = {key: value for key, value in config.items() if key not in ("_name_or_path", "auto_map", "torch_dtype")}
    return {**kept, "architectures": [ARCHITECTURES[config["model_type"]]], "dtype": dtype}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
