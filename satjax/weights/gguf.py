"""GGUF files (llama.cpp): tensors under their Hugging Face names, configuration and tokenizer from the metadata."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from satjax.errors import SatjaxError
from satjax.weights.gguf_header import read_header
from satjax.weights.lazy import LazyTensor

TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2"}

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, USER_DEFINED = 3, 4


class GGUFFile(Mapping[str, LazyTensor]):
    """One GGUF file as float32 tensors by Hugging Face name, each dequantized whole when a part of it is read.

    llama.cpp stores the rows of q and k of Llama-type models permuted for its own rotary embedding; that is undone here.
    Raises SatjaxError for a file that is truncated, or of an architecture or rotary embedding that is not read.
    """

    def __init__(self, file: Path):
        self.file = file
        try:
            self.metadata, tensors = read_header(file)
        # What the reader trips over in a damaged file depends on where the damage is.
        except (ValueError, OSError, LookupError, TypeError, ArithmeticError, MemoryError, RecursionError) as error:
            raise self._damaged(error) from error
        self.architecture = self.metadata.get("general.architecture")
        if self.architecture not in MODEL_TYPES:
            raise SatjaxError(
                f"{file}: GGUF architecture {self.architecture!r} is not supported; {', '.join(MODEL_TYPES)} are"
            )
        self._tensors = {_hugging_face_name(name): tensor for name, tensor in tensors.items()}
        if self._scales_rope():
            raise SatjaxError(
                f"{file}: rope scaling in a GGUF file is not supported; use the safetensors of this model"
            )

    def __getitem__(self, name: str) -> LazyTensor:
        return LazyTensor(self._tensors[name].shape, np.dtype(np.float32), lambda index: self._dequantized(name)[index])

    def _dequantized(self, name: str) -> np.ndarray:
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        try:
            value = np.asarray(dequantize(tensor.packed, tensor.kind), np.float32)
        except NotImplementedError as error:
            raise SatjaxError(
                f"{self.file}: tensor {name} has the quantization {tensor.kind.name}, which the gguf package does not read; use another"
            ) from error
        value = value.reshape(tensor.shape)
        if self.architecture == "llama" and ".self_attn." in name:
            if ".q_proj." in name:
                return _unpermute(value, self._value("attention.head_count"))
            if ".k_proj." in name:
                return _unpermute(value, self._num_kv_heads())
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def config(self) -> dict[str, Any]:
        """The metadata under the keys of a Hugging Face `config.json`."""
        heads, width = self._value("attention.head_count"), self._value("embedding_length")
        head_width = self._value("attention.key_length", width // heads)
        if "model.embed_tokens.weight" not in self._tensors:
            raise self._damaged("token_embd.weight is missing")
        return {
            "model_type": MODEL_TYPES[str(self.architecture)],
            "vocab_size": int(self._tensors["model.embed_tokens.weight"].shape[0]),
            "hidden_size": width,
            "num_hidden_layers": self._value("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._num_kv_heads(),
            "head_dim": head_width,
            "intermediate_size": self._value("feed_forward_length"),
            "rms_norm_eps": self._value("attention.layer_norm_rms_epsilon"),
            "rope_theta": self._value("rope.freq_base", 10_000.0),
            "partial_rotary_factor": self._value("rope.dimension_count", head_width) / head_width,
            "attention_bias": "model.layers.0.self_attn.q_proj.bias" in self._tensors,
            "max_position_embeddings": self._value("context_length"),
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
            "bos_token_id": self.metadata.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.metadata.get("tokenizer.ggml.eos_token_id"),
        }

    def tokenizer(self) -> Tokenizer:
        """The byte-level BPE of the file, rebuilt from its vocabulary and merges."""
        model, style = self.metadata.get("tokenizer.ggml.model"), self.metadata.get("tokenizer.ggml.pre")
        if model != "gpt2":
            raise SatjaxError(
                f"{self.file}: tokenizer model {model!r} is not supported in a GGUF file; use the safetensors of this model"
            )
        normalizer, pre_tokenizer = _words(style, self.file)
        try:
            tokens, types = self.metadata["tokenizer.ggml.tokens"], self.metadata["tokenizer.ggml.token_type"]
            merges = [tuple(merge.split(" ", 1)) for merge in self.metadata["tokenizer.ggml.merges"]]
            tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
            kinds = list(zip(tokens, types, strict=True))
        except Exception as error:  # the tokenizers library raises plain Exception
            raise self._damaged(error) from error
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token, kind in kinds if kind == CONTROL]
        )
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token, kind in kinds if kind == USER_DEFINED])
        return tokenizer

    def _scales_rope(self) -> bool:
        """Llama 3.1 and later keep their scaling in a tensor of frequencies, others in the metadata, where a factor alone is a linear scaling."""
        rope = f"{self.architecture}.rope"
        kind = self.metadata.get(f"{rope}.scaling.type")
        factor = self.metadata.get(f"{rope}.scaling.factor", self.metadata.get(f"{rope}.scale_linear", 0))
        scaled = kind != "none" if kind is not None else factor not in (0, 1)
        return scaled or "rope_freqs.weight" in self._tensors

    def _value(self, key: str, default: Any = None) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise self._damaged(f"{self.architecture}.{key} is missing")
        # Where layers differ, it is an array with a number for each.
        if not isinstance(value, int | float) or not value > 0:
            raise SatjaxError(
                f"{self.file}: {self.architecture}.{key} is {value}, not one number above 0; layers of different shapes are not supported: "
                "use the safetensors of this model"
            )
        return value

    def _num_kv_heads(self) -> int:
        return self._value("attention.head_count_kv", self._value("attention.head_count"))

    def _damaged(self, reason: object) -> SatjaxError:
        return SatjaxError(f"{self.file} is truncated or no GGUF file ({reason}); copy or download it again")


def _words(style: Any, file: Path) -> tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]:
    """How text is normalized and cut into words before merging, by the name that llama.cpp gives it.

    As the models' own tokenizers do it: Qwen2's composes characters first, which llama.cpp leaves out.
    """
    if style == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return None, pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if style == "gpt-2":
        return None, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if style == "qwen2":
        split = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return normalizers.NFC(), pre_tokenizers.Sequence([split, to_bytes])
    raise SatjaxError(f"{file}: pre-tokenizer {style!r} is not supported; use the safetensors of this model")


def _hugging_face_name(name: str) -> str:
    if name in TOP:
        return TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in LAYER:
        return f"model.layers.{parts[1]}.{LAYER[parts[2]]}.{parts[3]}"
    return name


def _unpermute(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Puts each head's rows (or biases) from llama.cpp's interleaved order back into halves."""
    return rows.reshape(num_heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
