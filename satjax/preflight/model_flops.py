"""Floating-point operations that a step needs by the model's shape, for the utilization (MFU) that a roofline predicts.

As usual (Chowdhery et al. 2022, appendix B) what is computed again in the backward pass is no use, and causal attention counts whole.
"""

from satjax.models.decoder import DecoderConfig
from satjax.preflight.steps import Plan, profile_inputs_shape


def train_flops(plan: Plan) -> float:
    """All chips, one step of a batch of the longest bucket; two for every multiplication and addition."""
    batch = plan.config.batch
    rows = batch.groups * batch.instructions
    if plan.reads_features:
        head, width = plan.model.ability_head, plan.model.decoder.width
        return 6.0 * rows * head.num_states * (width * head.hidden + head.hidden * (head.rank + 1))
    text, suffix = forward_flops(plan, plan.candidates)
    whole = any(path.startswith("llm/") and path.endswith("/kernel") for path in plan.trained)
    through_text = plan.config.router.prompt.layout == "capability_first" or plan.config.router.llm.lora_tokens == "all"
    adapted = any("/lora_" in path for path in plan.trained)
    text_passes = 3 if whole else 2 if through_text and (adapted or not suffix) else 1
    flops = rows * (text_passes * text + (3 if whole else 2) * suffix)
    return flops + (3 * encoder_flops(plan) * _asked(plan) if plan.embeds else 0.0)


def _asked(plan: Plan) -> float:
    """The share of psi's rows that a step has to read: of profiles as text it reads those that its groups ask for (`satjax.training.train_step.profiles_of`)."""
    if plan.model.profile_encoder.kind != "text":
        return 1.0
    return min(1.0, plan.config.batch.groups * plan.candidates / plan.num_candidates)


def rank_flops(plan: Plan, rows: int, num_sets: int) -> float:
    """All chips, one batch of `rows` instructions against `num_sets` sets of soft tokens."""
    return rows * sum(forward_flops(plan, num_sets))


def forward_flops(plan: Plan, candidates: int) -> tuple[float, float]:
    """One instruction's forward pass through the LLM: its text (with the capability tokens, where they come first), and all suffixes."""
    llm, soft = plan.model.decoder, plan.model.profile_encoder.soft_tokens
    if plan.config.router.prompt.layout == "capability_first":
        return candidates * _layers(llm, llm.num_layers, plan.bucket + soft, plan.bucket + soft), 0.0
    if plan.config.router.head == "none":
        return _layers(llm, llm.num_layers, plan.bucket, plan.bucket), 0.0
    each = soft + len(plan.model.tail_ids)
    suffix = _layers(llm, llm.num_layers - llm.join_layer, candidates * each, plan.bucket + each)
    return _layers(llm, llm.num_layers, plan.bucket, plan.bucket), suffix


def encoder_flops(plan: Plan) -> float:
    """One forward pass of psi over the profiles of all candidates."""
    psi = plan.model.encoder
    if psi is None:
        return 0.0
    rows, width = profile_inputs_shape(plan)
    kernels = 4 * psi.width**2 + 2 * psi.width * psi.mlp_width
    return float(rows * width * psi.num_layers * (2 * kernels + 4 * width * psi.width))


def _layers(llm: DecoderConfig, layers: int, tokens: int, keys: int) -> float:
    heads, groups = llm.num_heads * llm.head_width, llm.num_kv_heads * llm.head_width
    kernels = llm.width * (2 * heads + 2 * groups) + 3 * llm.width * llm.mlp_width
    return float(layers * tokens * (2 * kernels + 4 * keys * heads))
