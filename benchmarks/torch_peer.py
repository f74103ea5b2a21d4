"""The LLM in PyTorch, as fast as we could write it: what the speed benchmarks compare with.

Plain functions over weights of one dtype, products by `F.linear`, attention by `scaled_dot_product_attention`. Two ways to rank: the published
one, a sequence for every candidate with the profile as text before the instruction; and our layout, the instruction once and every candidate
as a short suffix that reads its keys and values. A layer is one function, so that `torch.compile` compiles it once for all of them; a whole
pass can be captured as a CUDA graph.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from satjax.weights.base import BaseFiles

Layer = Mapping[str, Tensor]
Rope = tuple[Tensor, Tensor]


class Shape(NamedTuple):
    """What a layer has to know beside its weights."""

    num_heads: int
    num_groups: int
    epsilon: float


@dataclass(frozen=True)
class Peer:
    """Weights of a Llama-type LLM by Hugging Face's names, in one dtype."""

    weights: Mapping[str, Tensor]
    num_layers: int
    shape: Shape
    theta: float
    layers: list[Layer] = field(init=False)

    def __post_init__(self) -> None:
        starts = [f"model.layers.{index}." for index in range(self.num_layers)]
        self.__dict__["layers"] = [
            {name.removeprefix(start): value for name, value in self.weights.items() if name.startswith(start)}
            for start in starts
        ]

    @property
    def embedding(self) -> Tensor:
        return self.weights["model.embed_tokens.weight"]

    def to(self, dtype: torch.dtype) -> "Peer":
        """The same in another dtype."""
        weights = {name: value.to(dtype) for name, value in self.weights.items()}
        return Peer(weights, self.num_layers, self.shape, self.theta)


def peer(base: BaseFiles, dtype: torch.dtype, device: str) -> Peer:
    """The base model's weights in `dtype`."""
    weights = {
        name: torch.from_numpy(np.array(value[...], np.float32)).to(device, dtype)
        for name, value in base.tensors.items()
    }
    config: Any = base.config
    return Peer(
        weights,
        config["num_hidden_layers"],
        Shape(config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]),
        config.get("rope_theta") or config["rope_parameters"]["rope_theta"],
    )


def _norm(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), scale, epsilon)


def _rope(model: Peer, start: int, stop: int, x: Tensor) -> Rope:
    width = x.shape[-1] // model.shape.num_heads
    frequency = model.theta ** (-torch.arange(0, width, 2, dtype=torch.float32, device=x.device) / width)
    angle = torch.cat([torch.arange(start, stop, device=x.device)[:, None] * frequency] * 2, dim=-1)
    return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def _rotate(x: Tensor, rope: Rope) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * rope[0] + torch.cat([-second, first], dim=-1) * rope[1]


def _heads(x: Tensor, weight: Tensor, count: int) -> Tensor:
    return F.linear(x, weight).unflatten(-1, (count, -1)).transpose(-3, -2)


def _projected(shape: Shape, layer: Layer, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
    normed = _norm(x, layer["input_layernorm.weight"], shape.epsilon)
    query = _heads(normed, layer["self_attn.q_proj.weight"], shape.num_heads)
    key, value = (_heads(normed, layer[f"self_attn.{name}_proj.weight"], shape.num_groups) for name in "kv")
    return _rotate(query, rope), _rotate(key, rope), value


def _rest(shape: Shape, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
    x = x + F.linear(mixed.transpose(-3, -2).flatten(-2), layer["self_attn.o_proj.weight"])
    normed = _norm(x, layer["post_attention_layernorm.weight"], shape.epsilon)
    hidden = F.silu(F.linear(normed, layer["mlp.gate_proj.weight"])) * F.linear(normed, layer["mlp.up_proj.weight"])
    return x + F.linear(hidden, layer["mlp.down_proj.weight"])


def text_layer(shape: Shape, layer: Layer, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
    """Next states `[B, L, D]` of texts, and the layer's keys and values `[B, G, L, h]`."""
    query, key, value = _projected(shape, layer, x, rope)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return _rest(shape, layer, x, mixed), key, value


def suffix_layer(
    shape: Shape, layer: Layer, suffix: Tensor, key: Tensor, value: Tensor, rope: Rope, mask: Tensor | None = None
) -> Tensor:
    """Next states `[B, M, S, D]` of suffixes of texts, whose keys and values are `[B, G, L, h]`.

    Attention is two dense blocks under one softmax; or, with the `mask` of `block_mask`, one fused call over text and all suffixes, most of whose
    scores between suffixes are thrown away.
    """
    query, own_key, own_value = _projected(shape, layer, suffix, rope)
    num_groups, size = shape.num_groups, shape.num_heads // shape.num_groups
    num_rows, num_sets, _, num_suffix, width = query.shape
    grouped = query.unflatten(2, (num_groups, size))
    if mask is not None:
        flat = grouped.permute(0, 2, 3, 1, 4, 5).reshape(num_rows, num_groups, -1, width)
        keys, values = (
            torch.cat([text, own.transpose(1, 2).flatten(2, 3)], dim=2)
            for text, own in ((key, own_key), (value, own_value))
        )
        whole = F.scaled_dot_product_attention(flat, keys, values, attn_mask=mask)
        whole = whole.view(num_rows, num_groups, size, num_sets, num_suffix, width).permute(0, 3, 1, 2, 4, 5)
        return _rest(shape, layer, suffix, whole.flatten(2, 3))
    grouped = grouped * width**-0.5
    flat = grouped.permute(0, 2, 1, 3, 4, 5).reshape(num_rows, num_groups, -1, width)
    on_text = (flat @ key.transpose(-1, -2)).view(num_rows, num_groups, num_sets, size, num_suffix, -1)
    on_self = (grouped @ own_key[:, :, :, None].transpose(-1, -2)).transpose(1, 2)
    future = torch.ones(num_suffix, num_suffix, dtype=torch.bool, device=suffix.device).triu(1)
    weight = (
        torch.cat([on_text, on_self.masked_fill(future, float("-inf"))], dim=-1).float().softmax(-1).to(query.dtype)
    )
    text_weight, self_weight = weight.split([key.shape[2], num_suffix], dim=-1)
    text_weight = text_weight.reshape(num_rows, num_groups, -1, key.shape[2])
    mixed = (text_weight @ value).view(num_rows, num_groups, num_sets, size, num_suffix, width)
    mixed = mixed + self_weight @ own_value.transpose(1, 2)[:, :, :, None]
    return _rest(shape, layer, suffix, mixed.transpose(1, 2).flatten(2, 3))


def block_mask(shape: Shape, num_text: int, num_sets: int, num_suffix: int, like: Tensor) -> Tensor:
    """What a suffix's queries, of all heads of a group below each other, may see of text and suffixes: `[R M S, L + M S]`, 0 or -inf."""
    own = torch.ones(num_suffix, num_suffix, dtype=torch.bool, device=like.device).tril()
    sees = torch.block_diag(*[own] * num_sets)
    text = torch.ones(len(sees), num_text, dtype=torch.bool, device=like.device)
    sees = torch.cat([text, sees], dim=1).repeat(shape.num_heads // shape.num_groups, 1)
    return torch.zeros(sees.shape, dtype=like.dtype, device=like.device).masked_fill(~sees, float("-inf"))


class Kernels(NamedTuple):
    """The two kinds of layers, as they are or compiled."""

    text: Callable[..., Any] = text_layer
    suffix: Callable[..., Any] = suffix_layer


EAGER = Kernels()


def compiled() -> Kernels:
    """By `torch.compile`, for every shape anew."""
    torch._dynamo.config.recompile_limit = 64
    return Kernels(*(torch.compile(layer, dynamic=False) for layer in EAGER))


def as_graph(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The whole call as one CUDA graph; what it gives is overwritten by the next."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@torch.inference_mode()
def states(model: Peer, token_BL: Tensor, num_layers: int | None = None, kernels: Kernels = EAGER) -> Tensor:
    """States of the text after some of the layers, or all: what an ability head reads."""
    x = F.embedding(token_BL, model.embedding)
    rope = _rope(model, 0, token_BL.shape[1], x)
    for layer in model.layers[:num_layers]:
        x, _, _ = kernels.text(model.shape, layer, x, rope)
    return x


@torch.inference_mode()
def published(model: Peer, token_BL: Tensor, answer_D: Tensor, batch: int, kernels: Kernels = EAGER) -> Tensor:
    """The answer's logits of sequences that hold profile, instruction and inquiry as text, `batch` at a time."""
    found = []
    for rows in token_BL.split(batch):
        x = states(model, rows, None, kernels)
        found.append(_norm(x[:, -1], model.weights["model.norm.weight"], model.shape.epsilon) @ answer_D)
    return torch.cat(found)


def answers(
    model: Peer,
    token_BL: Tensor,
    suffix_MSD: Tensor,
    answer_D: Tensor,
    kernels: Kernels = EAGER,
    mask: Tensor | None = None,
) -> Tensor:
    """The answer's logits `[B, M]` of candidates whose suffixes share the instruction of each row."""
    text = F.embedding(token_BL, model.embedding)
    suffix = suffix_MSD.repeat(
        len(text), 1, 1, 1
    )  # as dense as after a layer, or the first one would be compiled apart
    num_text = token_BL.shape[1]
    text_rope = _rope(model, 0, num_text, text)
    suffix_rope = _rope(model, num_text, num_text + suffix.shape[2], text)
    for layer in model.layers:
        text, key, value = kernels.text(model.shape, layer, text, text_rope)
        suffix = kernels.suffix(model.shape, layer, suffix, key, value, suffix_rope, mask)
    return _norm(suffix[:, :, -1], model.weights["model.norm.weight"], model.shape.epsilon) @ answer_D


@torch.inference_mode()
def shared_prefix(*arguments: Any) -> Tensor:
    """`answers`, to rank with."""
    return answers(*arguments)
