"""Baseline: the LLM reads the profile as text (the paper's Table 2 without the capability encoder), and nothing is trained.

`z = [profile, instruction, inquiry]`, each profile sentence as `satjax.aptitude.render` writes it, in the order of the test; the score is the
logit of "Yes" less that of "No" after it, by a frozen LLM. A profile of 50 tasks is some 1,450 tokens: each is run once
(`satjax.models.prefix`), then `B * M` times the tokens of an instruction.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.aptitude import CapabilityProfile, render
from satjax.cache.folder import cache_dir
from satjax.config import PromptConfig
from satjax.errors import SatjaxError
from satjax.evaluation.baselines.zero_shot import ZeroShot, fit_order
from satjax.features.row_batches import Batching
from satjax.features.vectors import Computed, VectorStore, vectors_of
from satjax.instructions import PromptWriter, check_instructions, prompt_writer
from satjax.models.decoder import Decoder
from satjax.models.prefix import Prefix, continue_prefix, read_prefix
from satjax.outcomes import OutcomeTable
from satjax.progress import Progress, unheard
from satjax.weights.base import open_base
from satjax.weights.fetch import BaseModel
from satjax.weights.names import decoder_config, decoder_params

FORMAT = 2
"""Goes up when the same profile and instruction get another score: what was kept before is computed again."""
PROMPT = PromptConfig(
    layout="capability_first", buckets=(64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768)
)
"""Longer instructions lose their middle, as a router's do, with a warning that says how many."""
AFTER_PROFILE = "\n\n"
PREFIX_BUCKET = 128
"""Prefixes are padded to a multiple of this, so that profiles of about equal length share their programs."""


def llm_text(
    llm: BaseModel,
    profiles: Sequence[CapabilityProfile],
    held: OutcomeTable,
    val: OutcomeTable,
    on_progress: Progress = unheard,
) -> ZeroShot:
    """On all pairs of `held`, for the candidates that the profiles are of, in the order of the tables; calibrated on the outcomes of `val`.

    Every outcome of `val` costs as much as a pair of `held` does. Raises SatjaxError as `answers` does.
    """
    wanted_BM = np.concatenate([np.ones(held.scores_MN.T.shape, bool), ~np.isnan(val.scores_MN.T)])
    texts = [item.text for table in (held, val) for item in table.items]
    score_BM, val_score_BM = np.split(answers(llm, profiles, texts, wanted_BM, on_progress), [len(held.items)])
    calibration = fit_order(val_score_BM, val.scores_MN.T)
    chosen = {
        "llm": llm.source,
        "slope": calibration.scale,
        "offset": calibration.offset,
        "calibrated_on": calibration.fitted_on,
        "calibration_pairs": int((~np.isnan(val.scores_MN)).sum()),
    }
    return ZeroShot(calibration.probability(score_BM), chosen)


def answers(
    base: BaseModel,
    profiles: Sequence[CapabilityProfile],
    instructions: Sequence[str],
    wanted_BM: np.ndarray,
    on_progress: Progress = unheard,
) -> np.ndarray:
    """The LLM's answers as scores float32 `[B, M]`, of the pairs that are wanted (bool); NaN elsewhere.

    A pair is computed once for the same weights, profile and instruction, and then read from the cache; `on_progress` hears how many
    pairs of how many are done. Raises SatjaxError where the weights are no LLM, or one that cannot read a profile and an instruction.
    """
    check_instructions(instructions)
    reader = _Reader(base)
    score_BM = np.full(wanted_BM.shape, np.nan, np.float32)
    total, before = int(wanted_BM.sum()), 0
    for m, profile in enumerate(profiles):
        rows = np.flatnonzero(wanted_BM[:, m]).tolist()
        if rows:
            hear = partial(_add, on_progress, before, total)
            score_BM[rows, m] = reader.score(render(profile), [instructions[b] for b in rows], hear)
        before += len(rows)
    return score_BM


def _add(on_progress: Progress, before: int, total: int, done: int, of_these: int) -> None:
    on_progress(before + done, total)


class _Reader:
    """The LLM and its programs, one profile at a time."""

    def __init__(self, base: BaseModel):
        files = open_base(base.directory)
        self.base, self.config, self.tokenizer = base, decoder_config(files.config), files.tokenizer
        self.unmarked = files.unmarked
        self.writer: PromptWriter = prompt_writer(PROMPT, files.tokenizer, None)
        bos = files.config.get("bos_token_id")
        self.start_ids = [] if bos is None else [bos]
        self.dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        graphdef, _ = nnx.split(nnx.eval_shape(lambda: Decoder(self.config, nnx.Rngs(0))))
        params = decoder_params(files.tensors, self.config)
        self.state = nnx.from_flat_state(
            [(tuple(path.split("/")), nnx.Param(jnp.asarray(value, self.dtype))) for path, value in params.items()]
        )
        answer_ids = [self.writer.yes_id, self.writer.no_id]

        @jax.jit
        def read(state: nnx.State, token_BL: jax.Array, length_B: jax.Array) -> Prefix:
            decoder = nnx.merge(graphdef, state)
            return read_prefix(decoder, decoder.embed(token_BL), length_B)

        @jax.jit
        def answer(state: nnx.State, prefix: Prefix, token_BL: jax.Array, length_B: jax.Array) -> jax.Array:
            decoder = nnx.merge(graphdef, state)
            last_BD = continue_prefix(decoder, prefix, decoder.embed(token_BL)[None], length_B[None])[0]
            yes_no_2D = decoder.output_rows(jnp.asarray(answer_ids)).astype(jnp.float32)
            logit_B2 = last_BD.astype(jnp.float32) @ yes_no_2D.T
            return logit_B2[:, :1] - logit_B2[:, 1:]

        self._read, self._answer = read, answer

    def score(self, profile: str, instructions: Sequence[str], on_progress: Progress) -> np.ndarray:
        """Scores float32 `[B]` of one profile's candidate."""
        key = [FORMAT, self.base.sha256, jnp.dtype(self.dtype).name, profile, PROMPT.max_tokens]
        if self.unmarked:
            key.append(self.unmarked)
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        store = VectorStore(cache_dir() / "llm_text" / name)
        return vectors_of(instructions, lambda texts: self._compute(profile, texts), store, on_progress)[:, 0]

    def _compute(self, profile: str, instructions: list[str]) -> Computed:
        rows = self.writer.encode(instructions)
        ids = self.start_ids + self.tokenizer.encode(profile + AFTER_PROFILE, add_special_tokens=False).ids
        longest = len(ids) + int(rows.length.max())
        if longest > self.config.max_positions:
            raise SatjaxError(
                f"llm_text: a profile and an instruction are {longest} tokens; {self.base.source} reads {self.config.max_positions}; "
                "give an LLM that reads more"
            )
        token_L = np.zeros(-(-len(ids) // PREFIX_BUCKET) * PREFIX_BUCKET, np.int32)
        token_L[: len(ids)] = ids
        prefix = self._read(self.state, token_L[None], np.array([len(ids)], np.int32))
        for index, batch in Batching().batches(rows, self.writer.bucket):
            yield index, np.asarray(self._answer(self.state, prefix, batch.token, batch.length))[: len(index)]
