"""Attention against a plain reference that builds the whole mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from satjax.models.attention import QUERY_BLOCK, suffix_attention, text_attention


def plain_attention(query, key, value, mask):
    """`[L, H, h]` queries against `[K, G, h]` keys under a boolean mask `[L, K]`."""
    repeat = query.shape[1] // key.shape[1]
    key, value = np.repeat(key, repeat, axis=1), np.repeat(value, repeat, axis=1)
    score = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(query.shape[-1])
    score = np.where(mask, score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weight, value)


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("num_tokens", [7, QUERY_BLOCK, 2 * QUERY_BLOCK + 5])
@pytest.mark.parametrize("causal", [True, False])
def test_text(causal, num_tokens):
    q, k, v = arrays(0, (2, num_tokens, 4, 8), (2, num_tokens, 2, 8), (2, num_tokens, 2, 8))
    length = np.array([num_tokens, num_tokens // 2])
    ours = np.asarray(text_attention(*map(jnp.asarray, (q, k, v, length)), causal=causal))
    for b, n in enumerate(length):
        mask = np.tril(np.ones((n, n), bool)) if causal else np.ones((n, n), bool)
        np.testing.assert_allclose(ours[b, :n], plain_attention(q[b, :n], k[b, :n], v[b, :n], mask), atol=1e-5)


def test_suffixes_share_a_text():
    q, k, v = arrays(1, (2, 3, 4, 4, 8), (2, 3, 4, 2, 8), (2, 3, 4, 2, 8))
    tk, tv = arrays(2, (2, 6, 2, 8), (2, 6, 2, 8))
    length = np.array([6, 2])
    ours = np.asarray(suffix_attention(*map(jnp.asarray, (q, k, v, tk, tv, length))))
    for b, n in enumerate(length):
        for m in range(3):
            mask = np.concatenate([np.ones((4, n), bool), np.tril(np.ones((4, 4), bool))], axis=1)
            keys, values = np.concatenate([tk[b, :n], k[b, m]]), np.concatenate([tv[b, :n], v[b, m]])
            np.testing.assert_allclose(ours[b, m], plain_attention(q[b, m], keys, values, mask), atol=1e-5)


def factors(jaxpr):
    """Dtypes of what every product of a program multiplies."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield [factor.aval.dtype.name for factor in equation.invars]
        for inner in jaxprs_in_params(equation.params):
            yield from factors(inner)


@pytest.mark.parametrize("which", ["text", "suffix"])
def test_gradients_of_bfloat16_are_close_and_made_of_bfloat16_products(which):
    if which == "text":
        given = arrays(4, (2, 9, 4, 8), (2, 9, 2, 8), (2, 9, 2, 8))
        attend = lambda *x: text_attention(*x, jnp.array([9, 4]), causal=True)  # noqa: E731
    else:
        given = arrays(4, (2, 3, 4, 4, 8), (2, 3, 4, 2, 8), (2, 3, 4, 2, 8), (2, 6, 2, 8), (2, 6, 2, 8))
        attend = lambda *x: suffix_attention(*x, jnp.array([6, 2]))  # noqa: E731
    gradients = jax.grad(lambda *x: jnp.sum(jnp.sin(attend(*x).astype(jnp.float32))), tuple(range(len(given))))
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in given]
    for ours, exact in zip(gradients(*narrow), gradients(*map(jnp.asarray, given)), strict=True):
        np.testing.assert_allclose(np.asarray(ours, np.float32), exact, atol=0.03 * float(np.abs(exact).max()))
    products = list(factors(jax.make_jaxpr(gradients)(*narrow).jaxpr))
    assert len(products) >= 6
    assert {dtype for pair in products for dtype in pair} == {"bfloat16"}


def test_large_scores_and_empty_rows_stay_finite():
    q, k, v = arrays(3, (1, 4, 2, 8), (1, 4, 2, 8), (1, 4, 2, 8))
    for length in (4, 0):
        out = text_attention(
            jnp.asarray(q * 1e3), jnp.asarray(k * 1e3), jnp.asarray(v), jnp.array([length]), causal=True
        )
        assert np.isfinite(np.asarray(out)).all()
