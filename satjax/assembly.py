"""Puts a router's parts together from its configuration: base weights, tokenizers, prompt and model shapes."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from satjax.config import Attention, AttentionKernel, RouterConfig
from satjax.errors import SatjaxError
from satjax.instructions import PromptWriter, prompt_writer
from satjax.models.narrow import cpu_multiplies_bfloat16, fixed_dtype, pack, packs
from satjax.models.router_model import RouterModelConfig
from satjax.models.text_encoder import Pooling
from satjax.weights.adapters import merged
from satjax.weights.base import BaseFiles, open_base
from satjax.weights.fetch import BaseModel, check_digest, resolve
from satjax.weights.lazy import LazyTensor, lazy, place_tensor
from satjax.weights.names import decoder_config, decoder_params, encoder_config, encoder_params
from satjax.weights.pooling import stated_pooling

SPLASH_FROM = 2048
"""Tokens of the longest text from which splash is chosen, by least times of compiled steps (`benchmarks/attention_tpu.py`), no TPU having been at hand.

Up to 1,024, with one row on a chip, XLA keeps the scores in vector memory, and its finer blocks leave out more of what a causal mask hides.
"""


@dataclass(frozen=True)
class Assembly:
    """Everything of a router that is not learned; `base_params` holds the base weights by path, to be read where they are placed.

    A router of `items` profiles has no text encoder, and no tokenizer for it. `published` are the base weights in float32, not rounded to the config's
    `param_dtype`. `narrow`: on this CPU the LLM's layers multiply bfloat16 numbers, with float32 sums, where they are not trained. `unmarked` are
    added tokens of the LLM that are text in an instruction though their file does not mark them.
    """

    model: RouterModelConfig
    writer: PromptWriter
    encoder_tokenizer: Tokenizer | None
    base_params: dict[str, LazyTensor]
    published: Mapping[str, LazyTensor]
    bases: dict[str, BaseModel]
    narrow: bool = False
    unmarked: tuple[str, ...] = ()

    def placed(self, path: str, shape: Sequence[int], sharding: jax.sharding.Sharding) -> jax.Array:
        """A base parameter on its devices, packed where it is used `narrow`."""
        value = place_tensor(self.base_params[path], sharding)
        return pack(value) if self.narrow and packs(path, shape) else value

    def fixed(self, paths: Collection[str]) -> "Assembly":
        """The same with those kernels of the LLM's layers that stay as they are in the dtype in which they are used, if that is the narrower one."""
        used, base = jax.numpy.dtype(self.model.compute_dtype), self.base_params
        fixed = {path: fixed_dtype(path, base[path].shape, base[path].dtype, used) for path in paths if path in base}
        narrower = {path: base[path].astype(dtype) for path, dtype in fixed.items() if dtype != base[path].dtype}
        return dataclasses.replace(self, base_params={**base, **narrower})


def with_tuned_llm(
    assembly: Assembly, learned: Mapping[str, np.ndarray | jax.Array]
) -> tuple[Assembly, dict[str, np.ndarray | jax.Array]]:
    """The same router with what is learned of its LLM among the base weights, and the rest of what is learned.

    Adapters that serve all tokens are merged into their kernels; those of a suffix only stay what is learned. The kernels are float32: a step of
    training is less than bfloat16 can tell of a kernel.
    """
    decoder = assembly.model.decoder
    merges = decoder.lora_tokens == "all"
    tuned = {
        path for path in learned if path.startswith("llm/") and (merges or not path.endswith(("/lora_a", "/lora_b")))
    }
    base = {**assembly.base_params, **{path: lazy(np.asarray(learned[path])) for path in tuned}}
    if merges:
        base = merged(base)
        decoder = dataclasses.replace(decoder, lora_rank=0)
    model = dataclasses.replace(assembly.model, decoder=decoder)
    rest = {path: value for path, value in learned.items() if path not in tuned}
    return dataclasses.replace(assembly, model=model, base_params=base), rest


def assemble(config: RouterConfig, expected_sha256: Mapping[str, str] | None = None) -> Assembly:
    """Opens the base weights (fetching them where absent) and fits prompt and model to them.

    `expected_sha256` holds the digests, by `llm` and `encoder`, that a trained router was made with: others are refused.
    """
    bases = {"llm": resolve(config.llm.weights)}
    if config.profile_encoder.kind != "items":
        bases["encoder"] = resolve(config.encoder.weights)
    for part, digest in (expected_sha256 or {}).items():
        check_digest(bases[part], digest)
    llm = open_base(bases["llm"].directory)
    encoder = open_base(bases["encoder"].directory) if "encoder" in bases else None
    writer = prompt_writer(config.prompt, llm.tokenizer, llm.config.get("bos_token_id"))
    pooling: Pooling = stated_pooling(bases["encoder"].directory) if encoder else "mean"
    model = model_config(config, llm.config, encoder.config if encoder else None, writer, pooling=pooling)
    rounded = _base_params(llm, encoder, model, jax.numpy.dtype(config.param_dtype))
    published = _base_params(llm, encoder, model, np.dtype(np.float32))
    narrow = config.compute_dtype == "auto" and model.compute_dtype == "float32" and cpu_multiplies_bfloat16()
    encoder_tokenizer = encoder.tokenizer if encoder else None
    return Assembly(model, writer, encoder_tokenizer, rounded, published, bases, narrow, llm.unmarked)


def _base_params(
    llm: BaseFiles, encoder: BaseFiles | None, model: RouterModelConfig, dtype: np.dtype
) -> dict[str, LazyTensor]:
    params = {f"llm/{path}": value for path, value in decoder_params(llm.tensors, model.decoder, dtype).items()}
    if encoder and model.encoder:
        of_encoder = encoder_params(encoder.tensors, model.encoder, dtype)
        params |= {f"encoder/{path}": value for path, value in of_encoder.items()}
    return params


def model_config(
    config: RouterConfig,
    llm: Mapping[str, Any],
    encoder: Mapping[str, Any] | None,
    writer: PromptWriter,
    platform: str | None = None,
    pooling: Pooling = "mean",
) -> RouterModelConfig:
    """Shapes of the router model, from the `config.json` of its base models; no weights are needed.

    `platform` (`cpu`, `gpu`, `tpu`) is what it is to run on, if not here. `pooling` is the encoder's. Raises SatjaxError where the config, the base models and it do not fit.
    """
    platform = platform or jax.default_backend()
    decoder = decoder_config(
        llm,
        lora_rank=config.llm.lora_rank,
        lora_tokens=config.llm.lora_tokens,
        join_layer=config.llm.join_layer,
        depth=config.ability_head.depth if config.head == "none" else 0,
    )
    if config.head == "none":  # no answer is read off output rows of its own, so they stay where they are
        decoder = dataclasses.replace(decoder, tied_head=True)
    if config.ability_head.depth > decoder.num_layers:
        raise SatjaxError(
            f"config router.ability_head: layer {config.ability_head.depth} is read; {config.llm.weights} has {decoder.num_layers}"
        )
    longest = config.prompt.max_tokens + config.profile_encoder.soft_tokens + len(writer.tail_ids)
    if longest > decoder.max_positions:
        raise SatjaxError(
            f"config router.prompt.buckets: {config.prompt.max_tokens} tokens are too many for {config.llm.weights}, which reads "
            f"{decoder.max_positions}, {longest - config.prompt.max_tokens} of them after these; shorten the longest bucket"
        )
    compute_dtype = config.compute_dtype
    if compute_dtype == "auto":
        compute_dtype = "float32" if platform == "cpu" else "bfloat16"
    attention = attention_kernel(
        config.attention, platform, compute_dtype, decoder.head_width, config.prompt.max_tokens
    )
    return RouterModelConfig(
        decoder=dataclasses.replace(decoder, attention=attention),
        encoder=encoder_config(encoder, config.encoder.query_prefix, pooling) if encoder is not None else None,
        profile_encoder=config.profile_encoder,
        ability_head=config.ability_head,
        layout=config.prompt.layout,
        head=config.head,
        yes_id=writer.yes_id,
        no_id=writer.no_id,
        tail_ids=writer.tail_ids,
        compute_dtype=compute_dtype,
        remat=config.llm.remat,
    )


def attention_kernel(
    wanted: Attention, platform: str, compute_dtype: str, head_width: int, num_tokens: int
) -> AttentionKernel:
    """The kernel that is `wanted`, or for `auto` the best that the platform has for heads of this width and texts of up to so many tokens.

    Raises SatjaxError where there is no such kernel.
    """
    fused: AttentionKernel = "xla"
    if platform == "tpu":
        fused = "splash"
    elif (
        platform == "gpu" and compute_dtype == "bfloat16" and head_width <= 128 and head_width % 8 == 0 and _has_flash()
    ):
        fused = "cudnn"
    if wanted == "auto":
        return "xla" if fused == "splash" and num_tokens < SPLASH_FROM else fused
    if wanted not in ("xla", fused):
        raise SatjaxError(
            f"config router.attention = {wanted!r}: there is no such kernel for {compute_dtype} heads of {head_width} on {platform} here; "
            "leave it at 'auto'"
        )
    return wanted


def _has_flash() -> bool:
    """Whether cuDNN has flash attention for the GPU that is here: one of NVIDIA's of compute capability 8.0 or more."""
    major = str(getattr(jax.local_devices()[0], "compute_capability", "")).partition(".")[0]
    return major.isdigit() and int(major) >= 8
