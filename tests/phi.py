"""The paper's config in small: Phi-3.5 and E5 of a few layers, known by name, trained whole."""

from typing import Any

import pytest

from satjax.config import TrainConfig
from satjax.config.mapping import from_mapping
from satjax.preflight.steps import Plan, make_plan
from satjax.weights.published import PUBLISHED

SMALL = PUBLISHED["microsoft/Phi-3.5-mini-instruct"] | {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 192,
    "vocab_size": 128,
    "rope_scaling": None,
}
PSI = PUBLISHED["intfloat/e5-large-v2"] | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 64,
}
STAGES = (
    {"name": "connector", "steps": 2, "learning_rate": 1e-3, "trainable": ("connector/.*",)},
    {"name": "all", "steps": 2, "learning_rate": 1e-5, "trainable": ("connector/.*", "encoder/.*", "llm/.*")},
)


def small_plan(patch: pytest.MonkeyPatch, stages: tuple = STAGES, **router: Any) -> Plan:
    """A plan of five candidates; `router` replaces groups of its settings."""
    patch.setitem(PUBLISHED, "small", SMALL)
    patch.setitem(PUBLISHED, "psi", PSI)
    settings = {
        "router": {
            "attention": "xla",
            "llm": {"weights": "hub:small", "remat": "full"},
            "encoder": {"weights": "hub:psi"},
            "profile_encoder": {"kind": "text", "orders": 2},
            "prompt": {"buckets": (32, 64)},
            **router,
        },
        "aptitude": {"num_tasks": 4, "shots": 2},
        "batch": {"groups": 4, "instructions": 4},
        "stages": stages,
    }
    return make_plan(from_mapping(TrainConfig, settings), 5)
