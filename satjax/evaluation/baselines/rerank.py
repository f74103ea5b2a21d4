"""Baseline: every candidate answers, and the response most similar to the instruction is taken (the paper's re-ranking rows).

The cost of all candidates together, so no router in its own right. The score of a pair is the cosine of the embeddings of instruction and
response, both averaged over their tokens (as MiniLM and GTE do; BGE means its first token). Encoders that read both at once (cross-encoders) are
of types that `satjax.models.text_encoder` does not read.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.evaluation.baselines.zero_shot import ZeroShot, fit_order
from satjax.evaluation.embed import MAX_TOKENS, count_cut, embed
from satjax.outcomes import OutcomeTable, Responses
from satjax.weights.fetch import BaseModel

Progress = Callable[[int, int], Any]


def rerank(
    encoder: BaseModel,
    responses: Responses,
    held: OutcomeTable,
    val: OutcomeTable,
    on_progress: Progress = lambda done, total: None,
) -> ZeroShot:
    """On the items of `held`, calibrated on those of `val` that have responses; outcomes of `held` only say which responses are needed.

    A long text loses its middle (`satjax.evaluation.embed`); `chosen` says how many do. Raises SatjaxError where a
    candidate whose outcome is known has no response, or the weights are no text encoder.
    """
    missing_BM = np.isnan(held.scores_MN.T) < (responses.places(held) < 0)
    if missing_BM.any():
        b, m = np.argwhere(missing_BM)[0]
        raise SatjaxError(
            f"rerank needs a response for every outcome; {missing_BM.sum()} of {missing_BM.size} have none, such as that of "
            f"{held.candidate_ids[m]!r} to {held.item_ids[b]!r}: add them to responses.parquet, or leave such items out"
        )
    instructions = [item.text for table in (held, val) for item in table.items]
    place_BM = np.concatenate([responses.places(held), responses.places(val)])
    used = np.unique(place_BM[place_BM >= 0])
    texts = [responses.texts[i] for i in used]
    vectors = embed(encoder, [*instructions, *texts], on_progress=on_progress)
    instruction_BE, response_RE = vectors[: len(instructions)], vectors[len(instructions) :]
    cosine_BM = np.stack(
        [
            np.einsum("be,be->b", instruction_BE, response_RE[np.searchsorted(used, place_B).clip(max=len(used) - 1)])
            for place_B in place_BM.T
        ],
        axis=1,
    )
    cosine_BM[place_BM < 0] = np.nan
    score_BM, val_score_BM = np.split(cosine_BM, [len(held.items)])
    calibration = fit_order(val_score_BM, val.scores_MN.T)
    chosen = {
        "encoder": encoder.source,
        "slope": calibration.scale,
        "offset": calibration.offset,
        "calibrated_on": calibration.fitted_on,
        "read_tokens": MAX_TOKENS,
        "instructions_cut": count_cut(encoder, [item.text for item in held.items]),
        "responses_cut": count_cut(encoder, [responses.texts[i] for i in np.unique(responses.places(held)) if i >= 0]),
    }
    # Only pairs that nobody reads have no score here.
    return ZeroShot(calibration.probability(np.nan_to_num(score_BM)), chosen)
