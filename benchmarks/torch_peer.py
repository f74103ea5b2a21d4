"""The LLM in PyTorch, as fast as we could write it: what the speed benchmarks compare with.

Plain functions over weights of one dtype, products by `F.linear`, attention by `scaled_dot_product_attention`. Two ways to rank: the published
one, a sequence for every candidate with the profile as text before the instruction; and our layout, the instruction once and every candidate
as a short suffix that reads its keys and values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from satjax.weights.base import BaseFiles


@dataclass(frozen=True)
class Peer:
    """Weights of a Llama-type LLM by Hugging Face's names, in one dtype."""

    weights: Mapping[str, Tensor]
    num_layers: int
    num_heads: int
    num_groups: int
    epsilon: float
    theta: float

    def layer(self, index: int, name: str) -> Tensor:
        return self.weights[f"model.layers.{index}.{name}.weight"]

    @property
    def embedding(self) -> Tensor:
        return self.weights["model.embed_tokens.weight"]


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
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["rms_norm_eps"],
        config.get("rope_theta") or config["rope_parameters"]["rope_theta"],
    )


def _norm(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), scale, epsilon)


def _rope(model: Peer, start: int, stop: int, x: Tensor) -> tuple[Tensor, Tensor]:
    width = x.shape[-1] // model.num_heads
    frequency = model.theta ** (-torch.arange(0, width, 2, dtype=torch.float32, device=x.device) / width)
    angle = torch.cat([torch.arange(start, stop, device=x.device)[:, None] * frequency] * 2, dim=-1)
    return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * rope[0] + torch.cat([-second, first], dim=-1) * rope[1]


def _heads(x: Tensor, weight: Tensor, count: int) -> Tensor:
    return F.linear(x, weight).unflatten(-1, (count, -1)).transpose(-3, -2)


def _projected(model: Peer, index: int, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    normed = _norm(x, model.layer(index, "input_layernorm"), model.epsilon)
    query = _heads(normed, model.layer(index, "self_attn.q_proj"), model.num_heads)
    key, value = (_heads(normed, model.layer(index, f"self_attn.{name}_proj"), model.num_groups) for name in "kv")
    return _rotate(query, rope), _rotate(key, rope), value


def _rest(model: Peer, index: int, x: Tensor, mixed: Tensor) -> Tensor:
    x = x + F.linear(mixed.transpose(-3, -2).flatten(-2), model.layer(index, "self_attn.o_proj"))
    normed = _norm(x, model.layer(index, "post_attention_layernorm"), model.epsilon)
    hidden = F.silu(F.linear(normed, model.layer(index, "mlp.gate_proj"))) * F.linear(
        normed, model.layer(index, "mlp.up_proj")
    )
    return x + F.linear(hidden, model.layer(index, "mlp.down_proj"))


def text_layer(model: Peer, index: int, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Next states `[B, L, D]` of texts, and the layer's keys and values `[B, G, L, h]`."""
    query, key, value = _projected(model, index, x, rope)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return _rest(model, index, x, mixed), key, value


def suffix_layer(
    model: Peer, index: int, suffix: Tensor, key: Tensor, value: Tensor, rope: tuple[Tensor, Tensor]
) -> Tensor:
    """Next states `[M, S, D]` of suffixes of one text, whose keys and values are `[1, G, L, h]`: two dense blocks, one softmax."""
    query, own_key, own_value = _projected(model, index, suffix, rope)
    size, (num_sets, _, num_suffix, width) = model.num_heads // model.num_groups, query.shape
    grouped = query.unflatten(1, (model.num_groups, size)) * width**-0.5
    flat = grouped.permute(1, 0, 2, 3, 4).reshape(model.num_groups, -1, width)
    on_text = (flat @ key[0].transpose(-1, -2)).view(model.num_groups, num_sets, size, num_suffix, -1)
    on_self = (grouped @ own_key[:, :, None].transpose(-1, -2)).transpose(0, 1)
    future = torch.ones(num_suffix, num_suffix, dtype=torch.bool, device=suffix.device).triu(1)
    weight = (
        torch.cat([on_text, on_self.masked_fill(future, float("-inf"))], dim=-1).float().softmax(-1).to(query.dtype)
    )
    text_weight, self_weight = weight.split([key.shape[2], num_suffix], dim=-1)
    mixed = (text_weight.reshape(model.num_groups, -1, key.shape[2]) @ value[0]).view(*grouped.transpose(0, 1).shape)
    mixed = mixed + self_weight @ own_value.transpose(0, 1)[:, :, None]
    return _rest(model, index, suffix, mixed.transpose(0, 1).flatten(1, 2))


@torch.inference_mode()
def states(model: Peer, token_BL: Tensor, num_layers: int | None = None) -> Tensor:
    """States of the text after some of the layers, or all: what an ability head reads."""
    x = F.embedding(token_BL, model.embedding)
    rope = _rope(model, 0, token_BL.shape[1], x)
    for index in range(num_layers or model.num_layers):
        x, _, _ = text_layer(model, index, x, rope)
    return x


@torch.inference_mode()
def published(model: Peer, token_BL: Tensor, yes_id: int, batch: int) -> Tensor:
    """Yes logits of sequences that hold profile, instruction and inquiry as text, `batch` at a time."""
    found = []
    for rows in token_BL.split(batch):
        last = _norm(states(model, rows)[:, -1], model.weights["model.norm.weight"], model.epsilon)
        found.append(last @ model.embedding[yes_id])
    return torch.cat(found)


@torch.inference_mode()
def shared_prefix(model: Peer, token_L: Tensor, suffix_MSD: Tensor, yes_id: int) -> Tensor:
    """Yes logits `[M]` of candidates that share one instruction."""
    text, suffix = F.embedding(token_L[None], model.embedding), suffix_MSD
    num_text = len(token_L)
    text_rope = _rope(model, 0, num_text, text)
    suffix_rope = _rope(model, num_text, num_text + suffix.shape[1], text)
    for index in range(model.num_layers):
        text, key, value = text_layer(model, index, text, text_rope)
        suffix = suffix_layer(model, index, suffix, key, value, suffix_rope)
    last = _norm(suffix[:, -1], model.weights["model.norm.weight"], model.epsilon)
    return last @ model.embedding[yes_id]
