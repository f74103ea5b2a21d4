"""What a compiled program does on one chip, read off its HLO text: products, bytes of memory, and collectives, as often as they run.

XLA's own cost analysis counts the body of a loop once, and a scan over layers is a loop.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from satjax.preflight.hlo import Instruction, Program, called, group, parameters, windows

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
FREE = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "iota",
    "after-all",
)

SPLASH = re.compile(r"splash_m[hq]a_(fwd|dq|dkv)")
PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 5}
"""Products over the queries, keys and head width in the kernels of splash attention, whose `dkv` here makes the queries' gradient too."""


@dataclass(frozen=True)
class Collective:
    """One collective: `size` is the bytes of its larger side on one chip, `count` how often a step runs it.

    `devices` is its first group, as positions in the mesh. `hidden` means that the compiler fused it with products that run meanwhile, or
    started it ahead; otherwise the chip waits. `source` is the JAX operation that it comes from.
    """

    kind: str
    size: int
    count: int
    devices: tuple[int, ...]
    hidden: bool
    shape: str
    source: str


@dataclass(frozen=True)
class Work:
    """What one chip does in one step: floating-point operations of products, bytes read from and written to HBM, collectives."""

    flops: float
    hbm_bytes: float
    collectives: tuple[Collective, ...]
    flops_once: float = field(compare=False)
    """As if every loop ran once: what XLA's cost analysis counts."""


def read_work(text: str) -> Work:
    """Reads `compiled.as_text()` of a program for TPU."""
    program = Program(text)
    flops = flops_once = hbm_bytes = 0.0
    exchanges = Exchanges()
    for name, (runs, in_fusion) in program.runs.items():
        for instruction in program.computations[name].values():
            count = product_flops(program, name, instruction)
            flops += runs * count
            flops_once += count
            if not in_fusion:
                hbm_bytes += runs * moved_bytes(program, name, instruction)
            if instruction.opcode.removesuffix("-start") in COLLECTIVES:
                exchanges.add(program, name, instruction, runs, in_fusion)
    return Work(flops, hbm_bytes + exchanges.hbm_bytes, tuple(exchanges.found.values()), flops_once)


class Exchanges:
    """Collectives as they are met: one that is spread over several fusions stands in each of them, with its channel and chain."""

    def __init__(self) -> None:
        self.found: dict[str, Collective] = {}
        self.beside: dict[str, int] = {}

    @property
    def hbm_bytes(self) -> float:
        """What those inside fusions move, which the fusions leave to them."""
        return sum(self.beside.values())

    def add(self, program: Program, computation: str, instruction: Instruction, runs: int, in_fusion: bool) -> None:
        """Notes one; of what stands in several fusions the largest counts."""
        starts, operands = instruction.opcode.endswith("-start"), program.operands(computation, instruction)
        channel = f"{computation}/{instruction.name}"
        if in_fusion:
            chain = re.search(r'chain_id="(\d+)"', instruction.attributes)
            channel = f"{instruction.attribute('channel_id', r'[0-9]+')}/{chain and chain[1]}"
            moved = runs * sum(buffer.size for buffer in (*instruction.buffers, *operands) if buffer.in_hbm)
            self.beside[channel] = min(moved, self.beside.get(channel, moved))
        size = max(instruction.size, sum(buffer.size for buffer in operands))
        if starts:
            size = max(buffer.size for buffer in instruction.buffers)
        if channel in self.found and size <= self.found[channel].size:
            return
        source = re.search(r'op_name="([^"]*)"', instruction.attributes)
        self.found[channel] = Collective(
            instruction.opcode.removesuffix("-start"),
            size,
            runs,
            group(instruction),
            in_fusion or starts,
            " ".join(f"{b.dtype}{list(b.dims)}".replace(" ", "") for b in instruction.buffers[:4]),
            source[1] if source else "",
        )


def product_flops(program: Program, computation: str, instruction: Instruction) -> float:
    """Two per multiplication and addition of a product; what is done element by element is not counted."""
    if instruction.opcode == "custom-call" and (kernel := SPLASH.match(instruction.name)):
        return PRODUCTS[kernel[1]] * splash_product(program, computation, instruction)
    if instruction.opcode not in ("convolution", "dot"):
        return 0.0
    left, right = program.operands(computation, instruction)[:2]
    (out,) = instruction.buffers
    if instruction.opcode == "dot":
        contracted = re.findall(r"\d+", instruction.attribute("lhs_contracting_dims", r"\{[\d,]*\}") or "")
        return 2.0 * math.prod(out.dims) * math.prod(left.dims[int(axis)] for axis in contracted)
    labels = instruction.attribute("dim_labels", r"[\w?]+_[\w?]+->[\w?]+")
    assert labels
    lhs, rhs, result = re.split(r"_|->", labels)
    axis = {
        side: dict(zip(names, dims, strict=True))
        for side, names, dims in (("l", lhs, left.dims), ("r", rhs, right.dims), ("o", result, out.dims))
    }
    positions = math.prod(
        _valid_positions(axis["l"][d], axis["r"][d], axis["o"][d], *window)
        for d, window in zip(sorted(set(rhs) - set("io")), windows(instruction), strict=False)
    )
    batch_groups = int(instruction.attribute("batch_group_count", r"\d+") or 1)
    return 2.0 * positions * axis["r"]["i"] * axis["r"]["o"] * axis["l"]["b"] / batch_groups


def splash_product(program: Program, computation: str, instruction: Instruction) -> float:
    """One of the products of a splash kernel, by the blocks of its mask: satjax's is causal where there are no segments, and elsewhere counts whole."""
    operands = program.operands(computation, instruction)
    query, key = [buffer for buffer in operands if buffer.dtype in ("f32", "bf16")][:2]
    blocks = operands[1].dims[-1]
    share = 1.0 if "segmented" in instruction.name else (blocks + 1) / (2 * blocks)
    return 2.0 * math.prod(query.dims) * key.dims[-2] * share


def moved_bytes(program: Program, computation: str, instruction: Instruction) -> float:
    """Operands and results that lie in HBM; of a stacked array that is read or written by slices, the slices.

    What a fusion hands on to a collective that runs beside it is the collective's.
    """
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done"):
        return 0.0
    if opcode == "custom-call" and "tpu_custom_call" not in instruction.attributes:
        return 0.0  # a mark for the compiler, no kernel
    sizes = [sum(b.size for b in buffers if b.in_hbm) for buffers in program.operand_buffers(computation, instruction)]
    if opcode == "fusion":
        inside = program.computations[called(instruction, "calls")]
        root = next(inner for inner in inside.values() if inner.is_root)
        results = root.operands if root.opcode == "tuple" else (root.name,)
        read = sum(_read(program, inside, parameters(inside, i), size) for i, size in enumerate(sizes) if size)
        pairs = zip(results, instruction.buffers, strict=False)
        return float(read + sum(_written(program, inside, name, b.size) for name, b in pairs if b.in_hbm))
    if opcode == "dynamic-update-slice":
        return 2.0 * sizes[1]
    if opcode == "dynamic-slice":
        return 2.0 * instruction.size
    written = 0 if opcode.endswith("-start") else sum(b.size for b in instruction.buffers if b.in_hbm)
    return float(sum(sizes) + written)


def _read(program: Program, inside: Mapping[str, Instruction], names: set[str], size: int) -> int:
    """Bytes that a fusion reads of its operand of `size` bytes, which it knows by these names."""
    total = 0
    for use in inside.values():
        if not names & set(use.operands):
            continue
        if use.opcode == "dynamic-slice":
            total += use.size
        elif use.opcode == "bitcast":
            total += _read(program, inside, {use.name}, size)
        elif use.opcode == "fusion":
            nested = program.computations[called(use, "calls")]
            places = [index for index, name in enumerate(use.operands) if name in names]
            total += sum(_read(program, nested, parameters(nested, index), size) for index in places)
        elif use.opcode == "tuple" or use.opcode in COLLECTIVES:
            continue
        elif not (use.opcode == "dynamic-update-slice" and use.operands[0] in names):
            return size
    return min(total, size)


def _written(program: Program, inside: Mapping[str, Instruction], name: str, size: int) -> int:
    """Bytes that a fusion writes of its result `name`, of `size` bytes: none of what it only hands on."""
    source = inside[name]
    while source.opcode == "bitcast" and source.operands[0] in inside:
        source = inside[source.operands[0]]
    if source.opcode == "parameter" or source.opcode in COLLECTIVES:
        return 0
    if source.opcode == "dynamic-update-slice":
        return inside[source.operands[1]].size if source.operands[1] in inside else size
    if source.opcode == "fusion":
        nested = program.computations[called(source, "calls")]
        root = next(inner for inner in nested.values() if inner.is_root)
        return size if root.opcode == "tuple" else _written(program, nested, root.name, size)
    return size


def _valid_positions(size: int, kernel: int, out: int, stride: int, pad: int, lhs_dilate: int, rhs_dilate: int) -> int:
    """Pairs of output and kernel position that meet an entry of the input, not padding and not a hole of its dilation."""
    position = np.arange(out)[:, None] * stride - pad + np.arange(kernel) * rhs_dilate
    return int(
        np.sum((position % lhs_dilate == 0) & (position >= 0) & (position < size * lhs_dilate - (lhs_dilate - 1)))
    )
