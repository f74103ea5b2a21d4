"""Hugging Face names and shapes to ours: one map per architecture, every mismatch reported at once."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.models.decoder import DecoderConfig
from satjax.models.rope import RopeConfig
from satjax.models.text_encoder import EncoderConfig

Tensors = Mapping[str, np.ndarray]
DECODER_TYPES = ("llama", "mistral", "qwen2", "phi3")


def decoder_config(
    hf: Mapping[str, Any], *, lora_rank: int = 0, lora_tokens: str = "all", join_layer: int = 0, depth: int = 0
) -> DecoderConfig:
    """Shape of a decoder from the keys of its `config.json`, or of its first `depth` layers (0 = all)."""
    kind = hf.get("model_type")
    if kind not in DECODER_TYPES:
        raise SatjaxError(
            f"base weights: model_type {kind!r} is no LLM that satjax knows; it knows {', '.join(DECODER_TYPES)}"
        )
    heads, num_layers = hf["num_attention_heads"], hf["num_hidden_layers"]
    if join_layer >= num_layers:
        raise SatjaxError(
            f"config router.llm.join_layer = {join_layer}: the LLM has {num_layers} layers; give at most {num_layers - 1}"
        )
    positions = hf.get("max_position_embeddings", 2048)
    window = hf.get("sliding_window") if hf.get("use_sliding_window", kind != "qwen2") else None
    return DecoderConfig(
        vocab_size=hf["vocab_size"],
        width=hf["hidden_size"],
        num_layers=min(depth or num_layers, num_layers),
        num_heads=heads,
        num_kv_heads=hf.get("num_key_value_heads") or heads,
        head_width=hf.get("head_dim") or hf["hidden_size"] // heads,
        mlp_width=hf["intermediate_size"],
        norm_epsilon=hf["rms_norm_eps"],
        rope=_rope_config(hf),
        qkv_bias=kind == "qwen2" or bool(hf.get("attention_bias", False)),
        tied_head=bool(hf.get("tie_word_embeddings", False)),
        max_positions=min(positions, window) if window else positions,
        lora_rank=lora_rank,
        lora_tokens=lora_tokens,
        join_layer=join_layer,
    )


def _rope_config(hf: Mapping[str, Any]) -> RopeConfig:
    scaling = {**(hf.get("rope_scaling") or {}), **(hf.get("rope_parameters") or {})}
    theta = float(scaling.get("rope_theta") or hf.get("rope_theta") or 10_000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if scaling.get("partial_rotary_factor", hf.get("partial_rotary_factor")) not in (None, 1, 1.0):
        raise SatjaxError("base weights: partial rotary embeddings are not supported")
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, kind, factor=float(scaling["factor"]))
    if kind == "llama3":
        return RopeConfig(
            theta,
            kind,
            factor=float(scaling["factor"]),
            low_frequency_factor=float(scaling["low_freq_factor"]),
            high_frequency_factor=float(scaling["high_freq_factor"]),
            original_positions=int(scaling["original_max_position_embeddings"]),
        )
    if kind in ("longrope", "su"):
        original = int(scaling.get("original_max_position_embeddings") or hf["original_max_position_embeddings"])
        stretch = hf["max_position_embeddings"] / original
        default = float(np.sqrt(1 + np.log(stretch) / np.log(original))) if stretch > 1 else 1.0
        return RopeConfig(
            theta,
            "longrope",
            original_positions=original,
            short_factors=tuple(map(float, scaling["short_factor"])),
            long_factors=tuple(map(float, scaling["long_factor"])),
            attention_factor=float(scaling.get("attention_factor") or default),
        )
    raise SatjaxError(f"base weights: rope type {kind!r} is not supported; default, linear, llama3 and longrope are")


def encoder_config(hf: Mapping[str, Any], query_prefix: str = "") -> EncoderConfig:
    """Shape of a BERT-type encoder from the keys of its `config.json`."""
    if hf.get("model_type") != "bert" or hf.get("hidden_act", "gelu") != "gelu":
        raise SatjaxError(
            f"base weights: model_type {hf.get('model_type')!r} is no text encoder that satjax knows; it knows bert with gelu"
        )
    return EncoderConfig(
        vocab_size=hf["vocab_size"],
        width=hf["hidden_size"],
        num_layers=hf["num_hidden_layers"],
        num_heads=hf["num_attention_heads"],
        mlp_width=hf["intermediate_size"],
        max_positions=hf["max_position_embeddings"],
        norm_epsilon=hf["layer_norm_eps"],
        query_prefix=query_prefix,
    )


class _Reader:
    """Takes tensors by name, transposed and checked; collects what does not fit instead of stopping at the first."""

    def __init__(self, tensors: Tensors, what: str):
        self.tensors, self.what = tensors, what
        self.used: set[str] = set()
        self.problems: list[str] = []

    def take(self, name: str, shape: tuple[int, ...], rows: slice = slice(None)) -> np.ndarray:
        self.used.add(name)
        if name not in self.tensors:
            self.problems.append(f"{name} is missing")
            return np.zeros(shape, np.float32)
        value = self.tensors[name][rows]
        if value.shape != shape:
            self.problems.append(f"{name} is {value.shape}, not {shape}")
            return np.zeros(shape, np.float32)
        return value

    def linear(self, name: str, width_in: int, width_out: int, rows: slice = slice(None)) -> np.ndarray:
        return self.take(f"{name}.weight", (rows.stop - rows.start if rows.stop else width_out, width_in), rows).T

    def skip(self, unwanted: Callable[[str], Any]) -> None:
        self.used |= {name for name in self.tensors if unwanted(name)}

    def finish(self, ignored: tuple[str, ...]) -> None:
        unknown = [name for name in self.tensors if name not in self.used and not name.endswith(ignored)]
        self.problems += [f"{name} is not known" for name in unknown]
        if self.problems:
            shown = "; ".join(self.problems[:12]) + (
                f"; and {len(self.problems) - 12} more" if len(self.problems) > 12 else ""
            )
            raise SatjaxError(
                f"base weights of the {self.what} do not fit its config ({len(self.problems)} mismatches): {shown}"
            )


def decoder_params(tensors: Tensors, config: DecoderConfig, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Base parameters of `satjax.models.decoder.Decoder` by path (LoRA's are not among them), layers stacked.

    The tensors may have more layers than the config.
    """
    read = _Reader(tensors, "LLM")
    width, mlp = config.width, config.mlp_width
    q, kv = config.num_heads * config.head_width, config.num_kv_heads * config.head_width
    fused = "model.layers.0.self_attn.qkv_proj.weight" in tensors

    def layer(index: int) -> Iterator[tuple[str, np.ndarray]]:
        at = f"model.layers.{index}."
        yield "attention_norm/scale", read.take(at + "input_layernorm.weight", (width,))
        yield "mlp_norm/scale", read.take(at + "post_attention_layernorm.weight", (width,))
        bounds = {"q": slice(0, q), "k": slice(q, q + kv), "v": slice(q + kv, q + 2 * kv)}
        for name, rows in bounds.items():
            if fused:
                yield f"attention/{name}/kernel", read.linear(at + "self_attn.qkv_proj", width, q + 2 * kv, rows)
                continue
            size = rows.stop - rows.start
            yield f"attention/{name}/kernel", read.linear(at + f"self_attn.{name}_proj", width, size)
            if config.qkv_bias:
                yield f"attention/{name}/bias", read.take(at + f"self_attn.{name}_proj.bias", (size,))
        yield "attention/o/kernel", read.linear(at + "self_attn.o_proj", q, width)
        yield "mlp/down/kernel", read.linear(at + "mlp.down_proj", mlp, width)
        if fused:
            yield "mlp/gate/kernel", read.linear(at + "mlp.gate_up_proj", width, 2 * mlp, slice(0, mlp))
            yield "mlp/up/kernel", read.linear(at + "mlp.gate_up_proj", width, 2 * mlp, slice(mlp, 2 * mlp))
        else:
            yield "mlp/gate/kernel", read.linear(at + "mlp.gate_proj", width, mlp)
            yield "mlp/up/kernel", read.linear(at + "mlp.up_proj", width, mlp)

    params = {
        "embedding": np.asarray(read.take("model.embed_tokens.weight", (config.vocab_size, width)), dtype),
        "norm/scale": np.asarray(read.take("model.norm.weight", (width,)), dtype),
    }
    if not config.tied_head:
        params["head/kernel"] = np.asarray(read.linear("lm_head", width, config.vocab_size), dtype)
    for stack, layers in (("lower", range(config.join_layer)), ("upper", range(config.join_layer, config.num_layers))):
        params |= {f"{stack}/{path}": value for path, value in _stacked(layer, layers, dtype).items()}
    read.skip(lambda name: (found := re.match(r"model\.layers\.(\d+)\.", name)) and int(found[1]) >= config.num_layers)
    read.finish(("rotary_emb.inv_freq", "lm_head.weight") if config.tied_head else ("rotary_emb.inv_freq",))
    return params


def encoder_params(tensors: Tensors, config: EncoderConfig, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Parameters of `satjax.models.text_encoder.TextEncoder` by path, layers stacked."""
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    read, width = _Reader(tensors, "text encoder"), config.width

    def both(name: str, width_in: int, width_out: int, path: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{path}/kernel", read.linear(name, width_in, width_out)
        yield f"{path}/bias", read.take(f"{name}.bias", (width_out,))

    def norm(name: str, path: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{path}/scale", read.take(f"{name}.weight", (width,))
        yield f"{path}/bias", read.take(f"{name}.bias", (width,))

    def layer(index: int) -> Iterator[tuple[str, np.ndarray]]:
        at = f"{prefix}encoder.layer.{index}."
        for name, path in (("self.query", "q"), ("self.key", "k"), ("self.value", "v"), ("output.dense", "o")):
            yield from both(f"{at}attention.{name}", width, width, path)
        yield from norm(at + "attention.output.LayerNorm", "attention_norm")
        yield from both(at + "intermediate.dense", width, config.mlp_width, "up")
        yield from both(at + "output.dense", config.mlp_width, width, "down")
        yield from norm(at + "output.LayerNorm", "mlp_norm")

    tables = {
        "embedding": ("word_embeddings", config.vocab_size),
        "positions": ("position_embeddings", config.max_positions),
        "segments": ("token_type_embeddings", 2),
    }
    at = f"{prefix}embeddings."
    params = {
        path: np.asarray(read.take(f"{at}{name}.weight", (rows, width)), dtype) for path, (name, rows) in tables.items()
    }
    params |= {path: np.asarray(value, dtype) for path, value in norm(at + "LayerNorm", "norm")}
    params |= {f"layers/{path}": value for path, value in _stacked(layer, range(config.num_layers), dtype).items()}
    read.finish(("position_ids", "pooler.dense.weight", "pooler.dense.bias"))
    return params


def _stacked(
    layer: Callable[[int], Iterator[tuple[str, np.ndarray]]], layers: range, dtype: Any
) -> dict[str, np.ndarray]:
    """Layer by layer into preallocated stacks, so that at most one layer is held twice."""
    stacks: dict[str, np.ndarray] = {}
    for row, index in enumerate(layers):
        for path, value in layer(index):
            if path not in stacks:
                stacks[path] = np.empty((len(layers), *value.shape), dtype)
            stacks[path][row] = value
    return stacks
