"""What the ability head reads of instructions: one pass of the LLM over each, kept on disk.

Where the LLM is frozen, an instruction's features are the same in every step, for every zoo and every seed.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from satjax.assembly import Assembly
from satjax.cache.folder import cache_dir
from satjax.features.row_batches import TOKENS_OF_AN_ACCELERATOR, Batching
from satjax.features.vectors import Computed, VectorStore, vectors_of
from satjax.files import local_path
from satjax.instructions import TokenRows, check_instructions
from satjax.models.router_model import Params, RouterModelConfig, abstract_model, bind
from satjax.processes.agreement import from_first, is_first
from satjax.progress import Progress, unheard
from satjax.sharding import batch_sharding, fetched, on_mesh, place_on, replicated

FORMAT = 2
"""Goes up when the same text gets other features: what was kept before is computed again."""

HANDED_AT_ONCE = 2**26
"""Bytes of features that go from one process to the others: they lie whole on each device meanwhile, beside the LLM."""


class FeatureReader:
    """`read(instructions) -> float32[B, F]`; `store` keeps what was computed (`feature_store`), if given.

    On the mesh of `batching` the rows of a batch are split over its data axes; parameters may lie on it in any way.
    """

    def __init__(self, assembly: Assembly, batching: Batching, store: VectorStore | None = None):
        graphdef, _ = abstract_model(assembly.model)
        mesh = batching.mesh
        self.writer, self.mesh = assembly.writer, mesh
        self.batching = of_texts_alone(batching, assembly.model, accelerator=jax.default_backend() != "cpu")
        # Without a mesh a process reads for itself, and what the others do nobody knows.
        alone = mesh is None or jax.process_count() == 1
        self.store = store if store is None or alone else FirstStore(store)

        def run(params: Params, token_BL: jax.Array, length_B: jax.Array) -> jax.Array:
            with on_mesh(mesh):
                return bind(graphdef, params).features(token_BL, length_B)

        self._run = jax.jit(run, out_shardings=None if mesh is None else replicated(mesh))

    def read(self, params: Params, instructions: Sequence[str], on_progress: Progress = unheard) -> np.ndarray:
        """Features of at least one instruction; `on_progress` hears how many of how many are done, batch by batch.

        Raises SatjaxError for an instruction that is empty or no text.
        """
        check_instructions(instructions)

        def compute(texts: list[str]) -> Computed:
            for index, rows in self.batching.batches(self.writer.encode(texts), self.writer.bucket):
                yield index, self.run(params, rows)[: len(index)]

        return vectors_of(instructions, compute, self.store, on_progress)

    def run(self, params: Params, rows: TokenRows) -> np.ndarray:
        """Features of one batch, as it is."""
        by_row = None if self.mesh is None else batch_sharding(self.mesh)
        return fetched(self.mesh, self._run, params, place_on(rows.token, by_row), place_on(rows.length, by_row))


def of_texts_alone(batching: Batching, model: RouterModelConfig, *, accelerator: bool) -> Batching:
    """The same where the model's features are made of texts, and no candidate meets them."""
    largest = TOKENS_OF_AN_ACCELERATOR if accelerator else 0
    return dataclasses.replace(batching, largest_tokens=largest, row_bytes=4 * model.num_features)


class FirstStore:
    """What the first process finds in its store, for all of them: hosts that found different texts would run different programs."""

    def __init__(self, store: VectorStore):
        self.store = store

    def find(self, texts: Sequence[str]) -> dict[int, np.ndarray]:
        """As `VectorStore.find`, the same on every process."""
        found = self.store.find(texts) if is_first() else {}
        size = int(from_first(np.array(len(next(iter(found.values()), ())))))
        known = np.flatnonzero(from_first(np.array([i in found for i in range(len(texts))], np.int32)))
        handed, rows = dict[int, np.ndarray](), max(1, HANDED_AT_ONCE // max(1, 4 * size))
        for start in range(0, len(known), rows):
            piece = known[start : start + rows].tolist()
            # Each is let go as it is handed over: all of them twice may be more than there is memory.
            vector_KF = (
                np.stack([found.pop(i) for i in piece]) if is_first() else np.zeros((len(piece), size), np.float32)
            )
            handed |= zip(piece, from_first(vector_KF), strict=True)
        return handed

    def keep(self, texts: Sequence[str], vector_BF: np.ndarray) -> None:
        """As `VectorStore.keep`, on the first process."""
        if is_first():
            self.store.keep(texts, vector_BF)


def feature_store(assembly: Assembly, tuned: Iterable[tuple[str, np.ndarray]] = ()) -> VectorStore:
    """Where the features of these base weights, this prompt and these layers are kept: in `$SATJAX_FEATURES`, or else in the cache.

    `tuned` are the LLM's parameters that training made, by path.
    """
    model, prompt = assembly.model, assembly.writer.config
    decoder = dataclasses.asdict(model.decoder)
    del decoder["attention"]  # how this machine computes them
    digest_of_tuned = _effect(tuned)
    if not digest_of_tuned:
        decoder |= {"lora_rank": 0, "lora_tokens": "all"}
    key = {
        "format": FORMAT,
        "llm": assembly.bases["llm"].sha256,
        "decoder": decoder,
        "mean_layers": model.ability_head.mean_layers,
        "last_layers": model.ability_head.last_layers,
        "dtype": model.compute_dtype,
        "start": assembly.writer.start_ids,
        "end": assembly.writer.end_ids,
        "max_tokens": prompt.max_tokens,
    }
    weights = str(assembly.base_params["llm/embedding"].dtype)
    if weights != "float32":
        key["weights"] = weights
    if assembly.narrow:
        key["products"] = "bfloat16"
    if rounded := rounded_products(model.compute_dtype):
        key["precision"] = rounded
    if assembly.unmarked:
        key["text"] = assembly.unmarked
    if digest_of_tuned:
        key["tuned"] = digest_of_tuned
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return VectorStore(local_path(os.environ.get("SATJAX_FEATURES") or cache_dir() / "features") / digest[:32])


def rounded_products(compute_dtype: str) -> str:
    """How products of float32 numbers are rounded here (`jax_default_matmul_precision`), as what is kept has to say; nothing where they are not."""
    backend, precision = jax.default_backend(), jax.default_matmul_precision.value
    exact = compute_dtype != "float32" or backend == "cpu" or precision in ("highest", "float32")
    return "" if exact else f"{backend} {precision or 'default'}"


def _effect(tuned: Iterable[tuple[str, np.ndarray]]) -> str:
    """A digest of what training made of an LLM; nothing where that is adapters which change nothing yet."""
    lines, changes = [], False
    for path, value in tuned:
        leaf = path.rsplit("/", 1)[-1]
        changes |= leaf != "lora_a" and (leaf != "lora_b" or bool(np.any(value)))
        lines.append(
            f"{path}:{hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).hexdigest()}"
        )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if changes else ""
