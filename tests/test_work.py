"""What a step does on one chip, of a text that shows every form once: products, bytes of memory, and collectives."""

import pytest

from satjax.preflight.work import read_work

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
