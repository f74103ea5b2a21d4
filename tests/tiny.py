"""A router small enough to train in seconds: random base weights in the real file formats, a tokenizer, and a config."""

import copy
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from satjax.assembly import Assembly
from satjax.config import TrainConfig
from satjax.config.mapping import from_mapping
from satjax.models.router_model import Params, initial_params
from satjax.outcomes import OutcomeTable, synthetic_zoo
from satjax.outcomes.parquet import write_table
from satjax.weights.lazy import place_tensor

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE that knows the answers as single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = "the of and is what word number sort list convert from to how many in Instruction model handle answering"
    corpus = [" Yes No" * 50, *[f" {word}" * 20 for word in words.split()]]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _linears(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if "norm" in name.lower() and name.endswith("weight"):
            return np.ones(shape, np.float32)
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        return (rng.normal(size=shape) * (1.0 if "embed" in name else shape[-1] ** -0.5)).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def _write(
    directory: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], seed: int, tokenizer: Tokenizer
) -> Path:
    directory.mkdir(parents=True)
    save_file(_linears(np.random.default_rng(seed), shapes), str(directory / "model.safetensors"))
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def write_tiny_llm(directory: Path, seed: int = 0, *, tied: bool = True) -> Path:
    """A Llama-type LLM of three layers as a Hugging Face directory; one that is not `tied` has output rows of its own."""
    tokenizer = tiny_tokenizer()
    vocab, width, mlp = tokenizer.get_vocab_size(), LLAMA["hidden_size"], LLAMA["intermediate_size"]
    kv = LLAMA["num_key_value_heads"] * LLAMA["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    for i in range(LLAMA["num_hidden_layers"]):
        at = f"model.layers.{i}."
        shapes |= {f"{at}input_layernorm.weight": (width,), f"{at}post_attention_layernorm.weight": (width,)}
        shapes |= {
            f"{at}self_attn.{p}_proj.weight": (out, width)
            for p, out in (("q", width), ("k", kv), ("v", kv), ("o", width))
        }
        shapes |= {f"{at}mlp.gate_proj.weight": (mlp, width), f"{at}mlp.up_proj.weight": (mlp, width)}
        shapes |= {f"{at}mlp.down_proj.weight": (width, mlp)}
    if not tied:
        shapes["lm_head.weight"] = (vocab, width)
    return _write(directory, {**LLAMA, "vocab_size": vocab, "tie_word_embeddings": tied}, shapes, seed, tokenizer)


def write_tiny_encoder(directory: Path, seed: int = 1) -> Path:
    """A BERT-type encoder of two layers as a Hugging Face directory."""
    tokenizer = tiny_tokenizer()
    vocab, width, mlp = tokenizer.get_vocab_size(), BERT["hidden_size"], BERT["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocab, width),
        "embeddings.position_embeddings.weight": (BERT["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for i in range(BERT["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        squares = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        sizes = dict.fromkeys(squares, (width, width))
        sizes |= {"intermediate.dense": (mlp, width), "output.dense": (width, mlp)}
        for name, (rows, columns) in sizes.items():
            shapes |= {f"{at}{name}.weight": (rows, columns), f"{at}{name}.bias": (rows,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{name}.weight": (width,), f"{at}{name}.bias": (width,)}
    return _write(directory, {**BERT, "vocab_size": vocab}, shapes, seed, tokenizer)


def tiny_table() -> OutcomeTable:
    """A small synthetic zoo."""
    return synthetic_zoo(seed=3, num_items=700, num_candidates=6)


def tiny_settings(directory: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a whole training run of a few steps; files are made under `directory` on first use."""
    llm, encoder, outcomes = directory / "llm", directory / "encoder", directory / "outcomes"
    if not outcomes.is_dir():
        write_tiny_llm(llm)
        write_tiny_encoder(encoder)
        write_table(tiny_table(), outcomes)
    settings: dict[str, Any] = {
        "seed": 1,
        "calibration_instructions": 16,
        "data": {"outcomes": str(outcomes)},
        "aptitude": {"num_tasks": 6, "shots": 4},
        "router": {
            "llm": {"weights": f"dir:{llm}", "lora_rank": 2, "join_layer": 1},
            "encoder": {"weights": f"dir:{encoder}"},
            "profile_encoder": {"kind": "tasks", "width": 16},
            "prompt": {"buckets": (256, 320), "tail": ""},
        },
        "batch": {"instructions": 8},
        "checkpoint": {"every_steps": 3, "keep": 2},
        "stages": (
            {"name": "connector", "steps": 4, "learning_rate": 1e-2, "trainable": ("connector/.*",)},
            {
                "name": "all",
                "steps": 6,
                "learning_rate": 1e-2,
                "trainable": ("connector/.*", "llm/upper/.*/lora_[ab]"),
                "scales": (("connector/.*", 2.0),),
                "warmup_steps": 1,
            },
        ),
    }
    for path, value in changes.items():
        group, name = settings, path.split("__")
        for key in name[:-1]:
            group = group.setdefault(key, {})
        group[name[-1]] = value
    return settings


ABILITY_OF_TASKS: dict[str, Any] = {
    "router__head": "none",
    "router__llm__lora_rank": 0,
    "router__llm__join_layer": 0,
    "router__prompt__ending": "answer",
    "router__ability_head": {"rank": 2, "hidden": 8, "mean_layers": (1, 2), "last_layers": (2,)},
    "stages": (
        {
            "name": "ability",
            "steps": 10,
            "learning_rate": 1e-2,
            "trainable": ("connector/.*", "ability/(read|demand|ability)/.*"),
        },
    ),
}
"""Changes to `tiny_settings` after which the ability head alone scores, with abilities that the connector reads off profiles."""

ABILITY_ALONE: dict[str, Any] = {
    **ABILITY_OF_TASKS,
    "aptitude__draw": "even",
    "router__profile_encoder": {"kind": "items"},
    "stages": (
        {
            "name": "ability",
            "steps": 10,
            "learning_rate": 1e-2,
            "trainable": ("connector/ability", "ability/(read|demand)/.*"),
        },
    ),
}
"""The same with abilities that are measured."""

ABILITY_TUNED: dict[str, Any] = {
    **ABILITY_ALONE,
    "router__llm__lora_rank": 2,
    "stages": (
        *({**stage, "steps": 4} for stage in ABILITY_ALONE["stages"]),
        {
            "name": "tuned",
            "steps": 6,
            "learning_rate": 1e-2,
            "trainable": ("connector/ability", "ability/(read|demand)/.*", "llm/.*/lora_[ab]"),
        },
    ),
}
"""The same, and then the LLM that is read is adapted too."""


def tiny_config(directory: Path, **changes: Any) -> TrainConfig:
    """`tiny_settings` as a config; `router__llm__join_layer=0` changes one setting."""
    return from_mapping(TrainConfig, tiny_settings(directory, **changes))


def untrained_params(assembly: Assembly, seed: int = 0) -> Params:
    """All parameters of a router that no step has changed, on the first device."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    base = {path: place_tensor(value, here) for path, value in assembly.base_params.items()}
    return base | initial_params(assembly.model, seed, base)


def write_tiny_config(path: Path, directory: Path, **changes: Any) -> Path:
    """`tiny_settings` as a file that `satjax train --config` takes."""
    lines = (
        '"""A tiny run."""',
        "import json",
        "from ml_collections import ConfigDict",
        "def get_config():",
        f"    settings = json.loads({json.dumps(tiny_settings(directory, **changes))!r})",
        '    return ConfigDict({**settings, "stages": tuple(settings["stages"])})',
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


PAPER = {
    "router__llm": {"lora_rank": 0, "join_layer": 0, "weights": ""},
    "router__prompt": {"layout": "capability_first", "buckets": (256, 320)},
    "router__profile_encoder": {"kind": "text", "soft_tokens": 1, "orders": 2},
    "router__head": "yes",
    "loss": {"over_instructions": 1.0, "over_candidates": 0.0, "pointwise": 0.0},
    "batch": {"groups": 8, "instructions": 3, "candidates": 1, "one_positive": True, "strength": 1.0},
    "stages": (
        {
            "name": "connector",
            "steps": 2,
            "learning_rate": 1e-3,
            "trainable": ("connector/.*",),
            "instructions": "aptitude_tasks",
        },
        {
            "name": "all",
            "steps": 2,
            "learning_rate": 1e-4,
            "trainable": ("connector/.*", "encoder/.*", "llm/.*"),
            "scales": (("(connector|encoder)/.*", 5.0),),
        },
    ),
}


def papers_config(directory: Path, **changes: Any) -> TrainConfig:
    """The paper's recipe, with all of the tiny LLM fine-tuned."""
    tiny_config(directory)
    return tiny_config(directory, **copy.deepcopy(PAPER), router__llm__weights=f"dir:{directory / 'llm'}", **changes)
