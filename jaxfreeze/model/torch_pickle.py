"""The pickle in a file of `torch.save`, read by an interpreter that knows the opcodes of a state dict and no others.

Nothing is imported or called and no attribute is set: what the stream names stays text that is compared with a short
list, and all that comes of it are dicts, tuples, strings, integers and descriptions of tensors. Opcodes: Python's
pickletools. What PyTorch writes with them: torch/_utils.py and torch/serialization.py.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any

STORAGES = {
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.DoubleStorage": "F64",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
"""Storage class -> type of its elements, as safetensors calls it."""
FUNCTIONS = ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
GLOBALS = {*STORAGES, *FUNCTIONS}
"""Everything that a stream may name."""
MOST_OPCODES = 1_000_000  # 45 a tensor: of 20,000 tensors
MOST_TEXT = 1000  # bytes
MOST_AXES = 8
OPCODE_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


class Refused(Exception):  # noqa: N818  # becomes an InputError where the file's name is known
    """The stream holds something else than a state dict."""


@dataclasses.dataclass(frozen=True)
class Name:
    """One of GLOBALS."""

    text: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """The elements in one member of the archive."""

    key: str
    dtype: str
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset and strides count elements. Nothing here is checked against the storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_state_dict(stream: bytes) -> dict[str, Tensor]:
    """The tensors that a stream describes, by name. Raises Refused, which says what else is in it."""
    found = _Machine(stream).run()
    if type(found) is not dict:
        raise Refused("it holds no dict")
    for name, value in found.items():
        if type(value) is not Tensor:
            raise Refused(f"{name!r} is no tensor")
    return found


class _Machine:
    """Pickle's stack, marks and memo."""

    def __init__(self, stream: bytes) -> None:
        self.stream, self.at = stream, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What STOP leaves."""
        for _ in range(MOST_OPCODES):
            name = OPCODE_NAMES.get(self.number(1), "unknown")
            if name == "STOP":
                (found,) = self.pop(1)
                if self.stack or self.marks or self.at != len(self.stream):
                    raise Refused("it continues after its end")
                return found
            if name not in _ACTIONS:
                raise Refused(f"the opcode {name}")
            _ACTIONS[name](self)
        raise Refused(f"more than {MOST_OPCODES:,} opcodes")

    def take(self, count: int) -> bytes:
        """The next bytes of the stream."""
        if count > len(self.stream) - self.at:
            raise Refused("it ends early")
        self.at += count
        return self.stream[self.at - count : self.at]

    def number(self, count: int, signed: bool = False) -> int:
        """An integer of so many bytes, 8 at most."""
        if count > 8:
            raise Refused(f"an integer of {count} bytes")
        return int.from_bytes(self.take(count), "little", signed=signed)

    def text(self, count: int) -> str:
        """A string of so many bytes that can be printed."""
        if count > MOST_TEXT:
            raise Refused(f"a string of {count:,} bytes")
        try:
            text = self.take(count).decode()
        except UnicodeDecodeError as error:
            raise Refused("a string that is not UTF-8") from error
        if not text.isprintable():
            raise Refused(f"the string {text[:60]!r}")
        return text

    def line(self) -> str:
        """A string up to the end of its line."""
        end = self.stream.find(b"\n", self.at)
        text = self.text((len(self.stream) if end < 0 else end) - self.at)
        self.take(1)
        return text

    def pop(self, count: int) -> list[Any]:
        """The topmost values above the last mark, lowest first."""
        bottom = len(self.stack) - count
        if bottom < (self.marks[-1] if self.marks else 0):
            raise Refused("too few values on the stack")
        values = self.stack[bottom:]
        del self.stack[bottom:]
        return values

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark, and the mark."""
        if not self.marks:
            raise Refused("no mark on the stack")
        values = self.pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_tuple(self, values: list[Any]) -> None:
        """A tuple in a tuple has integers alone: sizes and strides."""
        inner = (value for value in values if type(value) is tuple)
        if any(type(item) is not int for items in inner for item in items):
            raise Refused("tuples within tuples")
        self.push(tuple(values))

    def push_name(self, module: object, name: object) -> None:
        text = f"{module}.{name}" if type(module) is type(name) is str else "something that is no text"
        if text not in GLOBALS:
            raise Refused(f"it names {text}")
        self.push(Name(text))

    def protocol(self) -> None:
        number = self.number(1)
        if not 2 <= number <= 5:
            raise Refused(f"pickle protocol {number}")

    def put(self, key: int) -> None:
        (value,) = self.pop(1)
        self.memo[key] = value
        self.push(value)

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise Refused(f"nothing was kept under {key}")
        self.push(self.memo[key])

    def set_items(self, values: list[Any]) -> None:
        (items,) = self.pop(1)
        if type(items) is not dict or len(values) % 2:
            raise Refused("items of something that is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str:
                raise Refused("a name that is no text")
            if key in items:
                raise Refused(f"two tensors are called {key!r}")
            items[key] = value
        self.push(items)

    def persistent(self) -> None:
        """('storage', class, key, device, number of elements) -> Storage."""
        (found,) = self.pop(1)
        match found:
            case ("storage", Name(text), str(key), str(), int(numel)) if text in STORAGES and key.isascii():
                self.push(Storage(key, STORAGES[text], numel))
            case _:
                raise Refused("a persistent id that is no storage")

    def reduce(self) -> None:
        """A call, of one of three: an empty dict, a tensor, or a parameter, which is its tensor."""
        function, arguments = self.pop(2)
        called = function.text if type(function) is Name else "something that is no function"
        match called, arguments:
            case "collections.OrderedDict", ():
                self.push({})
            case "torch._utils._rebuild_parameter", (Tensor() as tensor, bool(), dict()):
                self.push(tensor)
            case "torch._utils._rebuild_tensor_v2", (Storage(), int(), tuple(), tuple(), bool(), dict(), *more):
                storage, offset, size, stride = arguments[:4]
                if more not in ([], [None], [{}]) or not len(size) == len(stride) <= MOST_AXES:
                    raise Refused("a tensor of another kind")
                self.push(Tensor(storage, offset, size, stride))
            case _:
                raise Refused(f"a call of {called}")

    def build(self) -> None:
        """The state of a state dict is the versions of its modules, which nothing here needs."""
        found, state = self.pop(2)
        if type(found) is not dict or type(state) is not dict or {*state} - {"_metadata"}:
            raise Refused("a state other than _metadata")
        self.push(found)


_ACTIONS: dict[str, Callable[[_Machine], Any]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda m: m.take(8),
    "MARK": lambda m: m.marks.append(len(m.stack)),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "BININT": lambda m: m.push(m.number(4, signed=True)),
    "BININT1": lambda m: m.push(m.number(1)),
    "BININT2": lambda m: m.push(m.number(2)),
    "LONG1": lambda m: m.push(m.number(m.number(1), signed=True)),
    "BINUNICODE": lambda m: m.push(m.text(m.number(4))),
    "SHORT_BINUNICODE": lambda m: m.push(m.text(m.number(1))),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "TUPLE": lambda m: m.push_tuple(m.pop_mark()),
    "TUPLE1": lambda m: m.push_tuple(m.pop(1)),
    "TUPLE2": lambda m: m.push_tuple(m.pop(2)),
    "TUPLE3": lambda m: m.push_tuple(m.pop(3)),
    "EMPTY_DICT": lambda m: m.push({}),
    "SETITEM": lambda m: m.set_items(m.pop(2)),
    "SETITEMS": lambda m: m.set_items(m.pop_mark()),
    "BINPUT": lambda m: m.put(m.number(1)),
    "LONG_BINPUT": lambda m: m.put(m.number(4)),
    "MEMOIZE": lambda m: m.put(len(m.memo)),
    "BINGET": lambda m: m.get(m.number(1)),
    "LONG_BINGET": lambda m: m.get(m.number(4)),
    "GLOBAL": lambda m: m.push_name(m.line(), m.line()),
    "STACK_GLOBAL": lambda m: m.push_name(*m.pop(2)),
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
"""Opcode -> what it does. All others are refused, by name."""
