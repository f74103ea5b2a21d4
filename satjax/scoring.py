"""The score matrix for any number of instructions: tokenize, bucket, run, put back in order. Training and serving both use it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from satjax.aptitude import AptitudeTest, CapabilityProfile
from satjax.assembly import Assembly
from satjax.capability import AccuracyNorms, ProfileReader, profile_parts
from satjax.config import Layout
from satjax.instructions import TokenRows
from satjax.measurement import AbilityScale
from satjax.models.router_model import Params, ProfileInputs, abstract_model, bind
from satjax.row_batches import TOKENS_OF_AN_ACCELERATOR, batch_sizes, middle_sizes, row_batches, sizes_for
from satjax.sharding import batch_sharding, batch_shards, constrain, on_mesh, place, replicated, starting
from satjax.text_features import FeatureReader
from satjax.vectors import VectorStore

Vectors = TypeVar("Vectors", np.ndarray, jax.Array)

ROWS = 1024
"""Instructions whose features meet the candidates at once, as one batch or alone."""
SETS = 512
"""Sets of soft tokens that enter the LLM at once: more candidates take more time, not more memory."""


def score_step(graphdef: nnx.GraphDef, mesh: Mesh | None = None) -> jax.stages.Wrapped:
    """`run(params, token_BL, length_B, soft_MKD) -> float32[B, M]`, jitted: what ranking a batch of instructions costs.

    On a mesh the rows are to be split as `satjax.sharding.batch_sharding` says, parameters may lie in any way, and the scores are everywhere.
    """

    def run(params: Params, token_BL: jax.Array, length_B: jax.Array, soft_MKD: jax.Array) -> jax.Array:
        with on_mesh(mesh):
            soft_BMKD = constrain(jnp.broadcast_to(soft_MKD, (len(token_BL), *soft_MKD.shape)), "batch")
            return bind(graphdef, params).score(token_BL, length_B, soft_BMKD)

    return jax.jit(run, out_shardings=None if mesh is None else replicated(mesh))


def sets_at_once(layout: Layout, rows: int, width: int) -> int:
    """How many sets of soft tokens enter the LLM at once, with so many rows of text on a device: where they stand first, each makes another text of every row."""
    return SETS if layout == "instruction_first" else max(1, min(SETS, TOKENS_OF_AN_ACCELERATOR // (rows * width)))


class Scorer:
    """`score(instructions) -> float32[B, M]` with everything about the candidates computed once.

    Few programs are compiled per bucket: one for each of a few sizes of batches, `sizes` among them if given (`batch_sizes`). Where the
    ability head alone scores, `store` keeps what it reads of the instructions, if given. `reader` turns profiles into soft tokens, or measures
    abilities by them. Where parameters lie on a `mesh`, the rows of a batch are split over its data axes, and all of its processes score together.
    """

    def __init__(
        self,
        assembly: Assembly,
        params: Params,
        reader: ProfileReader | AbilityScale,
        order_seed: int,
        store: VectorStore | None = None,
        mesh: Mesh | None = None,
        sizes: Sequence[int] | None = None,
    ):
        graphdef, _ = abstract_model(assembly.model)
        self.shards = 0 if mesh is None else batch_shards(mesh)
        self.by_row = None if mesh is None else batch_sharding(mesh)
        self.everywhere = None if mesh is None else replicated(mesh)
        self.params, self.writer, self.reader, self.order_seed = params, assembly.writer, reader, order_seed
        self.sizes, self.mesh, self.layout = middle_sizes() if sizes is None else sizes, mesh, assembly.model.layout
        alone = assembly.model.head == "none"
        self.features = FeatureReader(graphdef, assembly.writer, store, mesh, self.sizes) if alone else None

        @partial(jax.jit, out_shardings=self.everywhere)
        def encode(params: Params, inputs: ProfileInputs) -> jax.Array:
            model = bind(graphdef, params)
            return model.soft_tokens(model.embed_profiles(inputs), inputs)

        @partial(jax.jit, out_shardings=self.everywhere)
        def run_features(params: Params, feature_BF: jax.Array, soft_MKD: jax.Array) -> jax.Array:
            return bind(graphdef, params).score_features(feature_BF, soft_MKD[None])

        @partial(jax.jit, out_shardings=self.everywhere)
        def run_demands(params: Params, feature_BF: jax.Array) -> jax.Array:
            return bind(graphdef, params).demands(feature_BF)

        self._run, self._encode, self._run_features = score_step(graphdef, mesh), encode, run_features
        self._run_demands = run_demands

    def soft_tokens(self, profiles: Sequence[CapabilityProfile]) -> jax.Array:
        """Capability tokens of M profiles, one set for each task order: float32 `[M, O, K, D]`; measured abilities are `[M, 1, 1, R + 1]`."""
        if isinstance(self.reader, AbilityScale):
            return as_tokens(self.reader.abilities(profiles))
        everywhere = partial(_place, sharding=self.everywhere)
        orders = []
        for i in range(self.reader.num_orders):
            parts = profile_parts(self.reader.inputs(profiles, self.order_seed + i))
            read = [self._encode(self.params, jax.tree.map(everywhere, part)) for part in parts]
            orders.append(jnp.concatenate(read)[: len(profiles)])
        return jnp.stack(orders, axis=1)

    def score(
        self, instructions: Sequence[str], soft_MOKD: jax.Array, on_progress: Callable[[int], Any] = lambda done: None
    ) -> np.ndarray:
        """Logits float32 `[B, M]`, averaged over the task orders (paper section 3.3); `on_progress` hears how many are done."""
        num_candidates, num_orders = soft_MOKD.shape[:2]
        soft = _place(soft_MOKD.reshape(num_candidates * num_orders, *soft_MOKD.shape[2:]), self.everywhere)
        if self.features is not None and len(instructions):
            feature_BF = self.features.read(self.params, instructions, lambda done, total: on_progress(done))
            parts = [
                self._started(self._run_features, self._padded(part), soft)[: len(part)]
                for part in np.split(feature_BF, range(ROWS, len(feature_BF), ROWS))
            ]
            return np.concatenate(parts).reshape(len(feature_BF), num_candidates, num_orders).mean(axis=-1)
        rows = self.writer.encode(instructions)
        num_sets, zoo = len(soft), dict[int, list]()
        score_BM = np.empty((len(rows), num_candidates), np.float32)
        done = 0
        for index, padded in row_batches(rows, self.writer.bucket, self.shards, self.sizes):
            token, length = (_place(value, self.by_row) for value in (padded.token, padded.length))
            if (sets := self._sets(padded)) not in zoo:
                zoo[sets] = _parts(soft, sets)
            found = [self._started(self._run, token, length, part) for part in zoo[sets]]
            scores = np.concatenate(found, axis=1)[: len(index), :num_sets]
            score_BM[index] = scores.reshape(len(index), num_candidates, num_orders).mean(axis=-1)
            done += len(index)
            on_progress(done)
        return score_BM

    def demands(self, instructions: Sequence[str]) -> np.ndarray | None:
        """What the ability head says that at least one instruction asks for, float32 `[B, R + 1]`; None where it does not score alone."""
        if self.features is None:
            return None
        feature_BF = self.features.read(self.params, instructions)
        parts = [feature_BF[i : i + ROWS] for i in range(0, len(feature_BF), ROWS)]
        found = [self._started(self._run_demands, self._padded(part))[: len(part)] for part in parts]
        return np.concatenate(found)

    def warm_up(self, soft_MOKD: jax.Array, most: int) -> Iterator[tuple[int, int]]:
        """Compiles and runs every program that `score` can need for `most` instructions or fewer, the narrowest first; gives its rows and its
        width after each.
        """
        soft = _place(soft_MOKD.reshape(-1, *soft_MOKD.shape[2:]), self.everywhere)
        largest = (self.features.largest,) if self.features else ()
        meets = [meet for less, meet in pairwise((0, *self._meets())) if less < most]
        for width in self.writer.config.buckets:
            allowed = batch_sizes(width, self.shards, self.sizes, *largest)
            for size in sorted({sizes_for(count, allowed)[0] for count in range(1, most + 1)}):
                rows = TokenRows(np.zeros((size, width), np.int32), np.full(size, width, np.int32))
                if self.features is None:
                    token, length = (_place(value, self.by_row) for value in (rows.token, rows.length))
                    self._started(self._run, token, length, _parts(soft, self._sets(rows))[0])
                else:
                    feature_BF = self.features.run(self.params, rows)
                    for meet in meets:
                        self._started(
                            self._run_features, self._padded(np.resize(feature_BF, (meet, feature_BF.shape[1]))), soft
                        )
                    meets = []
                yield size, width

    def _sets(self, rows: TokenRows) -> int:
        return sets_at_once(self.layout, -(-len(rows) // max(1, self.shards)), rows.token.shape[1])

    def _started(self, program: Callable[..., jax.Array], *given: Any) -> np.ndarray:
        with starting(self.mesh):
            found = program(self.params, *given)
        return np.asarray(found)

    def _meets(self) -> list[int]:
        """How many rows of features meet the candidates at once, rising."""
        return sorted({1, *self.sizes, ROWS})

    def _padded(self, feature_BF: np.ndarray) -> np.ndarray | jax.Array:
        """As many rows as the smallest of few programs takes, so that no more are compiled."""
        size = next(size for size in self._meets() if len(feature_BF) <= size)
        return _place(np.resize(feature_BF, (size, feature_BF.shape[1])), self.everywhere)


def _parts(soft_MKD: np.ndarray | jax.Array, sets: int) -> list[np.ndarray | jax.Array]:
    """What enters the LLM at once: all sets, or parts of one size, so that one program is compiled for them; the last is filled up with zeros."""
    if len(soft_MKD) <= sets:
        return [soft_MKD]
    whole = jnp.pad(soft_MKD, ((0, -len(soft_MKD) % sets), (0, 0), (0, 0)))
    return list(whole.reshape(-1, sets, *soft_MKD.shape[1:]))


def _place(value: np.ndarray | jax.Array, sharding: NamedSharding | None) -> np.ndarray | jax.Array:
    return value if sharding is None else place(np.asarray(value), sharding)


def profile_reader(assembly: Assembly, test: AptitudeTest, norms: AccuracyNorms) -> ProfileReader | None:
    """What reads the profiles of this test, or None where no text of them is read (`items`)."""
    model = assembly.model
    if model.encoder is None or assembly.encoder_tokenizer is None:
        return None
    return ProfileReader(model.profile_encoder, model.encoder, assembly.encoder_tokenizer, test, norms)


def as_tokens(ability_MR: Vectors) -> Vectors:
    """Abilities in the place of soft tokens: `[M, 1, 1, R + 1]`."""
    return ability_MR[:, None, None]
