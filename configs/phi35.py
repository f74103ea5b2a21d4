"""satjax train --config configs/phi35.py --config.data.outcomes=DIR --workdir runs/phi

The paper's sizes: Phi-3.5-mini-instruct (3.8B) reads the instructions, E5-Large the profiles. Stage 1 fits the connector on instructions
of the aptitude test's own tasks; stage 2 trains everything, encoder and connector at larger rates. A word after the file's name selects a variant:

    configs/phi35.py:lora         the LLM stays as released, in bfloat16, beside low-rank adapters; E5 stays as it is
    configs/phi35.py:paper        the paper's objective in its own layout: capability first, the Yes logit, one positive of a candidate
                                  against seven negatives; ours scores all candidates in one pass, and compares them
    configs/phi35.py:lora,paper   both

Full training keeps 16 bytes for each parameter (float32 weights, gradients and two moments): 67 GB, sharded over 16 chips.
`satjax preflight` says whether that fits; if activations do not, --config.batch.accumulate=8 takes the same steps in eight passes.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    chosen = set(filter(None, variant.split(",")))
    if unknown := chosen - {"lora", "paper"}:
        raise ValueError(f"variant {unknown.pop()!r} is not known; there are lora and paper")
    lora, paper = "lora" in chosen, "paper" in chosen
    if lora:
        rates = {
            "learning_rate": 1e-4,
            "trainable": ("connector/.*", "llm/upper/.*/lora_[ab]"),
            "scales": (("connector/.*", 5.0),),
        }
    else:
        rates = {
            "learning_rate": 1e-5,
            "trainable": ("connector/.*", "encoder/.*", "llm/.*"),
            "scales": (("connector/.*", 10.0), ("encoder/.*", 2.0)),
        }
    if paper:
        loss = {"over_candidates": 0.0, "over_instructions": 1.0, "pointwise": 0.0}
        batch = {"groups": 32, "instructions": 8, "candidates": 1, "one_positive": True, "strength": 1.0}
    else:
        loss = {"over_candidates": 0.25, "over_instructions": 0.0, "pointwise": 1.0}
        batch = {"groups": 32, "instructions": 8, "candidates": 0, "one_positive": False, "strength": 0.0}
    return ConfigDict(
        {
            "seed": 0,
            "calibration_instructions": 2000,
            "data": {"outcomes": "outcomes", "held_out_candidates": ()},
            "aptitude": {"num_tasks": 50, "shots": 20, "seed": 0},
            "router": {
                "param_dtype": "bfloat16" if lora else "float32",
                "compute_dtype": "bfloat16",
                "head": "yes" if paper else "yes_no",
                "llm": {
                    "weights": "hub:microsoft/Phi-3.5-mini-instruct",
                    "lora_rank": 16 if lora else 0,
                    "remat": "full",
                },
                "encoder": {"weights": "hub:intfloat/e5-large-v2", "query_prefix": "query: "},
                "profile_encoder": {"kind": "text", "soft_tokens": 1, "orders": 2},
                "prompt": {
                    "layout": "capability_first" if paper else "instruction_first",
                    "buckets": (128, 192, 256, 384, 512, 768),
                },
            },
            "loss": loss,
            "batch": {**batch, "accumulate": 1},
            "optimizer": {"weight_decay": 0.01, "clip_norm": 1.0},
            "checkpoint": {"every_steps": 50, "keep": 2},
            "validation": {"every_steps": 0 if paper else 50},
            # Parts of a 16th are whole tiles of the TPU's memory. Of smaller ones XLA makes all-reduces of whole weights instead of gathers
            # and scatters (`satjax preflight`); on fewer chips --config.mesh.fsdp takes as many as there are.
            "mesh": {"data": -1, "fsdp": 16, "tensor": 1},
            "stages": (
                {
                    "name": "connector",
                    "steps": 50,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/.*",),
                    "warmup_steps": 5,
                    "instructions": "aptitude_tasks",
                },
                {"name": "all", "steps": 150, "warmup_steps": 10, **rates},
            ),
        }
    )
