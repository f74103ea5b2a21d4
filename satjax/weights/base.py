"""Opens a directory of base weights, whichever format it is in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from satjax.weights.digests import weight_files
from satjax.weights.errors import unreadable
from satjax.weights.gguf import GGUFFile
from satjax.weights.lazy import LazyTensor
from satjax.weights.safetensors_dir import SafetensorsDir


@dataclass(frozen=True)
class BaseFiles:
    """A model as Hugging Face would name it.

    `config` has the keys of a `config.json`. `tensors` hold linear maps as `[out, in]`: float32 from a GGUF file, their own dtype
    from safetensors. `tokenizer` neither cuts nor pads. `unmarked` are those of its added tokens that its file does not call special, as it should.
    """

    config: dict[str, Any]
    tensors: Mapping[str, LazyTensor]
    tokenizer: Tokenizer
    unmarked: tuple[str, ...] = ()


def open_base(directory: Path) -> BaseFiles:
    """Opens the one GGUF file of a directory, or its safetensors with `config.json` and `tokenizer.json`.

    Raises SatjaxError where a file is missing, damaged, or of a kind that satjax does not read.
    """
    files = weight_files(directory)
    if files[0].suffix == ".gguf":
        gguf = GGUFFile(files[0])
        return BaseFiles(gguf.config(), gguf, gguf.tokenizer())
    tokenizer = _tokenizer(directory)
    return BaseFiles(_config(directory), SafetensorsDir(directory), tokenizer, _marked_special(tokenizer))


def _config(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(directory, "config.json", error) from error
    if not isinstance(config, dict):
        raise unreadable(directory, "config.json", TypeError(f"it holds a {type(config).__name__}, not an object"))
    return config


def _tokenizer(directory: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises plain Exception
        raise unreadable(directory, "tokenizer.json", error) from error
    # Files made for sentence embeddings cut and pad by themselves; rows are cut and padded in one place, by their readers.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _marked_special(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Makes special tokens of all that were added but blanks, and gives those that were none.

    Phi's end of a sequence and Qwen's names of files are not marked in their `tokenizer.json`, where a GGUF file tells control tokens from words.
    """
    added = (token for _, token in sorted(tokenizer.get_added_tokens_decoder().items()))
    unmarked = [token for token in added if not token.special and token.content.strip()]
    for token in unmarked:
        token.special = True
    tokenizer.add_special_tokens(unmarked)
    return tuple(token.content for token in unmarked)
