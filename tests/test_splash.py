"""The splash kernel, interpreted on CPU, against XLA's attention: values, gradients, and rows of no length."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.models import attention, splash
from satjax.models.splash import SuffixMask, block_of


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setattr(splash, "make_splash_mha", partial(splash.make_splash_mha, interpret=True))


def arrays(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def with_gradients(run, weight, *inputs):
    """Value, and the gradients of its sum under `weight`."""

    def loss(*inputs):
        out = run(*inputs).astype(jnp.float32)
        return jnp.sum(out * weight), out

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, tuple(range(len(inputs))), has_aux=True))(*inputs)
    return [out, *gradients]


def assert_near(ours, theirs, dtype):
    for mine, reference in zip(ours, theirs, strict=True):
        mine, reference = (np.asarray(x, np.float32) for x in (mine, reference))
        assert np.isfinite(mine).all()
        error = np.linalg.norm(mine - reference) / np.linalg.norm(reference)
        assert error < (1e-5 if dtype == "float32" else 1.5e-2)


@pytest.mark.parametrize(
    ("num_tokens", "heads", "groups", "width", "dtype"),
    [(70, 4, 2, 64, "float32"), (600, 3, 1, 96, "bfloat16")],
)
def test_texts(num_tokens, heads, groups, width, dtype):
    """Of one block and of several, padded and whole, grouped and not."""
    q, k, v = arrays(dtype, *((2, num_tokens, n, width) for n in (heads, groups, groups)))
    length = jnp.array([num_tokens, num_tokens // 3])
    weight = (np.arange(num_tokens) < length[:, None])[..., None, None] * arrays("float32", q.shape)[0]
    ours = with_gradients(splash.causal_attention, weight, q, k, v)
    theirs = with_gradients(lambda *x: attention.text_attention(*x, length, causal=True), weight, q, k, v)
    seen = np.asarray(weight != 0)
    assert_near([ours[0] * seen, *ours[1:]], [theirs[0] * seen, *theirs[1:]], dtype)


@pytest.mark.parametrize(
    ("num_text", "num_sets", "num_suffix", "heads", "groups", "dtype"),
    [(70, 5, 4, 2, 2, "bfloat16"), (300, 130, 5, 2, 1, "float32")],
)
def test_suffixes(num_text, num_sets, num_suffix, heads, groups, dtype):
    """The last with several blocks of queries, that cut through suffixes; the third row has no text."""
    own = ((3, num_sets, num_suffix, n, 32) for n in (heads, groups, groups))
    inputs = arrays(dtype, *own, (3, num_text, groups, 32), (3, num_text, groups, 32))
    length = jnp.array([num_text, num_text // 3, 0])
    (weight,) = arrays("float32", inputs[0].shape)
    ours = with_gradients(lambda *x: splash.suffix_attention(*x, length), weight, *inputs)
    theirs = with_gradients(lambda *x: attention.suffix_attention(*x, length), weight, *inputs)
    assert_near(ours, theirs, dtype)


@pytest.mark.parametrize(
    ("num_tokens", "block", "length"),
    [(1, 128, 128), (192, 256, 256), (512, 512, 512), (768, 384, 768), (1100, 384, 1152)],
)
def test_blocks_are_few_and_little_longer_than_what_they_hold(num_tokens, block, length):
    assert block_of(num_tokens) == (block, length)


def test_whole_blocks_stay_as_they_are():
    for num_tokens in range(1, 5000):
        block, length = block_of(num_tokens)
        assert num_tokens <= length < num_tokens + 128 * length // block
        assert block_of(length) == (block, length)


def test_a_suffix_sees_the_text_and_itself():
    mask = SuffixMask(6, 12, 3, 2)
    expected = np.zeros((6, 12), bool)
    expected[:, :3] = True
    for query in range(6):
        expected[query, 3 + query // 2 * 2 : 3 + query + 1] = True
    np.testing.assert_array_equal(mask[:, :], expected)
    np.testing.assert_array_equal(mask[2:4, 4:9], expected[2:4, 4:9])
