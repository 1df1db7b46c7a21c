"""Parses the text of an HLO module into computations, and how often each runs.

XLA's own cost analysis counts the body of a loop once. Here it counts `known_trip_count` times, or,
where XLA has not annotated that, as often as the loop's condition allows.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r" ?([a-z][a-z0-9\-]*)\(")
_OPERAND = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_ASYNC_PART = re.compile(r'custom_call_target="AsyncCollective(Start|Done)"')
_TRACED_AS = re.compile(r'op_name="([^"]*)"')
_PARENTHESIS = re.compile(r"[()]")

_BITS = {"pred": 8, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
      dtype: XLA's name, `bf16`.
      sizes: of the dimensions.
      in_hbm: False for on-chip memory (VMEM, CMEM, SMEM).
    """

    dtype: str
    sizes: tuple[int, ...]
    in_hbm: bool

    @property
    def bytes(self) -> int:
        """Its size in bytes, without padding."""
        bits = _BITS.get(self.dtype)
        if bits is None:
            # f32, bf16, f8e4m3fn, c64: the first number is the width.
            found = re.search(r"\d+", self.dtype)
            bits = int(found[0]) if found else 0
        return math.prod(self.sizes) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: without `%`.
      opcode: `all-reduce`, `fusion`, ….
      shape: the result's type, as written.
      operands: names.
      arguments: the text between the parentheses.
      attributes: the text after them.
      is_root: whether it is the computation's result.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of the result, a tuple's in order."""
        return arrays_of(self.shape)

    @property
    def traced_as(self) -> str:
        """The scopes and the operation that it comes from, with slashes; "" if it has no name."""
        found = _TRACED_AS.search(self.attributes)
        return found[1] if found else ""

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute (`calls`, `body`) names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None


Computation = Mapping[str, Instruction]
"""Name to instruction, in the order of the text."""


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
      computations: by name.
      entry: the name of the first to run.
    """

    computations: Mapping[str, Computation]
    entry: str

    @functools.cached_property
    def runs(self) -> dict[str, float]:
        """Counts how often each computation runs in one run of the program.

        Only control flow counts: the entry, bodies and conditions of loops, branches (each as if
        taken), called and asynchronous computations; not those of fusions and reductions.
        """
        counts: dict[str, float] = {}

        def visit(name: str, times: float) -> None:
            counts[name] = counts.get(name, 0) + times
            for instruction in self.computations[name].values():
                for inner, turns in self._control(instruction, name):
                    visit(inner, times * turns)

        visit(self.entry, 1)
        return counts

    @functools.cached_property
    def num_instructions(self) -> int:
        """The number of instructions in all computations."""
        return sum(len(body) for body in self.computations.values())

    def executed(self) -> Iterator[tuple[str, Instruction, float]]:
        """Yields computation, instruction and number of runs, with a fusion as one instruction."""
        for name, times in self.runs.items():
            for instruction in self.computations[name].values():
                yield name, instruction, times

    def executed_inside(self) -> Iterator[tuple[str, Instruction, float]]:
        """Yields the same with the instructions inside a fusion in its place."""

        def visit(name: str, times: float) -> Iterator[tuple[str, Instruction, float]]:
            for instruction in self.computations[name].values():
                inner = instruction.called("calls") if instruction.opcode == "fusion" else None
                if inner in self.computations:
                    yield from visit(str(inner), times)
                else:
                    yield name, instruction, times

        for name, times in self.runs.items():
            yield from visit(name, times)

    @functools.cached_property
    def async_parts(self) -> dict[str, str]:
        """Which fused computations are the "Start" or the "Done" of a fused collective.

        On TPUs a collective may be spread over the instructions between its start and its end, also
        over the turns of a loop there. Each of these holds the collective once more.
        """
        return {
            name: found[1]
            for name, body in self.computations.items()
            for instruction in body.values()
            if instruction.opcode == "custom-call"
            and (found := _ASYNC_PART.search(instruction.attributes))
        }

    @functools.cached_property
    def _started(self) -> set[str]:
        """The channels of the collectives that an `AsyncCollectiveStart` starts."""
        return {
            found[1]
            for name, part in self.async_parts.items()
            if part == "Start"
            for instruction in self.computations[name].values()
            if (found := _CHANNEL.search(instruction.attributes))
        }

    def continues(self, computation: str, instruction: Instruction) -> bool:
        """Whether this is a step, or the end, of a collective that was started elsewhere."""
        channel = _CHANNEL.search(instruction.attributes)
        started = channel is not None and channel[1] in self._started
        return started and self.async_parts.get(computation) != "Start"

    def operand_arrays(self, computation: str, instruction: Instruction) -> tuple[Array, ...]:
        """The arrays of all operands, in order."""
        body = self.computations[computation]
        written = arrays_of(instruction.arguments)
        if written:
            return written  # some printers give the type of each operand
        found = (body[name].arrays for name in instruction.operands if name in body)
        return tuple(array for arrays in found for array in arrays)

    def _control(self, instruction: Instruction, name: str) -> Iterator[tuple[str, float]]:
        if instruction.opcode == "while":
            turns = self._trips(instruction, name)
            for part, times in (("body", turns), ("condition", turns + 1)):
                if (inner := instruction.called(part)) in self.computations:
                    yield str(inner), times
        elif instruction.opcode in ("call", "async-start"):
            part = "to_apply" if instruction.opcode == "call" else "calls"
            if (inner := instruction.called(part)) in self.computations:
                yield str(inner), 1
        elif instruction.opcode == "conditional":
            listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
            branches = _OPERAND.findall(listed[1]) if listed else []
            both = [instruction.called(f"{value}_computation") for value in ("true", "false")]
            for inner in (*branches, *both):
                if inner in self.computations:
                    yield str(inner), 1

    def _trips(self, loop: Instruction, name: str) -> int:
        """The trip count of a loop; 1 if it is unknown."""
        if found := _TRIPS.search(loop.attributes):
            return int(found[1])
        condition = self.computations.get(loop.called("condition") or "", {})
        limits = [
            int(instruction.arguments)
            for instruction in condition.values()
            if instruction.opcode == "constant" and re.fullmatch(r"\d+", instruction.arguments)
        ]
        if len(limits) != 1:
            return 1
        counter = self._counter(condition)
        if counter is None:
            return max(limits[0], 1)
        first = self._first_count(loop, counter, name)
        step = self._step(self.computations.get(loop.called("body") or "", {}), counter)
        return max(math.ceil((limits[0] - first) / step), 1)

    def _counter(self, condition: Computation) -> int | None:
        """The index in the loop's tuple of the counter that the condition compares."""
        places = [
            int(found[1])
            for instruction in condition.values()
            if instruction.opcode == "get-tuple-element"
            and (found := re.search(r"index=(\d+)", instruction.attributes))
        ]
        return places[0] if len(places) == 1 else None

    def _first_count(self, loop: Instruction, counter: int, name: str) -> int:
        """The initial value of the counter; 0, as in JAX's loops, where it is not a constant."""
        body = self.computations[name]
        start = body.get(loop.operands[0]) if loop.operands else None
        if start is None or start.opcode != "tuple":
            return 0
        return _constant(body, start.operands[counter]) or 0

    def _step(self, body: Computation, counter: int) -> int:
        """The increment of the counter: 2 where XLA has unrolled two iterations, otherwise 1."""
        root = next((i for i in body.values() if i.is_root and i.opcode == "tuple"), None)
        value = body.get(root.operands[counter]) if root else None
        step = 0
        while value is not None and value.opcode in ("add", "copy", "bitcast"):
            constants = [_constant(body, name) for name in value.operands]
            step += sum(number for number in constants if number is not None)
            rest = [n for n, c in zip(value.operands, constants, strict=True) if c is None]
            value = body.get(rest[0]) if len(rest) == 1 else None
        return max(step, 1)


def parse(text: str) -> Module:
    """Parses the text that `compiled.as_text()` returns.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, body = "", None
    for line in _whole_lines(text):
        if line == "}":
            body = None
        elif body is None:
            if header := _HEADER.match(line):
                body = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif (instruction := _instruction(line)) is not None:
            body[instruction.name] = instruction
    if not entry:
        raise ValueError("the text has no ENTRY computation: is it an HLO module?")
    return Module(computations, entry)


def _whole_lines(text: str) -> Iterator[str]:
    """Lines of the text, with multi-line attributes of kernels joined to one line."""
    pending = ""
    for line in text.splitlines():
        if pending and line != "}" and not _NAME.match(line):
            pending += line
            continue
        if pending:
            yield pending
        pending = line if _NAME.match(line) else ""
        if not pending:
            yield line
    if pending:
        yield pending


def _constant(body: Computation, name: str) -> int | None:
    """The value of a constant instruction, or None."""
    value = body.get(name)
    while value is not None and value.opcode in ("copy", "bitcast", "convert"):
        value = body.get(value.operands[0])
    if value is None or value.opcode != "constant" or not value.arguments.isdecimal():
        return None
    return int(value.arguments)


def _instruction(line: str) -> Instruction | None:
    name = _NAME.match(line)
    if name is None:
        return None
    start = name.end()
    end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opcode = _OPCODE.match(line, end)
    if opcode is None:
        return None
    close = _closing(line, opcode.end() - 1)
    arguments = line[opcode.end() : close - 1]
    return Instruction(
        name=name[1],
        opcode=opcode[1],
        shape=line[start:end],
        operands=tuple(_OPERAND.findall(arguments)),
        arguments=arguments,
        attributes=line[close:],
        is_root=line.lstrip().startswith("ROOT "),
    )


def _closing(line: str, start: int) -> int:
    """The index after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in _PARENTHESIS.finditer(line, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.end()
    return len(line)


@functools.cache
def arrays_of(shape: str) -> tuple[Array, ...]:
    """Parses the arrays of a type such as `(f32[8,4]{1,0}, bf16[2]{0:T(256)S(1)})`."""

    def array(found: re.Match[str]) -> Array:
        space = _SPACE.search(found[3] or "")
        sizes = tuple(int(n) for n in found[2].split(",") if n)
        return Array(found[1], sizes, space is None or space[1] == "0")

    return tuple(array(found) for found in _ARRAY.finditer(shape))
