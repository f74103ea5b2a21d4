"""XLA's text of a compiled program: its computations, how often each runs, and what an instruction's attributes say."""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

log = logging.getLogger("satjax")

BITS = {"pred": 8, "token": 0, "opaque": 0}


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


class Program:
    """A program of `compiled.as_text()`: instructions by name, of computations by name."""

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

    @cached_property
    def runs(self) -> Mapping[str, tuple[int, bool]]:
        """How often a step runs each computation that it reaches, and whether that is inside a fusion."""
        runs: dict[str, tuple[int, bool]] = {}

        def visit(name: str, times: int, in_fusion: bool) -> None:
            before, _ = runs.get(name, (0, False))
            runs[name] = (before + times, in_fusion)
            for instruction in self.computations[name].values():
                if instruction.opcode == "while":
                    body, condition = (called(instruction, key) for key in ("body", "condition"))
                    visit(body, times * self.trips(instruction, condition), in_fusion)
                elif inside := called(instruction, "calls"):
                    visit(inside, times, in_fusion or instruction.opcode == "fusion")
                elif instruction.opcode == "call":
                    visit(called(instruction, "to_apply"), times, in_fusion)

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
        if not bounds:
            log.warning("how often the loop %s runs is unknown: it is counted once", loop.name)
        return max(bounds, default=1)

    def operand_buffers(self, computation: str, instruction: Instruction) -> list[tuple[Buffer, ...]]:
        """What each operand of one of the computation's instructions is made of."""
        scope = self.computations[computation]
        return [scope[name].buffers if name in scope else () for name in instruction.operands]

    def operands(self, computation: str, instruction: Instruction) -> list[Buffer]:
        """The same, one after the other."""
        return [buffer for buffers in self.operand_buffers(computation, instruction) for buffer in buffers]


def parameters(inside: Mapping[str, Instruction], index: int) -> set[str]:
    """What a fusion calls its operand number `index`."""
    return {i.name for i in inside.values() if i.opcode == "parameter" and i.argument == str(index)}


def called(instruction: Instruction, key: str) -> str:
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


def windows(instruction: Instruction) -> list[tuple[int, int, int, int]]:
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


def group(instruction: Instruction) -> tuple[int, ...]:
    """Positions of the first group of devices that a collective exchanges data between."""
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
