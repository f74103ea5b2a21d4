"""Small random models of transformers, the reference of the parity tests, and ours with the same weights."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.models.decoder import Decoder, DecoderConfig
from satjax.models.text_encoder import EncoderConfig, Pooling, TextEncoder
from satjax.weights.lazy import LazyTensor, lazy
from satjax.weights.names import decoder_config, decoder_params, encoder_config, encoder_params

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def tensors_of(model: Any) -> dict[str, LazyTensor]:
    return {name: lazy(value.detach().float().numpy()) for name, value in model.state_dict().items()}


def randomize(torch: Any, model: Any, seed: int = 0) -> Any:
    """Weights large enough that a mistake shows, norms and biases away from their neutral values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            elif value.ndim == 1:
                value.copy_(0.2 * noise)
            else:
                value.copy_(noise * (1.0 if "embed" in name else value.shape[-1] ** -0.5))
    return model.eval()


def with_params(graphdef: nnx.GraphDef, params: dict[str, Any]) -> Any:
    state = [(tuple(path.split("/")), nnx.Param(jnp.asarray(np.asarray(value)))) for path, value in params.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(state))


def our_decoder(tensors: Any, hf_config: dict[str, Any], **choices: Any) -> tuple[Decoder, DecoderConfig]:
    config = decoder_config(hf_config, **choices)
    graphdef, state = nnx.split(Decoder(config, nnx.Rngs(0)))
    params = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    return with_params(graphdef, params | decoder_params(tensors, config)), config


def our_encoder(
    tensors: Any, hf_config: dict[str, Any], pooling: Pooling = "mean"
) -> tuple[TextEncoder, EncoderConfig]:
    config = encoder_config(hf_config, pooling=pooling)
    graphdef, _ = nnx.split(TextEncoder(config, nnx.Rngs(0)))
    return with_params(graphdef, encoder_params(tensors, config)), config


def our_logits(decoder: Decoder, token_BL: np.ndarray, length_B: np.ndarray | None = None) -> np.ndarray:
    length = np.full(len(token_BL), token_BL.shape[1], np.int32) if length_B is None else length_B
    return np.asarray(_logits(decoder, jnp.asarray(token_BL), jnp.asarray(length)))


@nnx.jit
def _logits(decoder: Decoder, token_BL: Any, length_B: Any) -> Any:
    states = decoder(decoder.embed(token_BL), length_B).text
    return states @ decoder.output_rows(jnp.arange(decoder.config.vocab_size)).T


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))
