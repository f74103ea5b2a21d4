"""satjax train --config configs/tuned.py --config.data.outcomes=DIR --workdir runs/tuned

The default recipe (`configs/smollm2.py`), and then a second stage in which the LLM that reads the instructions learns too, by adapters of rank 16 in
its layers. Every step reads its instructions again, which is work for an accelerator. A word after the file's name takes the larger LLM:

    configs/tuned.py:large   Qwen2.5-Coder-1.5B-Instruct, as in `configs/qwen25_coder.py`

On MMLU-Pro's training instructions it is no better than the frozen LLM (`benchmarks/experiments.md`); it is here for larger tables. Training pads
to few widths, so that little has to be compiled; ranking uses all buckets of the prompt.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

RECIPES = {"": "smollm2.py", "large": "qwen25_coder.py"}


def get_config(variant: str = "") -> ConfigDict:
    if variant not in RECIPES:
        raise ValueError(f"variant {variant!r} is not known; there is {', '.join(filter(None, RECIPES))}")
    config = runpy.run_path(str(Path(__file__).with_name(RECIPES[variant])))["get_config"]()
    config.router.llm.lora_rank = 16
    config.router.llm.remat = "dots"
    passes = 8 if variant else 4  # what all layers hold of a pass is kept for its gradients
    config.batch.update(
        {"groups": passes, "instructions": 128 // passes, "accumulate": passes, "widths": (192, 384, 768)}
    )
    config.stages = (
        *config.stages,
        {
            "name": "tuned",
            "steps": 108,
            "learning_rate": 3e-4,
            "trainable": ("connector/ability", "ability/(read|demand)/.*", "llm/.*/lora_[ab]"),
            "scales": (("connector/ability", 3.0), ("llm/.*", 0.333)),
            "warmup_steps": 20,
        },
    )
    return config
