import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.models.linear import Linear
from satjax.models.stack import REMAT_POLICIES, run_stack, stack_layers


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.linear = Linear(4, 4, bias=True, rngs=rngs)

    def __call__(self, x, scale):
        return x + jnp.tanh(self.linear(x)) * scale


def test_layers_differ_and_a_scan_equals_a_loop():
    stack = stack_layers(Layer, 3, nnx.Rngs(0))
    kernel, bias = stack.linear.kernel[...], stack.linear.bias[...]
    assert kernel.shape == (3, 4, 4)
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-3
    x = y = jnp.ones((2, 4))
    for i in range(3):
        y = y + jnp.tanh(y @ kernel[i] + bias[i]) * 0.5
    np.testing.assert_allclose(run_stack(stack, x, 0.5, path="llm/upper")[0], y, atol=1e-6)


@pytest.mark.parametrize("remat", list(REMAT_POLICIES))
def test_remat_changes_no_gradient(remat):
    graphdef, state = nnx.split(stack_layers(Layer, 3, nnx.Rngs(0)))

    def loss(state, remat):
        return jnp.sum(
            run_stack(nnx.merge(graphdef, state), jnp.ones((2, 4)), 0.5, path="llm/upper", remat=remat)[0] ** 2
        )

    plain, other = jax.grad(loss)(state, "none"), jax.grad(loss)(state, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, other)
