"""Kernels kept in bfloat16: packed, unpacked by the layer that uses them, and multiplied with float32 sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.models.decoder import Decoder, DecoderConfig
from satjax.models.narrow import PACKED, cpu_multiplies_bfloat16, narrowed, pack, packs, product, unpack


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4))
def test_packing_keeps_every_rounded_number(seed, rows, pairs):
    kernel = jnp.asarray(np.random.default_rng(seed).normal(size=(2, rows, 2 * pairs)), jnp.float32)
    packed = pack(kernel)
    assert packed.dtype == PACKED
    assert packed.shape == (2, rows, pairs)
    np.testing.assert_array_equal(unpack(packed), kernel.astype(jnp.bfloat16))


def test_sums_are_float32():
    x = jnp.ones((1, 4096), jnp.float32)
    kernel = jnp.full((4096, 2), 1.0, jnp.bfloat16).at[0].set(0.5)
    out = product(x, kernel)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, 4095.5)  # bfloat16 has nothing between 4096 and 4080


def test_a_wide_kernel_is_brought_to_the_states():
    x = jnp.ones((1, 2), jnp.bfloat16)
    assert product(x, jnp.ones((2, 2), jnp.float32)).dtype == jnp.bfloat16
    assert narrowed(x, jnp.ones((2, 2), jnp.float32)) is x


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("llm/upper/mlp/up/kernel", (3, 4, 6), True),
        ("llm/lower/attention/q/kernel", (3, 4, 6), True),
        ("llm/upper/mlp/up/kernel", (3, 4, 5), False),
        ("llm/upper/mlp/up/lora_a", (3, 4, 6), False),
        ("llm/head/kernel", (4, 6), False),
        ("encoder/layers/q/kernel", (3, 4, 6), False),
    ],
)
def test_what_is_packed(path, shape, expected):
    assert packs(path, shape) is expected


def test_an_llm_of_packed_kernels_is_the_same_but_for_rounding():
    graphdef, state = nnx.split(Decoder(DecoderConfig(50, 16, 3, 4, 2, 4, 32, join_layer=1), nnx.Rngs(0)))
    params = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    packed = {path: pack(v) if packs(f"llm/{path}", v.shape) else v for path, v in params.items()}
    assert sum(value.dtype == PACKED for value in packed.values()) == 14
    text, suffix = (
        jnp.asarray(np.random.default_rng(0).normal(size=s), jnp.float32) for s in ((2, 9, 16), (2, 3, 4, 16))
    )

    @jax.jit
    def run(params):
        flat = [(tuple(path.split("/")), nnx.Param(value)) for path, value in params.items()]
        return nnx.merge(graphdef, nnx.from_flat_state(flat))(text, jnp.array([9, 6]), suffix)

    wide, narrow = run(params), run(packed)
    assert narrow.suffix.dtype == narrow.text.dtype == jnp.float32
    error = np.linalg.norm(narrow.suffix - wide.suffix) / np.linalg.norm(wide.suffix)
    assert 1e-4 < error < 2e-2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16\n", True),
        ("processor : 0\nflags\t\t: fpu avx2\nbugs : avx512_bf16\n", False),
        ("", False),
    ],
)
def test_what_a_cpu_says(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_multiplies_bfloat16(tmp_path / "cpuinfo") is expected


def test_a_machine_that_says_nothing(tmp_path):
    assert not cpu_multiplies_bfloat16(tmp_path / "absent")
