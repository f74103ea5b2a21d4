"""The router: load it, rank with it. A thin function over the score matrix; no candidate is ever run."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from satjax.aptitude import AptitudeTest, CapabilityProfile, check_same_test
from satjax.aptitude.measurement import AbilityScale
from satjax.assembly import assemble, with_tuned_llm
from satjax.calibration import Calibration
from satjax.checkpoint import load_arrays
from satjax.errors import SatjaxError, unknown_name
from satjax.export.directory import read_router
from satjax.features.reader import feature_store
from satjax.features.row_batches import Batching
from satjax.instructions import with_short_buckets
from satjax.models.router_model import abstract_model
from satjax.pretrained import DEFAULT, router_directory
from satjax.progress import Progress, unheard
from satjax.scoring import FeatureScorer, Scorer, make_scorer
from satjax.scoring.candidates import CandidateEncoder, as_tokens, profile_reader
from satjax.sharding import as_ours, as_satjax_computes, place, replicated

SERVING_SIZES = (1, 4, 16, 32)
"""Instructions that a server scores at once, in one of its programs, where they do not make a full batch."""


@dataclass(frozen=True)
class Ranked:
    """One place in a ranking: a candidate, and the probability that it handles the instruction."""

    candidate: str
    probability: float


@dataclass(frozen=True)
class Zoo:
    """The candidates of one moment, in order: profiles and soft tokens, float32 `[O, K, D]` each, by name."""

    profiles: Mapping[str, CapabilityProfile]
    soft: Mapping[str, np.ndarray]

    @cached_property
    def soft_MOKD(self) -> jax.Array:
        """All soft tokens as one array. Stacked on the host: XLA takes seconds to compile a concatenation of a thousand arrays."""
        return jnp.asarray(np.stack(list(self.soft.values())))

    def known(self, name: str) -> str:
        """The name; raises SatjaxError where no candidate has it."""
        if name not in self.profiles:
            raise unknown_name("candidate", name, self.profiles)
        return name


class Router:
    """Ranks a zoo of candidates for instructions; made by `Router.load`.

    Candidates join and leave at run time (`add`, `remove`) with nothing but a profile, also while other threads rank: each ranking is of the
    zoo that was there when it began.
    """

    def __init__(
        self,
        scorer: Scorer,
        encoder: CandidateEncoder,
        test: AptitudeTest,
        profiles: Sequence[CapabilityProfile],
        calibration: Calibration,
        abilities: Mapping[str, np.ndarray] | None = None,
    ):
        """`abilities` float32 `[R + 1]` of candidates that need not be measured by their profiles, by name."""
        self.aptitude_test, self.calibration = test, calibration
        self._scorer, self._encoder = scorer, encoder
        self._change = threading.Lock()
        self._zoo = Zoo({}, {})
        known = abilities or {}
        self.add(*(profile for profile in profiles if profile.candidate not in known))
        measured = self._zoo.soft
        soft = {name: as_tokens(np.asarray(ability)[None])[0] for name, ability in known.items()}
        named = {profile.candidate: profile for profile in profiles}
        self._zoo = Zoo(named, {name: measured[name] if name in measured else soft[name] for name in named})

    @classmethod
    @as_satjax_computes()
    def load(
        cls,
        directory: str | Path = DEFAULT,
        *,
        exact: bool = False,
        keep_features: bool = False,
        mesh: Mesh | None = None,
        serving: bool = False,
    ) -> "Router":
        """Reads a router directory (by default the package's own, or `large`, its other one), checks it file by file, and opens the base weights it names (fetched where absent).

        `exact`: in float32, whatever the router's config says. Otherwise, unless that says float32, a GPU or TPU computes in bfloat16, and a CPU that
        multiplies bfloat16 does so in the LLM's layers, with float32 sums: on a CPU two to four times as fast, probabilities change by 0.01 or so at most.
        Whether a GPU or TPU rounds the factors of float32 products is JAX's setting `jax_default_matmul_precision`; "highest" does not.
        `keep_features`: what an ability head that scores alone reads of an instruction is kept in the cache on disk, for whoever scores the same
        instructions again. `mesh`: many instructions at
        once are split over its devices, and parameters lie on each of them; without one, on the first device of this process, whatever mesh the
        program has set (`jax.set_mesh`). `serving`: a few
        instructions at a time meet in batches of several sizes and more widths, which costs more programs to compile (`warm_up`) and less time
        for each.
        Raises SatjaxError where a file is missing or altered, the base weights are not the ones it was trained on, or `mesh` has other axes
        than those of `satjax.sharding.make_mesh`.
        """
        mesh = None if mesh is None else as_ours(mesh)
        directory = router_directory(directory)
        files = read_router(directory)
        config = replace(files.config, compute_dtype="float32", attention="xla") if exact else files.config
        assembly = assemble(config, files.base_sha256)
        if serving:
            assembly = replace(assembly, writer=with_short_buckets(assembly.writer))
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else replicated(mesh)
        # On the host first: what was trained of an LLM goes to devices in the dtype of base weights, and not in its own as well.
        learned = load_arrays(directory / "params", files.learned)
        tuned = ((path, value) for path, value in sorted(learned.items()) if path.startswith("llm/"))
        store = feature_store(assembly, tuned) if keep_features and config.head == "none" else None
        assembly, rest = with_tuned_llm(assembly, learned)
        del learned, tuned
        assembly = assembly.fixed(assembly.base_params)
        _, shapes = abstract_model(assembly.model)
        params = {
            path: place(np.asarray(rest[path]), here) if path in rest else assembly.placed(path, leaf.shape, here)
            for path, leaf in shapes.items()
        }
        reader = profile_reader(assembly, files.test, files.norms) or AbilityScale.from_params(rest)
        return cls(
            make_scorer(assembly, params, Batching(mesh, SERVING_SIZES) if serving else Batching(mesh), store),
            CandidateEncoder(assembly, params, reader, files.order_seed, mesh),
            files.test,
            files.profiles,
            files.calibration,
            files.abilities,
        )

    @property
    def candidates(self) -> tuple[str, ...]:
        """The zoo, in the order of the columns of `score`."""
        return tuple(self._zoo.profiles)

    @property
    def profiles(self) -> tuple[CapabilityProfile, ...]:
        """The zoo's profiles, in the same order."""
        return tuple(self._zoo.profiles.values())

    @as_satjax_computes()
    def add(self, *profiles: CapabilityProfile | str | Path) -> None:
        """Adds candidates from profiles or profile files; one of the same name is replaced. Nothing is added if any is unfit."""
        read = [
            profile if isinstance(profile, CapabilityProfile) else CapabilityProfile.read(Path(profile))
            for profile in profiles
        ]
        for profile in read:
            check_same_test(profile, self.aptitude_test)
        if not read:
            return
        named = {profile.candidate: profile for profile in read}
        soft = dict(
            zip((profile.candidate for profile in read), np.asarray(self._encoder.soft_tokens(read)), strict=True)
        )
        with self._change:
            self._zoo = Zoo({**self._zoo.profiles, **named}, {**self._zoo.soft, **soft})

    def remove(self, candidate: str) -> None:
        """Takes a candidate out of the zoo."""
        with self._change:
            profiles, soft = dict(self._zoo.profiles), dict(self._zoo.soft)
            del profiles[self._zoo.known(candidate)], soft[candidate]
            self._zoo = Zoo(profiles, soft)

    def score(
        self,
        instructions: Sequence[str],
        candidates: Sequence[str] | None = None,
        on_progress: Progress = unheard,
    ) -> np.ndarray:
        """The score matrix, float32 `[B, M]`: raw logits, columns in the order of `candidates`. `on_progress` hears how many of how many
        instructions are done.

        By default that is all of the zoo, in the order that `Router.candidates` has as the scoring begins: name them where others add and remove some.
        """
        if isinstance(instructions, str):
            raise SatjaxError("Router.score takes a list of instructions; put the one instruction into a list")
        # Scores go by place, and what comes may go by labels, as a column of a data frame does.
        return self._score(self._zoo, list(instructions), candidates, on_progress)

    def probability(
        self,
        instructions: Sequence[str],
        candidates: Sequence[str] | None = None,
        on_progress: Progress = unheard,
    ) -> np.ndarray:
        """Calibrated probabilities of handling each instruction, float32 `[B, M]` in [0, 1]."""
        return self.calibration.probability(self.score(instructions, candidates, on_progress))

    def rank(self, instruction: str, candidates: Sequence[str] | None = None, top: int | None = None) -> list[Ranked]:
        """Candidates from the likeliest to handle the instruction to the least, the `top` first ones if given."""
        check_top(top)
        zoo = self._zoo
        names = tuple(_named(candidates, zoo))
        return ranking(names, self._score(zoo, [instruction], names)[0], self.calibration, top)

    @as_satjax_computes()
    def task_likeness(self, instruction: str) -> np.ndarray | None:
        """How alike the demands of an instruction and of each core task of the aptitude test are, float32 `[T]` in [-1, 1].

        The cosine of what the ability head reads of the instruction and of the task's items on average, each less what it reads of the whole
        test on average. None for a router that does not measure abilities (its head is not `none`, or its profiles are not `items`).
        """
        scorer, scale = self._scorer, self._encoder.reader
        if not isinstance(scorer, FeatureScorer) or not isinstance(scale, AbilityScale):
            return None
        demand_BR = scorer.demands([instruction])
        task_TR = scale.demand_TKR[..., :-1].mean(axis=1)
        average_R = task_TR.mean(axis=0)
        off_TR, off_R = task_TR - average_R, demand_BR[0, :-1] - average_R
        length_T = np.linalg.norm(off_TR, axis=-1) * np.linalg.norm(off_R)
        return (off_TR @ off_R / np.maximum(length_T, 1e-9)).astype(np.float32)

    def warm_up(self, most: int) -> Iterator[tuple[int, int]]:
        """Compiles what scoring `most` instructions or fewer can need, program by program, and gives rows and width in tokens of each when it is
        ready.
        """
        zoo = self._zoo
        if not zoo.profiles:
            return
        with as_satjax_computes():  # which is where the zoo's tokens become an array
            programs = self._scorer.warm_up(zoo.soft_MOKD, most)
        # For each program anew: between them the caller goes on.
        next_one = as_satjax_computes()(lambda: next(programs, None))
        while ready := next_one():
            yield ready

    @as_satjax_computes()
    def _score(
        self,
        zoo: Zoo,
        instructions: Sequence[str],
        candidates: Sequence[str] | None,
        on_progress: Progress = unheard,
    ) -> np.ndarray:
        names = [zoo.known(name) for name in _named(candidates, zoo)]
        if not names:
            raise SatjaxError("there is no candidate to rank; add one with Router.add, or name at least one")
        column = {name: i for i, name in enumerate(zoo.profiles)}
        score_BM = self._scorer.score(instructions, zoo.soft_MOKD, on_progress)
        return score_BM[:, [column[name] for name in names]]


def _named(candidates: Sequence[str] | None, zoo: Zoo) -> Iterable[str]:
    if isinstance(candidates, str):
        raise SatjaxError(f"candidates = {candidates!r:.60} is one name; put it into a list")
    return zoo.profiles if candidates is None else candidates


def check_top(top: int | None) -> None:
    """Raises SatjaxError where nobody would be in the ranking."""
    if top is not None and top < 1:
        raise SatjaxError(f"top = {top}: ask for at least 1 candidate")


def ranking(
    names: Sequence[str], score_M: np.ndarray, calibration: Calibration, top: int | None = None
) -> list[Ranked]:
    """One row of scores as a ranking; equal ones keep the order of `names`."""
    # Probabilities keep the order of scores, but float32 has only one number for all that is next to 1.
    order, probability_M = np.argsort(-score_M, kind="stable")[:top], calibration.probability(score_M)
    return [Ranked(names[i], float(probability_M[i])) for i in order]
