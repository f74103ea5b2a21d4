"""satjax train --config configs/qwen25.py --config.data.outcomes=DIR --workdir runs/qwen25

The sizes between the default and the paper's: Qwen2.5-Instruct of 0.5B or 1.5B with E5-Large, in the recipe of `configs/phi35.py`. Words
after the file's name choose the size (0.5b, if none is named) and the variant, separated by commas:

    configs/qwen25.py:1.5b,lora   the LLM stays as released, in bfloat16, beside low-rank adapters; E5 stays as it is

Full training keeps 16 bytes for each parameter: 13 GB for 0.5B and E5-Large together, 30 GB for 1.5B, sharded over all chips.
"""

from ml_collections import ConfigDict

WEIGHTS = {"0.5b": "hub:Qwen/Qwen2.5-0.5B-Instruct", "1.5b": "hub:Qwen/Qwen2.5-1.5B-Instruct"}


def get_config(variant: str = "") -> ConfigDict:
    chosen = set(filter(None, variant.split(",")))
    if unknown := chosen - {*WEIGHTS, "lora"}:
        raise ValueError(f"variant {unknown.pop()!r} is not known; there are {', '.join(WEIGHTS)} and lora")
    sizes = chosen & set(WEIGHTS) or {"0.5b"}
    if len(sizes) > 1:
        raise ValueError(f"variant {variant!r} names two sizes; choose one")
    lora = "lora" in chosen
    if lora:
        rates = {
            "learning_rate": 2e-4,
            "trainable": ("connector/.*", "llm/upper/.*/lora_[ab]"),
            "scales": (("connector/.*", 5.0),),
        }
    else:
        rates = {
            "learning_rate": 2e-5,
            "trainable": ("connector/.*", "encoder/.*", "llm/.*"),
            "scales": (("connector/.*", 10.0), ("encoder/.*", 2.0)),
        }
    return ConfigDict(
        {
            "seed": 0,
            "calibration_instructions": 2000,
            "data": {"outcomes": "outcomes", "held_out_candidates": ()},
            "aptitude": {"num_tasks": 50, "shots": 20, "seed": 0},
            "router": {
                "param_dtype": "bfloat16" if lora else "float32",
                "compute_dtype": "bfloat16",
                "head": "yes_no",
                "llm": {"weights": WEIGHTS[sizes.pop()], "lora_rank": 16 if lora else 0, "remat": "full"},
                "encoder": {"weights": "hub:intfloat/e5-large-v2", "query_prefix": "query: "},
                "profile_encoder": {"kind": "text", "soft_tokens": 1, "orders": 2},
                "prompt": {"layout": "instruction_first", "buckets": (128, 192, 256, 384, 512, 768)},
            },
            "loss": {"over_candidates": 0.25, "over_instructions": 0.0, "pointwise": 1.0},
            "batch": {"groups": 8, "instructions": 8, "candidates": 0, "accumulate": 1},
            "optimizer": {"weight_decay": 0.01, "clip_norm": 1.0},
            "checkpoint": {"every_steps": 50, "keep": 2},
            "validation": {"every_steps": 100},
            "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
            "stages": (
                {
                    "name": "connector",
                    "steps": 100,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/.*",),
                    "warmup_steps": 5,
                    "instructions": "aptitude_tasks",
                },
                {"name": "all", "steps": 400, "warmup_steps": 20, **rates},
            ),
        }
    )
