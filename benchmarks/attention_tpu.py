"""python benchmarks/attention_tpu.py --out benchmarks/results/attention_tpu.json

Attention of a training step on TPU, by XLA and by the splash kernel: what `router.attention = "auto"` goes by (`satjax.assembly.SPLASH_FROM`).
Heads as of Phi-3.5 (32 of 96), 25 candidates of 4 tokens, forth and back through eight layers that are computed again in the backward pass, compiled
for v5e:2x2 without any TPU (libtpu). Least times of one layer on one chip, by the products at peak rate and by HBM traffic: a layer's attention
takes at least the longer of them. What a step takes as a whole is `satjax preflight --config configs/phi35.py --config.router.attention=splash`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from satjax.config import MeshConfig
from satjax.models.fused_attention import suffix_attention, text_attention
from satjax.preflight.chips import topology
from satjax.preflight.compile import compile_step, open_topology
from satjax.sharding import batch_sharding, make_mesh, on_mesh

LAYERS, HEADS, WIDTH, CANDIDATES, SUFFIX = 8, 32, 96, 25, 4


def figures(kernel: str, num_tokens: int, rows_per_chip: int) -> dict[str, Any]:
    where = topology("v5e:2x2")
    mesh = make_mesh(MeshConfig(), open_topology(where))

    def shape(*dims: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((where.num_chips * rows_per_chip, *dims), dtype, sharding=batch_sharding(mesh))

    def loss(query, key, value, own_query, own_key, own_value, length):
        @jax.checkpoint
        def layer(carry, _):
            text, own = carry
            read = suffix_attention(kernel, own, own_key, own_value, key, value, length)
            return (text_attention(kernel, text, key, value, length), read), None

        with on_mesh(mesh):
            (text, own), _ = jax.lax.scan(layer, (query, own_query), None, length=LAYERS)
        return jnp.sum(text, dtype=jnp.float32) + jnp.sum(own, dtype=jnp.float32)

    text, own = shape(num_tokens, HEADS, WIDTH), shape(CANDIDATES, SUFFIX, HEADS, WIDTH)
    arguments = (text, text, text, own, own, own, shape(dtype=jnp.int32))
    program = compile_step(jax.jit(jax.grad(loss, tuple(range(6)))).lower(*arguments), {})
    assert program.work is not None
    compute = program.work.flops / where.chip.flops / LAYERS
    hbm = program.work.hbm_bytes / where.chip.hbm_bandwidth / LAYERS
    return {
        "kernel": kernel,
        "tokens": num_tokens,
        "rows_per_chip": rows_per_chip,
        "compute_us": round(1e6 * compute, 1),
        "hbm_us": round(1e6 * hbm, 1),
        "least_us": round(1e6 * max(compute, hbm), 1),
        "activation_bytes": program.memory.activations,
        "compile_seconds": round(program.seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for num_tokens, rows_per_chip in ((512, 1), (768, 1), (1024, 1), (2048, 1), (768, 4)):
        for kernel in ("xla", "splash"):
            rows.append(figures(kernel, num_tokens, rows_per_chip))
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ", flush=True)
    if options.out:
        found = {"command": "python benchmarks/attention_tpu.py", "topology": "v5e:2x2", "rows": rows}
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
