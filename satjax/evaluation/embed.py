"""Unit-length embeddings of instructions by a text encoder's base weights, kept on disk: what the baselines read."""

import hashlib
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.cache.folder import cache_dir
from satjax.features.reader import rounded_products
from satjax.features.row_batches import Batching
from satjax.features.vectors import Computed, VectorStore, vectors_of
from satjax.instructions import lose_middle, pad_rows
from satjax.models.text_encoder import Pooling, TextEncoder
from satjax.progress import Progress, unheard
from satjax.sharding import as_satjax_computes
from satjax.weights.base import open_base
from satjax.weights.fetch import BaseModel
from satjax.weights.names import encoder_config, encoder_params
from satjax.weights.pooling import check_modules, stated_pooling

FORMAT = 2
"""Goes up when the same text gets another embedding: what was kept before is computed again."""
MAX_TOKENS = 256
"""Tokens of a text that are read, as many as all-MiniLM-L6-v2 reads by its model card."""
BUCKETS = (32, 64, 128, 192, 256)


@as_satjax_computes()
def embed(
    base: BaseModel,
    texts: Sequence[str],
    *,
    query_prefix: str = "",
    on_progress: Progress = unheard,
) -> np.ndarray:
    """Embeddings float32 `[B, E]` of unit length, a text's tokens pooled as its weights state; one of more than 256 loses its middle, as in a router.

    What a few-shot prompt asks stands at its end, and its beginning is the same for every instruction of a task.

    Computed once for the same weights, text and prefix (E5: "query: "), then read from the cache; `on_progress` hears
    how many of how many are done. Raises SatjaxError where the weights are no text encoder.
    """
    check_modules(base.directory)
    pooling = stated_pooling(base.directory)
    unusual = [pooling if pooling != "mean" else "", rounded_products("float32")]
    parts = [FORMAT, base.sha256, MAX_TOKENS, query_prefix, *filter(None, unusual)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    store = VectorStore(cache_dir() / "embeddings" / key)
    return vectors_of(texts, lambda missing: _embed(base, missing, query_prefix, pooling), store, on_progress)


def count_cut(base: BaseModel, texts: Sequence[str]) -> int:
    """How many of the texts are longer than what is read of them."""
    files = open_base(base.directory)
    longest = min(MAX_TOKENS, encoder_config(files.config).max_positions)
    return sum(len(line.ids) > longest for line in files.tokenizer.encode_batch(list(texts)))


def _embed(base: BaseModel, texts: list[str], query_prefix: str, pooling: Pooling) -> Computed:
    files = open_base(base.directory)
    config = encoder_config(files.config, query_prefix, pooling)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: TextEncoder(config, nnx.Rngs(0))))
    leaves = [
        (tuple(path.split("/")), nnx.Param(jnp.asarray(value[...])))
        for path, value in encoder_params(files.tensors, config).items()
    ]
    state = nnx.from_flat_state(leaves)
    run = jax.jit(lambda state, token_BL, length_B: nnx.merge(graphdef, state)(token_BL, length_B))
    longest = min(MAX_TOKENS, config.max_positions)
    encoded = [line.ids for line in files.tokenizer.encode_batch([query_prefix + text for text in texts])]
    rows = pad_rows([lose_middle(ids, longest) for ids in encoded])
    for index, batch in Batching().batches(rows, lambda length: min(longest, next(w for w in BUCKETS if length <= w))):
        yield index, np.asarray(run(state, batch.token, batch.length))[: len(index)]
