"""What is read off HLO text: a text that shows every form once, and programs compiled for the simulated devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.preflight.work import read_work
from satjax.sharding import make_mesh

TEXT = """HloModule step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%inside (p0: bf16[8,64,32], p1: bf16[16,64]) -> bf16[16,32] {
  %p0 = bf16[8,64,32]{2,1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %i = s32[] constant(0)
  %w = bf16[1,64,32]{2,1,0} dynamic-slice(%p0, %i, %i, %i), dynamic_slice_sizes={1,64,32}
  %k = bf16[64,32]{1,0} bitcast(%w)
  ROOT %c = bf16[16,32]{1,0} convolution(%p1, %k), dim_labels=bf_io->bf
}

%piece (q0: bf16[4,32]) -> bf16[16,32] {
  %q0 = bf16[4,32]{1,0:S(1)} parameter(0)
  ROOT %all-gather.2 = bf16[16,32]{1,0:S(1)} all-gather(%q0), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}, metadata={op_name="jit(step)/layer"}
}

%piece.clone (q0: bf16[4,32]) -> bf16[16,32] {
  %q0 = bf16[4,32]{1,0:S(1)} parameter(0)
  ROOT %all-gather.3 = bf16[16,32]{1,0:S(1)} all-gather(%q0), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}, metadata={op_name="jit(step)/layer"}
}

%condition (state: (s32[], bf16[16,64])) -> pred[] {
  %bound = s32[]{:T(128)} constant(5)
  %state = (s32[], bf16[16,64]) parameter(0)
  %step = s32[] get-tuple-element(%state), index=0
  ROOT %less = pred[] compare(%step, %bound), direction=LT
}

%body (state: (s32[], bf16[16,64])) -> (s32[], bf16[16,64]) {
  %state = (s32[], bf16[16,64]{1,0}) parameter(0)
  %weights = bf16[8,64,32]{2,1,0:T(8,128)(2,1)} parameter(1)
  %x = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%state), index=1
  %product = bf16[16,32]{1,0:T(8,128)(2,1)} fusion(%weights, %x), kind=kOutput, calls=%inside
  %part = bf16[4,32]{1,0:S(1)} get-tuple-element(%state), index=2
  %fused.1 = bf16[16,32]{1,0:S(1)} fusion(%part), kind=kCustom, calls=%piece
  %fused.2 = bf16[16,32]{1,0:S(1)} fusion(%part), kind=kCustom, calls=%piece.clone
  %all-reduce.1 = f32[128]{0:S(1)} all-reduce(%part), channel_id=9, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add
  ROOT %next = (s32[], bf16[16,64]) tuple(%state, %x)
}

ENTRY %main (a: (s32[], bf16[16,64])) -> (s32[], bf16[16,64]) {
  %a = (s32[], bf16[16,64]{1,0}) parameter(0)
  %shard = f32[2,8]{1,0:S(1)} parameter(1)
  %start = (f32[2,8]{1,0:S(1)}, f32[8,8]{1,0:S(1)}) all-gather-start(%shard), channel_id=11, replica_groups={{0,2},{1,3}}, dimensions={0}
  %done = f32[8,8]{1,0:S(1)} all-gather-done(%start)
  ROOT %loop = (s32[], bf16[16,64]) while(%a), condition=%condition, body=%body
}
"""


def test_loops_fusions_and_channels():
    work = read_work(TEXT)
    assert work.flops_once == 2 * 16 * 64 * 32
    assert work.flops == 5 * work.flops_once
    found = {c.kind: c for c in work.collectives if c.count == 5}
    gather, reduced = found["all-gather"], found["all-reduce"]
    assert (gather.size, gather.devices, gather.hidden, gather.source) == (1024, (0, 1, 2, 3), True, "jit(step)/layer")
    assert (reduced.size, reduced.devices, reduced.hidden) == (512, (0, 2, 4, 6), False)
    (ahead,) = (c for c in work.collectives if c.count == 1)
    assert (ahead.kind, ahead.size, ahead.devices, ahead.hidden) == ("all-gather", 256, (0, 2), True)


def test_a_loop_whose_count_nobody_knows_counts_once_and_is_said(caplog):
    unknown = TEXT.replace("s32[]{:T(128)} constant(5)", "s32[] parameter(1)")
    assert read_work(unknown).flops == read_work(TEXT).flops_once
    assert "how often the loop loop runs is unknown" in caplog.text


def test_a_stacked_array_counts_by_slice_and_vector_memory_does_not_count():
    work = read_work(TEXT)
    assert work.hbm_bytes == 5 * (64 * 32 * 2 + 16 * 32 * 2)


@pytest.mark.parametrize(
    ("line", "flops"),
    [
        # A batch of 6 products [4, 8] x [8, 5], as TPU programs write it: the batch is a dilated window that meets itself only.
        (
            "%c = f32[6,4,5]{2,1,0} convolution(%l, %r), window={size=6 stride=5 lhs_dilate=6}, dim_labels=0bf_0io->0bf",
            2 * 6 * 4 * 8 * 5,
        ),
        (
            "%c = f32[6,4,5]{2,1,0} convolution(%l, %r), window={size=6 pad=5_0}, dim_labels=0bf_0io->0bf",
            2 * 21 * 4 * 8 * 5,
        ),
    ],
)
def test_only_the_positions_of_a_window_that_meet_the_input_count(line, flops):
    text = f"ENTRY %main (l: f32[6,4,8], r: f32[6,8,5]) -> f32[6,4,5] {{\n  %l = f32[6,4,8]{{2,1,0}} parameter(0)\n  %r = f32[6,8,5]{{2,1,0}} parameter(1)\n  ROOT {line}\n}}\n"
    assert read_work(text).flops == flops


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("mesh['a'=2,'b'=3] {'a'}", (0, 3)),
        ("mesh['a'=1,'b'=3,'c'=2], device_ids=([2,3]T(1,0)) {'b'}", (0, 1, 2)),
        ("mesh['a'=6,'b'=1] {'a','b'}", (0, 1, 2, 3, 4, 5)),
        ("[3,2]<=[6]", (0, 1)),
        ("[3,2]<=[2,3]T(1,0)", (0, 3)),
        ("{{0,4},{1,5}}", (0, 4)),
    ],
)
def test_groups_of_devices_in_every_notation(groups, devices):
    text = f"ENTRY %main (x: f32[8]) -> f32[8] {{\n  %x = f32[8]{{0}} parameter(0)\n  ROOT %r = f32[8]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, use_global_device_ids=true\n}}\n"
    assert read_work(text).collectives[0].devices == devices


def test_a_compiled_scan_counts_every_layer():
    mesh = make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8])

    def run(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    def place(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    compiled = jax.jit(run).lower(place((16, 64), "fsdp"), place((7, 64, 64), None, "fsdp")).compile()
    work = read_work(compiled.as_text())
    assert work.flops == 7 * work.flops_once
    assert work.flops * 8 == pytest.approx(7 * 2 * 16 * 64 * 64)
    assert any(c.count == 7 and len(c.devices) == 8 for c in work.collectives)


SPLASH = """ENTRY %main (q: bf16[4,2,256,64]) -> bf16[4,2,256,64] {
  %q = bf16[4,2,256,64]{3,2,1,0} parameter(0)
  %k = bf16[4,1,512,64]{3,2,1,0:S(1)} parameter(1)
  %blocks = s8[1,2,2]{2,1,0:S(1)} parameter(2)
  %splash_mha_fwd_residuals.3 = (bf16[4,2,256,64]{3,2,1,0}, f32[4,2,256,128]{3,2,1,0}) custom-call(%blocks, %blocks, %q, %q, %q), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 128}"
}}, metadata={op_name="jit(step)/splash_mha_fwd_residuals"}
  ROOT %splash_mha_dkv_segmented_no_residuals = bf16[4,2,256,64]{3,2,1,0} custom-call(%blocks, %blocks, %q, %k, %k), custom_call_target="tpu_custom_call"
}
"""


def test_products_of_splash_kernels_are_those_of_the_blocks_that_they_visit():
    """Three of four where the mask is causal; all, of all keys, where suffixes read a text."""
    square, query = 2 * 4 * 2 * 64 * 256 * 256, 4 * 2 * 256 * 64 * 2
    work = read_work(SPLASH)
    assert work.flops == 2 * square * 3 / 4 + 5 * 2 * square
    assert work.hbm_bytes == 4 * query + 4 * 2 * 256 * 128 * 4 + 2 * query
