"""The score matrix for any number of instructions: tokenize, bucket, run, put back in order. Ranking, calibration and evaluation all use it.

Candidates come as soft tokens (`candidates`), and meet instructions in the LLM (`llm`), or under the ability head alone, which needs no more of
an instruction than its features (`features`).
"""

from collections.abc import Sequence

from jax.sharding import Mesh

from satjax.assembly import Assembly
from satjax.features.vectors import VectorStore
from satjax.models.router_model import Params
from satjax.scoring.features import FeatureScorer
from satjax.scoring.llm import LLMScorer

Scorer = LLMScorer | FeatureScorer


def make_scorer(
    assembly: Assembly,
    params: Params,
    store: VectorStore | None = None,
    mesh: Mesh | None = None,
    sizes: Sequence[int] | None = None,
) -> Scorer:
    """The scorer of this model's head.

    Few programs are compiled per bucket: one for each of a few sizes of batches, `sizes` among them if given (`batch_sizes`). Where parameters lie
    on a `mesh`, the rows of a batch are split over its data axes, and all of its processes score together. Where the ability head alone scores,
    `store` keeps what it reads of the instructions, if given.
    """
    if assembly.model.head == "none":
        return FeatureScorer(assembly, params, store, mesh, sizes)
    return LLMScorer(assembly, params, mesh, sizes)
