"""Baseline: every candidate answers, and the response most similar to the instruction is taken (the paper's re-ranking rows).

The cost of all candidates together, so no router in its own right. The score of a pair is the cosine of the embeddings of instruction and
response, each pooled as the encoder's files state it: over all tokens (MiniLM, GTE) or by the first one (BGE); no prefix stands before either.
Cross-encoders, which read both texts at once and give a score of their own (Cappy, ms-marco-MiniLM, the rerankers of BGE), are not read: they
are of another type than BERT, or carry a head, and `satjax.weights.names` refuses both.
"""

import numpy as np

from satjax.errors import SatjaxError
from satjax.evaluation.baselines.means import candidate_mean
from satjax.evaluation.baselines.zero_shot import ZeroShot, fit_order
from satjax.evaluation.embed import MAX_TOKENS, count_cut, embed
from satjax.outcomes import OutcomeTable, Responses
from satjax.outcomes.responses import NONE
from satjax.progress import Progress, unheard
from satjax.weights.fetch import BaseModel


def rerank(
    encoder: BaseModel,
    responses: Responses,
    held: OutcomeTable,
    val: OutcomeTable,
    on_progress: Progress = unheard,
) -> ZeroShot:
    """On the items of `held`, calibrated on the outcomes of `val` that have responses; those of `held` only say which responses are needed.

    An instruction cannot be re-ranked where a candidate whose outcome is known has no response. There each candidate's probability is its mean
    outcome on `val`, all that is known without responses, so that the figures are of the same instructions as those of every other method;
    `chosen` counts them (`not_reranked`). A long text loses its middle (`satjax.evaluation.embed`); `chosen` says of how many that were
    re-ranked. Raises SatjaxError where no instruction can be re-ranked, no outcome of `val` has a response, or the weights are no text encoder.
    """
    held_place_BM = responses.places(held)
    missing_BM = ~np.isnan(held.scores_MN.T) & (held_place_BM == NONE)
    reranked_B = ~missing_BM.any(axis=1) & (held_place_BM != NONE).any(axis=1)
    if not reranked_B.any():
        missing_M = missing_BM.sum(axis=0)
        raise SatjaxError(
            f"rerank needs a response for every outcome of an instruction, and none of the {len(held.items)} instructions has that; "
            f"{held.candidate_ids[missing_M.argmax()]!r} lacks {missing_M.max()}: add them to responses.parquet, or leave that candidate out"
        )
    held_place_BM[~reranked_B] = NONE
    place_BM = np.concatenate([held_place_BM, responses.places(val)])
    instructions = [item.text for table in (held, val) for item in table.items]
    used = np.unique(place_BM[place_BM != NONE])
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
    cosine_BM[place_BM == NONE] = np.nan
    score_BM, val_score_BM = np.split(cosine_BM, [len(held.items)])
    calibration = fit_order(val_score_BM, val.scores_MN.T)
    chosen = {
        "encoder": encoder.source,
        "slope": calibration.scale,
        "offset": calibration.offset,
        "calibrated_on": calibration.fitted_on,
        "not_reranked": int((~reranked_B).sum()),
        "read_tokens": MAX_TOKENS,
        "instructions_cut": count_cut(encoder, [held.items[b].text for b in np.flatnonzero(reranked_B)]),
        "responses_cut": count_cut(encoder, [responses.texts[i] for i in np.unique(held_place_BM) if i != NONE]),
    }
    # A re-ranked instruction's pair without a response has no outcome either: nobody reads what stands there.
    probability_BM = np.where(np.isnan(score_BM), candidate_mean(val.scores_MN.T), calibration.probability(score_BM))
    return ZeroShot(probability_BM.astype(np.float32), chosen)
