"""Capability profiles as arrays: what the profile encoder reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from satjax.aptitude import AptitudeTest, CapabilityProfile, render_sentences
from satjax.config import ProfileEncoderConfig
from satjax.errors import SatjaxError
from satjax.instructions import pad_rows
from satjax.models.router_model import ProfileInputs
from satjax.models.text_encoder import EncoderConfig


@dataclass(frozen=True)
class AccuracyNorms:
    """Mean and spread, per task, of the training candidates' accuracies: what a candidate's accuracy is measured against."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]


SMALLEST_SPREAD = 0.05
"""One item of a 20-shot task: differences below it are noise."""
CHUNK_STEP = 64
"""Tokens of which the length of profile texts is a multiple, as far as the text encoder reads."""
PROFILES = 32
"""Profiles that psi reads at once where each is a text of its own."""


def accuracy_norms(profiles: Sequence[CapabilityProfile]) -> AccuracyNorms:
    """Norms over the training candidates; a task that none of them took has mean 0.5."""
    accuracy_MT = np.stack([profile.accuracy_T for profile in profiles])
    seen = ~np.isnan(accuracy_MT)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen.any(axis=0), np.where(seen, accuracy_MT, 0).sum(axis=0) / count, 0.5)
    spread = np.sqrt(np.where(seen, (accuracy_MT - mean) ** 2, 0).sum(axis=0) / count)
    return AccuracyNorms(tuple(map(float, mean)), tuple(float(max(value, SMALLEST_SPREAD)) for value in spread))


@dataclass(frozen=True)
class ProfileReader:
    """Turns profiles of one aptitude test into `ProfileInputs`; `tokenizer` is psi's."""

    config: ProfileEncoderConfig
    encoder: EncoderConfig
    tokenizer: Tokenizer
    test: AptitudeTest
    norms: AccuracyNorms

    def inputs(self, profiles: Sequence[CapabilityProfile], order_seed: int) -> ProfileInputs:
        """Arrays of M profiles; for the `text` kind the tasks stand in a random order drawn from `order_seed`."""
        if self.config.kind == "tasks":
            rows = pad_rows([self._ids(f"{', '.join(task.keywords)}") for task in self.test.tasks])
            token, length = rows.token, rows.length
        else:
            order = np.random.default_rng(order_seed).permutation(self.test.num_tasks)
            token, length = self._chunks(profiles, order)
        accuracy_MT = np.stack([profile.accuracy_T for profile in profiles])
        numbers = self.numbers(accuracy_MT, np.stack([profile.count_T for profile in profiles]))
        return ProfileInputs(*map(jnp.asarray, (token, length, *numbers)))

    def numbers(self, accuracy_MT: np.ndarray, count_MT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the `tasks` kind reads: float32 `[M, T]` accuracies, standardized by the norms and 0 where nothing was observed, and the
        observed share of each task's items.
        """
        standard_MT = (accuracy_MT - np.array(self.norms.mean)) / np.array(self.norms.spread)
        known_MT = np.where(count_MT > 0, standard_MT, 0.0).astype(np.float32)
        return known_MT, (count_MT / self.test.shots).astype(np.float32)

    @property
    def num_orders(self) -> int:
        """Task orders worth averaging: one where order does not matter."""
        return self.config.orders if self.config.kind == "text" else 1

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(self.encoder.query_prefix + text).ids
        if len(ids) > self.encoder.max_positions:
            raise SatjaxError(
                f"profile text {text[:60]!r}… has {len(ids)} tokens; the text encoder reads {self.encoder.max_positions}"
            )
        return ids

    def _chunks(self, profiles: Sequence[CapabilityProfile], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each profile's clauses, packed into as few texts as the encoder can read whole: `[M, C, L]` and `[M, C]`."""
        packed = [self._pack(render_sentences(profile, order)) for profile in profiles]
        num_chunks = max(map(len, packed))
        texts = [row for chunks in packed for row in chunks + [[]] * (num_chunks - len(chunks))]
        # Orders of the tasks make texts of a few tokens more or less: they are padded alike, or each order would be a program of its own.
        longest = -(-max(map(len, texts)) // CHUNK_STEP) * CHUNK_STEP
        rows = pad_rows(texts, min(longest, self.encoder.max_positions))
        return rows.token.reshape(len(packed), num_chunks, -1), rows.length.reshape(len(packed), num_chunks)

    def _pack(self, clauses: list[str]) -> list[list[int]]:
        chunks: list[list[int]] = []
        held: list[str] = []
        for clause in clauses:
            ids = self.tokenizer.encode(self.encoder.query_prefix + " ".join([*held, clause])).ids
            if held and len(ids) > self.encoder.max_positions:
                chunks.append(self._ids(" ".join(held)))
                held = []
            held.append(clause)
        return [*chunks, self._ids(" ".join(held))]


def profile_parts(inputs: ProfileInputs) -> list[ProfileInputs]:
    """The profiles as they are read together: texts a few at a time, the last ones filled up with copies of their last, so that one program reads all.

    What `tasks` profiles have in common is read once for all of them.
    """
    num_candidates = len(inputs.accuracy_MT)
    if inputs.token.ndim == 2 or num_candidates <= PROFILES:
        return [inputs]
    index = np.minimum(np.arange(-(-num_candidates // PROFILES) * PROFILES), num_candidates - 1)
    return [jax.tree.map(itemgetter(part), inputs) for part in index.reshape(-1, PROFILES)]


def hide_items(outcome_MTK: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Profiles as if fewer items had been answered: each candidate loses a random share of its items, drawn evenly from `[0, most]`.

    Trained on these, a router cannot learn its candidates by heart, and has met profiles of few items.
    """
    share_M = rng.uniform(0, most, len(outcome_MTK))
    return np.where(rng.random(outcome_MTK.shape) < share_M[:, None, None], np.nan, outcome_MTK)
