"""One attention by several kernels: cuDNN's call by its other implementation, and as CUDA would get it; splash within layers on a mesh."""

import dataclasses
import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.config import MeshConfig
from satjax.models import splash
from satjax.models.decoder import Decoder, DecoderConfig
from satjax.models.fused_attention import suffix_attention, text_attention
from satjax.preflight.chips import topology
from satjax.preflight.compile import open_topology
from satjax.preflight.work import read_work
from satjax.sharding import batch_sharding, make_mesh, on_mesh, param_shardings
from tests.conftest import need

CONFIG = DecoderConfig(50, 16, 2, 4, 2, 4, 32)


def texts(dtype):
    """Queries, keys and values of three texts of 37 tokens, their lengths, one of which is 0, and weights that are 0 at padding."""
    rng = np.random.default_rng(0)
    q, k, v, weight = (jnp.asarray(rng.normal(size=(3, 37, n, 16)), dtype) for n in (4, 2, 2, 4))
    length = jnp.array([37, 20, 0])
    return q, k, v, length, weight * (np.arange(37) < length[:, None])[..., None, None]


@pytest.fixture
def cudnn_by_xla(monkeypatch):
    """What cuDNN is asked for, computed by XLA."""
    other = jax.nn.dot_product_attention
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *x, **options: other(*x, **options | {"implementation": "xla"})
    )


def test_cudnn_s_call_means_what_xla_computes(cudnn_by_xla):
    q, k, v, length, weight = texts("float32")

    def loss(kernel, q, k, v):
        out = text_attention(kernel, q, k, v, length)
        return jnp.sum(out * weight), out * (weight != 0)

    ours, theirs = (
        jax.jit(jax.value_and_grad(partial(loss, kernel), (0, 1, 2), has_aux=True))(q, k, v)
        for kernel in ("cudnn", "xla")
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), ours, theirs)


def suffixes(sets, tokens, text, dtype="float32"):
    """Queries, keys and values of suffixes, and keys and values of two texts, of which the second is short."""
    rng = np.random.default_rng(2)
    shapes = [(2, sets, tokens, heads, 8) for heads in (4, 2, 2)] + 2 * [(2, text, 2, 8)]
    return *(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes), jnp.array([text, text // 3])


@pytest.mark.parametrize(("sets", "tokens", "text"), [(5, 4, 12), (5, 3, 12), (5, 3, 13), (2, 4, 13), (1, 1, 1)])
def test_cudnn_s_call_for_suffixes_means_what_xla_computes(sets, tokens, text, cudnn_by_xla):
    *arrays, length = suffixes(sets, tokens, text)

    def loss(kernel, *arrays):
        out = suffix_attention(kernel, *arrays, length)
        return jnp.sum(jnp.sin(out)), out

    ours, theirs = (
        jax.jit(jax.value_and_grad(partial(loss, kernel), (0, 1, 2, 3, 4), has_aux=True))(*arrays)
        for kernel in ("cudnn", "xla")
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("mesh", [None, MeshConfig(2, 2, 2)], ids=["alone", "on a mesh"])
def test_on_cuda_suffixes_are_cudnn_s_both_ways(mesh, monkeypatch):
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    mesh = mesh and make_mesh(mesh)
    *arrays, length = (jnp.concatenate([x, x]) for x in suffixes(5, 3, 12, "bfloat16"))

    def loss(*arrays):
        with on_mesh(mesh):
            return jnp.sum(suffix_attention("cudnn", *arrays, length), dtype=jnp.float32)

    text = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4))).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaScaleBiasSoftmax(" in text
    assert "__cudnn$fmhaScaleBiasSoftmaxBackward(" in text


@pytest.mark.parametrize("mesh", [None, MeshConfig(2, 2, 2)], ids=["alone", "on a mesh"])
def test_on_cuda_texts_are_cudnn_s_both_ways(mesh, monkeypatch):
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    mesh = mesh and make_mesh(mesh)
    q, k, v, length, _ = (jnp.concatenate([x, x[:1]]) for x in texts("bfloat16"))

    def loss(q, k, v):
        with on_mesh(mesh):
            return jnp.sum(text_attention("cudnn", q, k, v, length), dtype=jnp.float32)

    text = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, k, v).lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaSoftmax(" in text
    assert "__cudnn$fmhaSoftmaxBackward(" in text


def states_and_gradients(kernel, mesh=None):
    """Of a small decoder ; on a mesh, with its parameters cut."""
    graphdef, state = nnx.split(Decoder(dataclasses.replace(CONFIG, attention=kernel), nnx.Rngs(0)))
    params = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    rng = np.random.default_rng(1)
    inputs = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 9, 16), (4, 3, 2, 16))]
    length = jnp.array([9, 5, 1, 0])
    if mesh is not None:
        shardings = param_shardings({f"llm/{path}": leaf for path, leaf in params.items()}, mesh)
        params = {path: jax.device_put(leaf, shardings[f"llm/{path}"]) for path, leaf in params.items()}
        *inputs, length = (jax.device_put(x, batch_sharding(mesh)) for x in (*inputs, length))

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def run(params):
        with on_mesh(mesh):
            flat = [(tuple(path.split("/")), nnx.Param(value)) for path, value in params.items()]
            states = nnx.merge(graphdef, nnx.from_flat_state(flat))(inputs[0], length, inputs[1], remat="full")
            return jnp.sum(states.suffix**2), states.suffix

    return run(params)


def test_splash_in_layers_on_a_mesh_is_xla_s_on_one_device(monkeypatch):
    monkeypatch.setattr(splash, "make_splash_mha", partial(splash.make_splash_mha, interpret=True))
    ours = states_and_gradients("splash", make_mesh(MeshConfig(2, 2, 2)))
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-4), ours, states_and_gradients("xla"))


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [MeshConfig(2, 2, 1), MeshConfig(1, 2, 2)], ids=["rows", "heads"])
def test_splash_compiles_for_tpus(mesh):
    """Widths of Phi-3.5: one text of several blocks, and suffixes, with the products that the causal mask leaves."""
    need(
        importlib.util.find_spec("libtpu") is not None,
        "libtpu is not installed: pip install -e '.[preflight]' in the checkout",
    )
    mesh = make_mesh(mesh, open_topology(topology("v5e:2x2")))
    rows = batch_sharding(mesh)

    def shape(*dims, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(dims, dtype, sharding=rows)

    def loss(q, k, v, own_q, own_k, own_v, length):
        with on_mesh(mesh):
            text = text_attention("splash", q, k, v, length)
            own = suffix_attention("splash", own_q, own_k, own_v, k, v, length)
            return jnp.sum(text, dtype=jnp.float32) + jnp.sum(own, dtype=jnp.float32)

    text, own = shape(4, 768, 4, 96), shape(4, 25, 4, 4, 96)
    arguments = (text, text, text, own, own, own, shape(4, dtype=jnp.int32))
    compiled = jax.jit(jax.grad(loss, tuple(range(6)))).lower(*arguments).compile()
    work = read_work(compiled.as_text())
    # Two products forth and five back, of three of the text's four blocks, and of 128 queries on 1,024 keys.
    assert work.flops * 4 == 7 * 2 * 4 * 4 * 96 * (3 * 384**2 + 128 * 1024)
    assert not [c for c in work.collectives if c.size > 2**10]


@pytest.mark.parametrize(("sets", "fused"), [(5, True), (20, False)])
def test_many_suffixes_of_a_short_text_are_left_to_xla(sets, fused, monkeypatch):
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    arrays = suffixes(sets, 3, 4, "bfloat16")
    text = jax.jit(partial(suffix_attention, "cudnn")).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert ("__cudnn$fmha" in text) == fused
