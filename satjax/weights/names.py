"""Hugging Face names and shapes to ours: one map per architecture, every mismatch reported at once. No tensor is read here."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.models.decoder import DecoderConfig
from satjax.models.rope import RopeConfig
from satjax.models.text_encoder import EncoderConfig, Pooling
from satjax.weights.lazy import LazyTensor, below, stacked

Tensors = Mapping[str, LazyTensor]
DECODER_TYPES = ("llama", "mistral", "qwen2", "phi3")


@contextlib.contextmanager
def _complete(what: str) -> Iterator[None]:
    """Turns what a `config.json` lacks, or has in another form, into one line."""
    try:
        yield
    except KeyError as error:
        raise SatjaxError(
            f"base weights of the {what}: config.json has no {error}; copy or download it again"
        ) from error
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise SatjaxError(
            f"base weights of the {what}: config.json cannot be read ({error}); copy or download it again"
        ) from error


@_complete("LLM")
def decoder_config(
    hf: Mapping[str, Any], *, lora_rank: int = 0, lora_tokens: str = "all", join_layer: int = 0, depth: int = 0
) -> DecoderConfig:
    """Shape of a decoder from the keys of its `config.json`, or of its first `depth` layers (0 = all)."""
    kind = hf.get("model_type")
    if kind not in DECODER_TYPES:
        raise SatjaxError(
            f"base weights: model_type {kind!r} is no LLM that satjax knows; it knows {', '.join(DECODER_TYPES)}"
        )
    if hf.get("hidden_act", "silu") not in ("silu", "swish"):
        raise SatjaxError(f"base weights: hidden_act {hf['hidden_act']!r} of an LLM is not supported; silu is")
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


@_complete("text encoder")
def encoder_config(hf: Mapping[str, Any], query_prefix: str = "", pooling: Pooling = "mean") -> EncoderConfig:
    """Shape of a BERT-type encoder from the keys of its `config.json`; `pooling` stands elsewhere (`satjax.weights.pooling`)."""
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
        pooling=pooling,
    )


class _Reader:
    """Takes tensors by name, checked; collects what does not fit instead of stopping at the first."""

    def __init__(self, tensors: Tensors, what: str):
        self.tensors, self.what = tensors, what
        self.used: set[str] = set()
        self.problems: list[str] = []

    def take(self, name: str, shape: tuple[int, ...]) -> LazyTensor:
        self.used.add(name)
        found = self.tensors[name].shape if name in self.tensors else None
        if found == shape:
            return self.tensors[name]
        self.problems.append(f"{name} is missing" if found is None else f"{name} is {found}, not {shape}")
        # Of the right shape, so that the rest can be looked at; `finish` raises before anybody reads it.
        return LazyTensor(shape, np.dtype(np.float32), lambda index: np.zeros(()))

    def linear(self, name: str, width_in: int, width_out: int) -> LazyTensor:
        return self.take(f"{name}.weight", (width_out, width_in)).T

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


TOP_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "norm/scale": "model.norm.weight",
    "head/kernel": "lm_head.weight",
}


def _top_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shapes, as Hugging Face has them, of the parameters outside the layers."""
    table = (config.vocab_size, config.width)
    shapes: dict[str, tuple[int, ...]] = {"embedding": table, "norm/scale": (config.width,)}
    return shapes if config.tied_head else {**shapes, "head/kernel": table}


def _layer_names(config: DecoderConfig, fused: bool) -> dict[str, dict[str, tuple[int, ...]]]:
    """Tensors of a layer by Hugging Face name: the parameters that make up its rows, from the top, with their shapes there."""
    width, mlp = config.width, config.mlp_width
    q, kv = config.num_heads * config.head_width, config.num_kv_heads * config.head_width
    attention: dict[str, tuple[int, ...]]
    attention = {f"attention/{name}/kernel": (rows, width) for name, rows in (("q", q), ("k", kv), ("v", kv))}
    gated: dict[str, tuple[int, ...]] = {f"mlp/{name}/kernel": (mlp, width) for name in ("gate", "up")}
    names: dict[str, dict[str, tuple[int, ...]]] = {
        "input_layernorm.weight": {"attention_norm/scale": (width,)},
        "post_attention_layernorm.weight": {"mlp_norm/scale": (width,)},
        "self_attn.o_proj.weight": {"attention/o/kernel": (width, q)},
        "mlp.down_proj.weight": {"mlp/down/kernel": (width, mlp)},
    }
    if fused:
        return names | {"self_attn.qkv_proj.weight": attention, "mlp.gate_up_proj.weight": gated}
    for path, shape in (attention | gated).items():
        part, name, _ = path.split("/")
        at = f"{'self_attn' if part == 'attention' else part}.{name}_proj"
        names[f"{at}.weight"] = {path: shape}
        if part == "attention" and config.qkv_bias:
            names[f"{at}.bias"] = {f"attention/{name}/bias": shape[:1]}
    return names


def _turned(path: str, tensor: LazyTensor) -> LazyTensor:
    """Kernels are `[in, out]` with us and `[out, in]` there; nothing else differs."""
    return tensor.T if path.endswith("kernel") else tensor


def decoder_params(tensors: Tensors, config: DecoderConfig, dtype: Any = np.float32) -> dict[str, LazyTensor]:
    """Base parameters of `satjax.models.decoder.Decoder` by path (LoRA's are not among them), layers stacked.

    The tensors may have more layers than the config.
    """
    read = _Reader(tensors, "LLM")
    names = _layer_names(config, fused=is_fused(tensors))

    def layer(index: int) -> Iterator[tuple[str, LazyTensor]]:
        for name, parts in names.items():
            shapes = list(parts.values())
            rows = sum(shape[0] for shape in shapes)
            whole, start = read.take(f"model.layers.{index}.{name}", (rows, *shapes[0][1:])), 0
            for path, shape in parts.items():
                yield path, _turned(path, whole.rows(start, start + shape[0]))
                start += shape[0]

    params = {
        path: _turned(path, read.take(TOP_NAMES[path], shape)).astype(dtype)
        for path, shape in _top_shapes(config).items()
    }
    for stack, layers in _stacks(config).items():
        params |= {f"{stack}/{path}": value for path, value in _stacked(layer, layers, dtype).items()}
    read.skip(lambda name: (found := re.match(r"model\.layers\.(\d+)\.", name)) and int(found[1]) >= config.num_layers)
    read.finish(("rotary_emb.inv_freq", "lm_head.weight") if config.tied_head else ("rotary_emb.inv_freq",))
    return params


def decoder_tensors(
    params: Mapping[str, LazyTensor], config: DecoderConfig, *, fused: bool = False
) -> dict[str, LazyTensor]:
    """The tensors that `decoder_params` makes these parameters of, by Hugging Face name; `fused` as Phi-3 has them."""
    tensors = {TOP_NAMES[path]: _turned(path, params[path]) for path in _top_shapes(config)}
    for stack, layers in _stacks(config).items():
        for row, index in enumerate(layers):
            for name, parts in _layer_names(config, fused).items():
                rows = [_turned(path, params[f"{stack}/{path}"].entry(row)) for path in parts]
                tensors[f"model.layers.{index}.{name}"] = below(rows)
    return tensors


def is_fused(tensors: Mapping[str, Any]) -> bool:
    """Whether q, k and v stand in one tensor, gate and up in another, as Phi-3 has them."""
    return "model.layers.0.self_attn.qkv_proj.weight" in tensors


def _stacks(config: DecoderConfig) -> dict[str, range]:
    return {"lower": range(config.join_layer), "upper": range(config.join_layer, config.num_layers)}


def encoder_params(tensors: Tensors, config: EncoderConfig, dtype: Any = np.float32) -> dict[str, LazyTensor]:
    """Parameters of `satjax.models.text_encoder.TextEncoder` by path, layers stacked."""
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    read, width = _Reader(tensors, "text encoder"), config.width

    def both(name: str, width_in: int, width_out: int, path: str) -> Iterator[tuple[str, LazyTensor]]:
        yield f"{path}/kernel", read.linear(name, width_in, width_out)
        yield f"{path}/bias", read.take(f"{name}.bias", (width_out,))

    def norm(name: str, path: str) -> Iterator[tuple[str, LazyTensor]]:
        yield f"{path}/scale", read.take(f"{name}.weight", (width,))
        yield f"{path}/bias", read.take(f"{name}.bias", (width,))

    def layer(index: int) -> Iterator[tuple[str, LazyTensor]]:
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
        path: read.take(f"{at}{name}.weight", (rows, width)).astype(dtype) for path, (name, rows) in tables.items()
    }
    params |= {path: value.astype(dtype) for path, value in norm(at + "LayerNorm", "norm")}
    params |= {f"layers/{path}": value for path, value in _stacked(layer, range(config.num_layers), dtype).items()}
    read.finish(("position_ids", "pooler.dense.weight", "pooler.dense.bias"))
    return params


def _stacked(
    layer: Callable[[int], Iterator[tuple[str, LazyTensor]]], layers: range, dtype: Any
) -> dict[str, LazyTensor]:
    parts: dict[str, list[LazyTensor]] = {}
    for index in layers:
        for path, part in layer(index):
            parts.setdefault(path, []).append(part)
    return {path: stacked(values, dtype) for path, values in parts.items()}
