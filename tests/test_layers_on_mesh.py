"""What the partitioner makes of the decoder on a mesh: layers exchange weights, and never a batch of activations."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from satjax.config import MeshConfig
from satjax.models.decoder import Decoder, DecoderConfig
from satjax.preflight.work import read_work
from satjax.sharding import batch_sharding, looked_up, make_mesh, on_mesh, param_shardings

CONFIG = DecoderConfig(64, 32, 3, 4, 4, 8, 96, tied_head=False)
BATCH, LENGTH, CANDIDATES = 16, 24, 2
PARAMS = 4 * 32 * 32 + 3 * 32 * 96


def compiled(mesh, remat):
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(CONFIG, nnx.Rngs(0))))
    shapes = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    shardings = param_shardings({f"llm/{path}": leaf for path, leaf in shapes.items()}, mesh)

    def loss(params, token, length, suffix):
        with on_mesh(mesh):
            flat = [(tuple(path.split("/")), nnx.Param(value)) for path, value in params.items()]
            llm = nnx.merge(graphdef, nnx.from_flat_state(flat))
            states = llm(looked_up(llm.embed(token)), length, suffix, remat=remat)
            return jnp.sum(states.suffix[:, :, -1] ** 2)

    def shape(dims, dtype, sharding):
        return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)

    params = {path: shape(leaf.shape, jnp.float32, shardings[f"llm/{path}"]) for path, leaf in shapes.items()}
    rows = batch_sharding(mesh)
    lowered = jax.jit(jax.grad(loss), out_shardings={path: leaf.sharding for path, leaf in params.items()}).lower(
        params,
        shape((BATCH, LENGTH), jnp.int32, rows),
        shape((BATCH,), jnp.int32, rows),
        shape((BATCH, CANDIDATES, 2, 32), jnp.float32, rows),
    )
    return lowered.compile()


def test_layers_move_weights_and_never_a_batch():
    program = compiled(make_mesh(MeshConfig(2, 4, 1), jax.devices()[:8]), "none")
    work = read_work(program.as_text())
    inside = [c for c in work.collectives if c.count > 1]
    assert all(c.count == CONFIG.num_layers for c in inside)

    def moved(kind):
        return sum(c.size for c in inside if c.kind == kind)

    # Weights are gathered once in the forward pass and once in the backward one; gradients are scattered once, and what is left of them, and the
    # norms', is summed over the other axis.
    assert moved("all-gather") == 2 * 4 * PARAMS
    assert moved("reduce-scatter") == 4 * PARAMS
    assert moved("all-reduce") == 4 * PARAMS // 4 + 2 * 4 * 32
    assert max(c.size for c in work.collectives if c.count == 1) <= 2 * 4 * BATCH * LENGTH * 32
    # Products are cut into eighths, and none is computed twice.
    tokens = BATCH * (LENGTH + CANDIDATES * 2)
    assert work.flops * 8 == pytest.approx(3 * 2 * CONFIG.num_layers * PARAMS * tokens, rel=0.25)
    # What was gathered is not kept for the backward pass.
    assert f"f32[{CONFIG.num_layers},32,96]" not in program.as_text()
