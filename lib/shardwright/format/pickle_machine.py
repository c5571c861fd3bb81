"""A machine for the few pickle opcodes that Petastorm's metadata needs, which runs nothing: names and calls become inert
values.

Source of the opcodes: CPython's ``Lib/pickletools.py``. What a pickle says is built by reference, so a value may hold itself,
or 2^60 leaves: nobody may print, hash, compare or walk one but step by step.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shardwright.errors import UnsafeMetadataError

_MOST_BYTES = 16 * 2**20
_MOST_OPCODES = 2_000_000
_ADVICE = (
    "such metadata may run code where it is opened with pickle, so it is not read; if you trust who wrote the dataset, write "
    "its metadata anew from the schema (materialize_dataset), or read it as plain Parquet (make_batch_reader without "
    "_common_metadata)"
)


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that a pickle names; `stands_for` is what the allow-list calls it."""

    name: str
    stands_for: str


@dataclass(eq=False)
class Instance:
    """What would be made of a class and arguments; `state` would be its attributes."""

    cls: Global
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class Mapping:
    """A dict or OrderedDict, as pairs in order."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)


class _Mark:
    """Where a MARK lies on the stack."""


_MARK = _Mark()
_ORDERED, _RECONSTRUCT, _RESTORE, _OBJECT, _TUPLE_CLASS = "OrderedDict", "_reconstructor", "_restore", "object", "tuple"
_OWN = {
    ("collections", "OrderedDict"): _ORDERED,
    ("copy_reg", "_reconstructor"): _RECONSTRUCT,
    ("copyreg", "_reconstructor"): _RECONSTRUCT,
    ("pyspark.serializers", "_restore"): _RESTORE,
    ("__builtin__", "object"): _OBJECT,
    ("builtins", "object"): _OBJECT,
    ("__builtin__", "tuple"): _TUPLE_CLASS,
    ("builtins", "tuple"): _TUPLE_CLASS,
}
"""What pickles of any class use. `_restore(name, fields, values)` is how old pyspark made namedtuples."""
Known = Callable[[str, str], str | None]


def run(pickled: bytes, known: Known) -> Any:
    """The value of a pickle: None, a bool, int, float or str, a tuple, a list, a `Mapping`, `Global` or `Instance` of such.

    `known(module, name)` says what a global stands for, or None. Raises UnsafeMetadataError for an unknown one, for an opcode
    that is not needed, and for a pickle that is cut off or out of bounds.
    """
    if len(pickled) > _MOST_BYTES:
        raise _unsafe(f"a pickle of {len(pickled)} bytes is more than the {_MOST_BYTES} that are read")
    machine = _Machine(known)
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(pickled)):
            if number >= _MOST_OPCODES:
                raise _unsafe(f"a pickle of more than {_MOST_OPCODES} opcodes")
            if opcode.name == "STOP":
                return machine.result(position)
            machine.step(opcode.name, argument, position)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeError, RecursionError) as error:
        if isinstance(error, UnsafeMetadataError):
            raise
        raise _unsafe(f"no pickle that can be read ({type(error).__name__}: {str(error)[:200]})") from error
    raise _unsafe("a pickle without an end")


class _Machine:
    def __init__(self, known: Known) -> None:
        self._known = known
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self, position: int | None) -> Any:
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise _unsafe(f"{len(self._stack)} values where one was expected, at byte {position}")
        return self._stack[0]

    def step(self, name: str, argument: Any, position: int | None) -> None:
        if name in _LITERALS:
            self._stack.append(_LITERALS[name](argument))
        elif name in _IGNORED:
            return
        elif (action := _ACTIONS.get(name)) is None:
            raise _unsafe(f"the opcode {name} at byte {position}, which no Unischema needs")
        else:
            action(self, argument)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise _unsafe("a mark where a value was expected")
        return value

    def _top(self, kind: type[Any], what: str) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise _unsafe(f"{what} of a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _to_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise _unsafe("values without a mark")
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def named(self, argument: str) -> None:
        """GLOBAL: 'module name'."""
        module, _, name = argument.partition(" ")
        self._stack.append(self._global(module, name))

    def stack_named(self, _: Any) -> None:
        """STACK_GLOBAL."""
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise _unsafe("a global whose name is no text")
        self._stack.append(self._global(module, name))

    def _global(self, module: str, name: str) -> Global:
        stands_for = _OWN.get((module, name)) or self._known(module, name)
        if stands_for is None:
            raise _unsafe(f"the global {f'{module}.{name}'[:200]!r}, which no Unischema names")
        return Global(f"{module}.{name}", stands_for)

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._to_mark()

    def tuple_to_mark(self, _: Any) -> None:
        self._stack.append(tuple(self._to_mark()))

    def tuple_of(self, count: int) -> None:
        self._stack.append(tuple(reversed([self._pop() for _ in range(count)])))

    def list_to_mark(self, _: Any) -> None:
        self._stack.append(self._to_mark())

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list, "APPEND").append(value)

    def appends(self, _: Any) -> None:
        values = self._to_mark()
        self._top(list, "APPENDS").extend(values)

    def dict_to_mark(self, _: Any) -> None:
        self._stack.append(Mapping(_pairs(self._to_mark())))

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._top(Mapping, "SETITEM").pairs.append((key, value))

    def set_items(self, _: Any) -> None:
        pairs = _pairs(self._to_mark())
        self._top(Mapping, "SETITEMS").pairs.extend(pairs)

    def put(self, number: int) -> None:
        self._memo[int(number)] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, number: int) -> None:
        self._stack.append(self._memo[int(number)])

    def new_object(self, _: Any) -> None:
        """NEWOBJ: an instance, whose arguments are inert."""
        arguments, cls = self._pop(), self._pop()
        if not isinstance(cls, Global) or cls.stands_for in _OWN.values() or not isinstance(arguments, tuple):
            raise _unsafe(f"an instance of {cls.name if isinstance(cls, Global) else type(cls).__name__!r}")
        self._stack.append(Instance(cls, arguments))

    def reduce(self, _: Any) -> None:
        """REDUCE: of three functions, whose meaning is known."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise _unsafe(f"a call of {function.name if isinstance(function, Global) else type(function).__name__!r}")
        if function.stands_for == _ORDERED:
            self._stack.append(_ordered(arguments))
        elif function.stands_for == _RECONSTRUCT:
            self._stack.append(_reconstructed(arguments))
        elif function.stands_for == _RESTORE:
            self._stack.append(self._restored(arguments))
        elif function.stands_for.startswith("spark.") and all(isinstance(one, int) for one in arguments):
            self._stack.append(Instance(function, arguments))
        else:
            raise _unsafe(f"a call of {function.name!r}")

    def _restored(self, arguments: tuple[Any, ...]) -> Instance:
        name, _, values = arguments if len(arguments) == 3 else (None, None, None)
        if name != "UnischemaField" or not isinstance(values, (tuple, list)):
            raise _unsafe("a call of pyspark.serializers._restore for something else than a UnischemaField")
        return Instance(Global("UnischemaField", "UnischemaField"), tuple(values))

    def build(self, _: Any) -> None:
        """BUILD: the attributes of an instance."""
        state = self._pop()
        self._top(Instance, "BUILD").state = state


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    if len(values) % 2:
        raise _unsafe("a dict with a key without a value")
    return list(zip(values[::2], values[1::2], strict=True))


def _ordered(arguments: tuple[Any, ...]) -> Mapping:
    """OrderedDict() or OrderedDict([[key, value], …])."""
    if not arguments:
        return Mapping()
    pairs = arguments[0]
    if len(arguments) != 1 or not isinstance(pairs, (list, tuple)):
        raise _unsafe("a call of OrderedDict with something else than pairs")
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise _unsafe("a call of OrderedDict with something else than pairs")
    return Mapping([(pair[0], pair[1]) for pair in pairs])


def _reconstructed(arguments: tuple[Any, ...]) -> Instance:
    """``copy_reg._reconstructor(cls, object, None)`` or ``(cls, tuple, values)``: how Python 2 made instances."""
    if len(arguments) != 3:
        raise _unsafe(f"a call of copy_reg._reconstructor with {len(arguments)} arguments")
    cls, base, values = arguments
    plain = isinstance(cls, Global) and cls.stands_for not in _OWN.values()
    if plain and isinstance(base, Global) and base.stands_for == _OBJECT and values is None:
        return Instance(cls, ())
    if plain and isinstance(base, Global) and base.stands_for == _TUPLE_CLASS and isinstance(values, tuple):
        return Instance(cls, values)
    raise _unsafe("a call of copy_reg._reconstructor for something else than an object or a tuple")


def _unsafe(found: str) -> UnsafeMetadataError:
    return UnsafeMetadataError(f"the pickled metadata has {found}: {_ADVICE}")


_IGNORED = frozenset({"PROTO", "FRAME"})
_LITERALS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: Mapping(),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), lambda value: value),
    **dict.fromkeys(
        ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        lambda value: value,
    ),
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_named,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": _Machine.list_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "DICT": _Machine.dict_to_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "NEWOBJ": _Machine.new_object,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
