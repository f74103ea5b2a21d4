"""Unit-length embeddings of instructions by a text encoder's base weights, kept on disk: what the baselines read."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.errors import SatjaxError
from satjax.files import explain_full_disk
from satjax.instructions import TokenRows, pad_rows
from satjax.models.text_encoder import TextEncoder
from satjax.weights.base import open_base
from satjax.weights.fetch import BaseModel, cache_dir
from satjax.weights.names import encoder_config, encoder_params

log = logging.getLogger("satjax")

MAX_TOKENS = 256
"""Tokens of a text that are read, as all-MiniLM-L6-v2 does by its model card."""
BUCKETS = (32, 64, 128, 192, 256)
TOKENS_PER_CALL = 4096

Progress = Callable[[int, int], Any]


def embed(
    base: BaseModel,
    texts: Sequence[str],
    *,
    query_prefix: str = "",
    on_progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Embeddings float32 `[B, E]` of unit length: mean over a text's tokens, of which the first 256 are read.

    Computed once for the same weights, texts and prefix (E5: "query: "), then read from the cache; `on_progress` hears
    how many of how many are done. Raises SatjaxError where the weights are no text encoder.
    """
    written = json.dumps([MAX_TOKENS, query_prefix, *texts]).encode()
    target = cache_dir() / "embeddings" / base.sha256 / f"{hashlib.sha256(written).hexdigest()}.npy"
    kept = _read(target, len(texts))
    if kept is not None:
        on_progress(len(texts), len(texts))
        return kept
    embedding_BE = _embed(base, texts, query_prefix, on_progress)
    try:
        _write(target, embedding_BE)
    except (OSError, SatjaxError) as error:  # a cache that is full or read-only costs time only
        log.warning("embeddings are not kept (%s)", error)
    return embedding_BE


def _embed(base: BaseModel, texts: Sequence[str], query_prefix: str, on_progress: Progress) -> np.ndarray:
    files = open_base(base.directory)
    config = encoder_config(files.config, query_prefix)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: TextEncoder(config, nnx.Rngs(0))))
    leaves = [
        (tuple(path.split("/")), nnx.Param(jnp.asarray(value)))
        for path, value in encoder_params(files.tensors, config).items()
    ]
    state = nnx.from_flat_state(leaves)
    run = jax.jit(lambda state, token_BL, length_B: nnx.merge(graphdef, state)(token_BL, length_B))
    files.tokenizer.enable_truncation(min(MAX_TOKENS, config.max_positions))
    rows = pad_rows([line.ids for line in files.tokenizer.encode_batch([query_prefix + text for text in texts])])
    embedding_BE = np.zeros((len(texts), config.width), np.float32)
    done = 0
    for index, batch in _batches(rows, config.max_positions):
        embedding_BE[index] = np.asarray(run(state, batch.token, batch.length))[: len(index)]
        done += len(index)
        on_progress(done, len(texts))
    return embedding_BE


def _batches(rows: TokenRows, max_positions: int) -> list[tuple[np.ndarray, TokenRows]]:
    """Rows of one length bucket each, as many as fill a call; the last call is filled with copies."""
    widths = np.minimum(np.array(BUCKETS), max_positions)
    width_B = widths[np.searchsorted(widths, rows.length)]
    batches = []
    for width in sorted(set(width_B.tolist())):
        waiting, size = np.flatnonzero(width_B == width), TOKENS_PER_CALL // width
        for start in range(0, len(waiting), size):
            index = waiting[start : start + size]
            batches.append((index, rows.take(np.resize(index, size), width)))
    return batches


def _read(target: Path, num_texts: int) -> np.ndarray | None:
    try:
        embedding_BE = np.load(target)
    except (OSError, ValueError, EOFError):  # absent or damaged: computed again
        return None
    return embedding_BE if embedding_BE.ndim == 2 and len(embedding_BE) == num_texts else None


def _write(target: Path, embedding_BE: np.ndarray) -> None:
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".fresh-", dir=target.parent, delete=False) as file:
            try:
                np.save(file, embedding_BE)
                file.close()
                Path(file.name).chmod(0o644)
                Path(file.name).replace(target)
            finally:
                Path(file.name).unlink(missing_ok=True)
