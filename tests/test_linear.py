import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.models.linear import LayerNorm, Linear, RMSNorm


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_adds_its_product():
    layer = Linear(6, 4, bias=True, lora_rank=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    plain = x @ layer.kernel[...] + layer.bias[...]
    np.testing.assert_array_equal(layer(x), plain)
    layer.lora_b[...] = jnp.ones((2, 4))
    np.testing.assert_allclose(layer(x), plain + x @ layer.lora_a[...] @ jnp.ones((2, 4)) * 2, atol=1e-5)
    np.testing.assert_array_equal(layer(x, adapted=False), plain)


def test_the_dtype_is_that_of_the_input():
    for layer in (Linear(4, 4, lora_rank=1, rngs=nnx.Rngs(0)), RMSNorm(4, 1e-5), LayerNorm(4, 1e-5)):
        assert layer(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.bfloat16


def test_normalizations_by_hand():
    x = jnp.array([[3.0, 4.0]])
    np.testing.assert_allclose(RMSNorm(2, 0.0)(x), np.array([[3, 4]]) / np.sqrt(12.5), rtol=1e-6)
    np.testing.assert_allclose(LayerNorm(2, 0.0)(x), [[-1, 1]], rtol=1e-6)
