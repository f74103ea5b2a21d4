"""What a compiled program does, read off its HLO text: products, bytes of memory, and collectives, with the loops they stand in.

XLA's own cost analysis counts the body of a loop once, and a scan over layers is a loop; here every operation counts as often as it runs.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
BITS = {"pred": 8, "token": 0, "opaque": 0}
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
class Buffer:
    """One array of a type: dtype, dimensions, and whether it lies in HBM."""

    dtype: str
    dims: tuple[int, ...]
    in_hbm: bool

    @property
    def size(self) -> int:
        """Bytes."""
        bits = BITS[self.dtype] if self.dtype in BITS else int(re.findall(r"\d+", self.dtype)[0])
        return math.prod(self.dims) * bits // 8


@dataclass(frozen=True)
class Instruction:
    """`name = type opcode(operands), attributes`."""

    name: str
    buffers: tuple[Buffer, ...]
    opcode: str
    operands: tuple[str, ...]
    argument: str
    attributes: str
    is_root: bool

    def attribute(self, name: str, pattern: str = r"[^,\s]+") -> str | None:
        """The value of `name=…`, if it is there."""
        found = re.search(rf"(?:^|[\s,]){name}=({pattern})", self.attributes)
        return found[1] if found else None

    @property
    def size(self) -> int:
        """Bytes of the result, in whatever memory."""
        return sum(buffer.size for buffer in self.buffers)


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
    return _Module(text).work()


class _Module:
    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if line.startswith(("%", "ENTRY ")) and line.endswith("{"):
                name = re.match(r"(?:ENTRY )?%([^\s(]+)", line)
                assert name
                current = self.computations[name[1]] = {}
                if line.startswith("ENTRY"):
                    self.entry = name[1]
            elif line.startswith("  ") and (instruction := _instruction(line)):
                current[instruction.name] = instruction

    def work(self) -> Work:
        flops = flops_once = hbm_bytes = 0.0
        found: dict[str, Collective] = {}
        beside: dict[str, int] = {}
        for name, (runs, in_fusion) in self.runs.items():
            for instruction in self.computations[name].values():
                count = self.flops(name, instruction)
                flops += runs * count
                flops_once += count
                if not in_fusion:
                    hbm_bytes += runs * self.hbm_bytes(name, instruction)
                if (kind := instruction.opcode.removesuffix("-start")) in COLLECTIVES:
                    # A collective that is spread over several fusions stands in each of them, with its channel and chain.
                    channel = f"{name}/{instruction.name}"
                    if in_fusion:
                        chain = re.search(r'chain_id="(\d+)"', instruction.attributes)
                        channel = f"{instruction.attribute('channel_id', r'[0-9]+')}/{chain and chain[1]}"
                    hidden = in_fusion or instruction.opcode.endswith("-start")
                    size = max(instruction.size, sum(b.size for b in self.operands(name, instruction)))
                    if instruction.opcode.endswith("-start"):
                        size = max(b.size for b in instruction.buffers)
                    known = found.get(channel)
                    if in_fusion:
                        both = (*instruction.buffers, *self.operands(name, instruction))
                        moved = runs * sum(buffer.size for buffer in both if buffer.in_hbm)
                        beside[channel] = min(moved, beside.get(channel, moved))
                    if known is None or size > known.size:
                        source = re.search(r'op_name="([^"]*)"', instruction.attributes)
                        found[channel] = Collective(
                            kind,
                            size,
                            runs,
                            _group(instruction),
                            hidden,
                            " ".join(f"{b.dtype}{list(b.dims)}".replace(" ", "") for b in instruction.buffers[:4]),
                            source[1] if source else "",
                        )
        return Work(flops, hbm_bytes + sum(beside.values()), tuple(found.values()), flops_once)

    @cached_property
    def runs(self) -> Mapping[str, tuple[int, bool]]:
        """How often a step runs each computation that it reaches, and whether that is inside a fusion."""
        runs: dict[str, tuple[int, bool]] = {}

        def visit(name: str, times: int, in_fusion: bool) -> None:
            before, _ = runs.get(name, (0, False))
            runs[name] = (before + times, in_fusion)
            for instruction in self.computations[name].values():
                if instruction.opcode == "while":
                    body, condition = (_called(instruction, key) for key in ("body", "condition"))
                    visit(body, times * self.trips(instruction, condition), in_fusion)
                elif called := _called(instruction, "calls"):
                    visit(called, times, in_fusion or instruction.opcode == "fusion")
                elif instruction.opcode == "call":
                    visit(_called(instruction, "to_apply"), times, in_fusion)

        visit(self.entry, 1, False)
        return runs

    def trips(self, loop: Instruction, condition: str) -> int:
        """Trip count: what XLA noted, or the constant that the loop's counter, which starts at 0 and goes up by 1, is compared with."""
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        bounds = [
            int(instruction.argument)
            for instruction in self.computations[condition].values()
            if instruction.opcode == "constant" and instruction.argument.isdigit()
        ]
        return max(bounds, default=1)

    def operand_buffers(self, computation: str, instruction: Instruction) -> list[tuple[Buffer, ...]]:
        scope = self.computations[computation]
        return [scope[name].buffers if name in scope else () for name in instruction.operands]

    def operands(self, computation: str, instruction: Instruction) -> list[Buffer]:
        return [buffer for buffers in self.operand_buffers(computation, instruction) for buffer in buffers]

    def flops(self, computation: str, instruction: Instruction) -> float:
        """Two per multiplication and addition of a product; what is done element by element is not counted."""
        if instruction.opcode == "custom-call" and (kernel := SPLASH.match(instruction.name)):
            return PRODUCTS[kernel[1]] * self.splash_product(computation, instruction)
        if instruction.opcode not in ("convolution", "dot"):
            return 0.0
        left, right = self.operands(computation, instruction)[:2]
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
            for d, window in zip(sorted(set(rhs) - set("io")), _windows(instruction), strict=False)
        )
        batch_groups = int(instruction.attribute("batch_group_count", r"\d+") or 1)
        return 2.0 * positions * axis["r"]["i"] * axis["r"]["o"] * axis["l"]["b"] / batch_groups

    def splash_product(self, computation: str, instruction: Instruction) -> float:
        """One of the products of a splash kernel, by the blocks of its mask: satjax's is causal where there are no segments, and elsewhere counts whole."""
        operands = self.operands(computation, instruction)
        query, key = [buffer for buffer in operands if buffer.dtype in ("f32", "bf16")][:2]
        blocks = operands[1].dims[-1]
        share = 1.0 if "segmented" in instruction.name else (blocks + 1) / (2 * blocks)
        return 2.0 * math.prod(query.dims) * key.dims[-2] * share

    def hbm_bytes(self, computation: str, instruction: Instruction) -> float:
        """Operands and results that lie in HBM; of a stacked array that is read or written by slices, the slices.

        What a fusion hands on to a collective that runs beside it is the collective's.
        """
        opcode = instruction.opcode
        if opcode in FREE or opcode.endswith("-done"):
            return 0.0
        if opcode == "custom-call" and "tpu_custom_call" not in instruction.attributes:
            return 0.0  # a mark for the compiler, no kernel
        sizes = [sum(b.size for b in buffers if b.in_hbm) for buffers in self.operand_buffers(computation, instruction)]
        if opcode == "fusion":
            inside = self.computations[_called(instruction, "calls")]
            root = next(inner for inner in inside.values() if inner.is_root)
            results = root.operands if root.opcode == "tuple" else (root.name,)
            read = sum(self.read(inside, _parameters(inside, i), size) for i, size in enumerate(sizes) if size)
            pairs = zip(results, instruction.buffers, strict=False)
            return float(read + sum(self.written(inside, name, b.size) for name, b in pairs if b.in_hbm))
        if opcode == "dynamic-update-slice":
            return 2.0 * sizes[1]
        if opcode == "dynamic-slice":
            return 2.0 * instruction.size
        written = 0 if opcode.endswith("-start") else sum(b.size for b in instruction.buffers if b.in_hbm)
        return float(sum(sizes) + written)

    def read(self, inside: Mapping[str, Instruction], names: set[str], size: int) -> int:
        """Bytes that a fusion reads of its operand of `size` bytes, which it knows by these names."""
        total = 0
        for use in inside.values():
            if not names & set(use.operands):
                continue
            if use.opcode == "dynamic-slice":
                total += use.size
            elif use.opcode == "bitcast":
                total += self.read(inside, {use.name}, size)
            elif use.opcode == "fusion":
                nested = self.computations[_called(use, "calls")]
                places = [index for index, name in enumerate(use.operands) if name in names]
                total += sum(self.read(nested, _parameters(nested, index), size) for index in places)
            elif use.opcode == "tuple" or use.opcode in COLLECTIVES:
                continue
            elif not (use.opcode == "dynamic-update-slice" and use.operands[0] in names):
                return size
        return min(total, size)

    def written(self, inside: Mapping[str, Instruction], name: str, size: int) -> int:
        """Bytes that a fusion writes of its result `name`, of `size` bytes: none of what it only hands on."""
        source = inside[name]
        while source.opcode == "bitcast" and source.operands[0] in inside:
            source = inside[source.operands[0]]
        if source.opcode == "parameter" or source.opcode in COLLECTIVES:
            return 0
        if source.opcode == "dynamic-update-slice":
            return inside[source.operands[1]].size if source.operands[1] in inside else size
        if source.opcode == "fusion":
            nested = self.computations[_called(source, "calls")]
            root = next(inner for inner in nested.values() if inner.is_root)
            return size if root.opcode == "tuple" else self.written(nested, root.name, size)
        return size


def _parameters(inside: Mapping[str, Instruction], index: int) -> set[str]:
    """What a fusion calls its operand number `index`."""
    return {i.name for i in inside.values() if i.opcode == "parameter" and i.argument == str(index)}


def _called(instruction: Instruction, key: str) -> str:
    """The computation that an attribute names, or nothing."""
    return (instruction.attribute(key, r"%[^,\s]+") or "%")[1:]


def _instruction(line: str) -> Instruction | None:
    head = re.match(r"\s+(ROOT )?%(\S+) = ", line)
    if not head:
        return None
    rest = line[head.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode = re.match(r"([\w-]+)\(", rest)
    if not opcode:
        return None
    close = _closing(rest, opcode.end() - 1)
    argument = rest[opcode.end() : close]
    return Instruction(
        head[2],
        tuple(_buffers(kind)),
        opcode[1],
        tuple(re.findall(r"%([^\s,)]+)", argument)),
        argument,
        rest[close + 1 :],
        bool(head[1]),
    )


def _closing(text: str, start: int) -> int:
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"no closing parenthesis in {text[:80]!r}")


def _buffers(kind: str) -> Iterator[Buffer]:
    for dtype, dims, layout in re.findall(r"([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?", kind):
        # A layout names the memory that a buffer lies in, S(1) the vector memory on the chip; HBM goes without saying.
        yield Buffer(dtype, tuple(int(dim) for dim in dims.split(",") if dim), "S(" not in layout)


def _windows(instruction: Instruction) -> list[tuple[int, int, int, int]]:
    """Stride, padding below, and dilation of both sides, for each spatial dimension."""
    window = instruction.attribute("window", r"\{[^}]*\}") or "{}"
    values = dict(re.findall(r"(\w+)=([\dx_-]+)", window))
    count = len(values.get("size", "").split("x")) if "size" in values else 0

    def numbers(name: str, default: str) -> list[int]:
        return [int(part.split("_")[0]) for part in values.get(name, "x".join([default] * count)).split("x")]

    return (
        list(
            zip(
                numbers("stride", "1"),
                numbers("pad", "0_0"),
                numbers("lhs_dilate", "1"),
                numbers("rhs_dilate", "1"),
                strict=True,
            )
        )
        if count
        else []
    )


def _valid_positions(size: int, kernel: int, out: int, stride: int, pad: int, lhs_dilate: int, rhs_dilate: int) -> int:
    """Pairs of output and kernel position that meet an entry of the input, not padding and not a hole of its dilation."""
    position = np.arange(out)[:, None] * stride - pad + np.arange(kernel) * rhs_dilate
    return int(
        np.sum((position % lhs_dilate == 0) & (position >= 0) & (position < size * lhs_dilate - (lhs_dilate - 1)))
    )


def _group(instruction: Instruction) -> tuple[int, ...]:
    """Positions of the first group of devices that exchange data."""
    if pairs := instruction.attribute("source_target_pairs", r"\{\{[^}]*\}"):
        return tuple(map(int, re.findall(r"\d+", pairs)))[:2]
    if named := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((.*?\)?)\))?\s*\{([^}]*)\}", instruction.attributes
    ):
        axes = [(name, int(size)) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])]
        chosen = re.findall(r"'(\w+)'", named[3])
        order = _order(named[2]) if named[2] else np.arange(math.prod(size for _, size in axes))
        grid = order.reshape([size for _, size in axes])
        index = tuple(slice(None) if name in chosen else 0 for name, _ in axes)
        return tuple(grid[index].reshape(-1).tolist())
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", instruction.attributes):
        return tuple(_order(iota[3]).reshape(int(iota[1]), int(iota[2]))[0].tolist())
    explicit = re.search(r"replica_groups=\{\{([\d,]*)\}", instruction.attributes)
    return tuple(int(member) for member in explicit[1].split(",")) if explicit else (0,)


def _order(text: str) -> np.ndarray:
    """Device numbers as XLA writes them in short: `[4,16]T(1,0)` counts through a grid of that shape, its axes transposed."""
    shape, _, axes = text.partition("T")
    sizes = [int(size) for size in re.findall(r"\d+", shape)]
    order = np.arange(math.prod(sizes)).reshape(sizes)
    return order.transpose([int(axis) for axis in re.findall(r"\d+", axes)] or None).reshape(-1)
