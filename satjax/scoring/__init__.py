"""The score matrix for any number of instructions: tokenize, bucket, run, put back in order. Ranking, calibration and evaluation all use it.

Candidates come as soft tokens (`candidates`), and meet instructions in the LLM (`llm`), or under the ability head alone, which needs no more of
an instruction than its features (`features`).
"""

from satjax.assembly import Assembly
from satjax.features.row_batches import Batching
from satjax.features.vectors import VectorStore
from satjax.models.router_model import Params
from satjax.scoring.features import FeatureScorer
from satjax.scoring.llm import LLMScorer

Scorer = LLMScorer | FeatureScorer


def make_scorer(assembly: Assembly, params: Params, batching: Batching, store: VectorStore | None = None) -> Scorer:
    """The scorer of this model's head.

    Few programs are compiled per bucket: one for each size of a batch. Where parameters lie on a mesh, it is that of `batching`, and all of its
    processes score together. Where the ability head alone scores, `store` keeps what it reads of the instructions, if given.
    """
    if assembly.model.head == "none":
        return FeatureScorer(assembly, params, batching, store)
    return LLMScorer(assembly, params, batching)
