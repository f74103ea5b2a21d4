"""What HLO text says: how often each computation runs, also of a program compiled for the simulated devices, and which devices are a group."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.preflight.work import read_work
from satjax.sharding import make_mesh
from tests.test_work import TEXT


def test_a_loop_whose_count_nobody_knows_counts_once_and_is_said(caplog):
    unknown = TEXT.replace("s32[]{:T(128)} constant(5)", "s32[] parameter(1)")
    assert read_work(unknown).flops == read_work(TEXT).flops_once
    assert "how often the loop loop runs is unknown" in caplog.text


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
