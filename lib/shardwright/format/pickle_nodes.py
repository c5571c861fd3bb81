"""The values that a pickle describes, as inert nodes: a walk over its opcodes that imports nothing and calls nothing.

It knows the opcodes that Petastorm's metadata needs, from Python 2's protocol 0 on, and the functions that it calls; whoever
calls it says which classes may occur. Every other opcode or name ends the walk, and so does a pickle that is out of proportion.
Nothing here hashes, compares or prints a value: one that holds another many times over would take for ever. Source of the
opcodes: CPython's ``Lib/pickletools.py``, which also splits the bytes into opcodes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

from shardwright.errors import UnsafeMetadataError

MAX_BYTES = 16 * 2**20
MAX_OPCODES = 500_000
MAX_NESTING = 64
"""Marks that are open at a time. Petastorm's own pickles have 5."""

_OLD_PACKAGES = ("av.experimental.deepdrive.dataset_toolkit", "av.ml.dataset_toolkit")
_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    **{f"{package}.{module}": f"petastorm.{module}" for package in _OLD_PACKAGES for module in ("codecs", "unischema")},
}
"""What modules were called in Python 2, and before Petastorm was published."""
_BASES = frozenset({"builtins.object", "builtins.tuple"})
_FUNCTIONS = frozenset({"collections.OrderedDict", "copyreg._reconstructor", "pyspark.serializers._restore"})
_UNISCHEMA_FIELD = "petastorm.unischema.UnischemaField"
_SHOWN = 80


@dataclass(frozen=True, eq=False)
class Name:
    """What a module calls something: ``module.name``. Never looked up."""

    name: str


@dataclass(eq=False)
class Instance:
    """An instance of the class `name`, made of `arguments`; its attributes are `state`."""

    name: str
    arguments: tuple[Node, ...]
    state: dict[str, Node]


Node: TypeAlias = "bool | int | str | tuple[Any, ...] | list[Any] | dict[str, Any] | Name | Instance | None"


def read_nodes(pickled: bytes, classes: Collection[str], constants: Collection[str]) -> Node:
    """What `pickled` describes: it may hold instances of `classes`, and name `constants` besides (``module.name``).

    Tuples, lists and dicts are Python's own, the keys str; they may hold each other in any way, even themselves, so follow
    them to a known depth only. Raises UnsafeMetadataError, which says what was found at which byte.
    """
    if len(pickled) > MAX_BYTES:
        raise UnsafeMetadataError(f"expected a pickle of at most {MAX_BYTES} bytes, found {len(pickled)}")
    walk = _Walk(classes, constants)
    opcodes = pickletools.genops(pickled)
    for count in range(MAX_OPCODES):
        try:
            opcode, argument, at = next(opcodes)
        except (ValueError, StopIteration, DeprecationWarning) as error:  # a warning, of escapes in a text, may be an error
            raise UnsafeMetadataError(f"opcode {count}: expected a whole pickle, found a damaged one") from error
        if opcode.name == "STOP":
            return walk.result()
        try:
            walk.step(opcode.name, argument)
        except UnsafeMetadataError as error:
            raise UnsafeMetadataError(f"byte {at}: {error}") from None
    raise UnsafeMetadataError(f"expected a pickle of at most {MAX_OPCODES} opcodes, found more")


def show(text: str) -> str:
    """A text from outside, short and in ASCII."""
    return ascii(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!a}…"


class _Walk:
    """The stack and the memo of an unpickler, and one method for each kind of opcode."""

    def __init__(self, classes: Collection[str], constants: Collection[str]) -> None:
        self._classes = frozenset(classes)
        self._names = frozenset({*classes, *constants, *_BASES, *_FUNCTIONS})
        self._stack: list[Node] = []
        self._marks: list[int] = []
        self._memo: dict[int, Node] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do what an opcode says."""
        try:
            if opcode in _VALUES:
                self._stack.append(argument)
            elif opcode in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode]())
            elif opcode in _ACTIONS:
                _ACTIONS[opcode](self, argument)
            else:
                raise UnsafeMetadataError(_forbidden(opcode, argument))
        except (IndexError, KeyError):
            raise UnsafeMetadataError(f"{opcode} of what is not there") from None

    def result(self) -> Node:
        """The value that is left at the end."""
        if len(self._stack) != 1 or self._marks:
            raise UnsafeMetadataError(f"expected one value at the end of the pickle, found {len(self._stack)}")
        return self._stack[0]

    def _pop(self) -> Node:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError
        return self._stack.pop()

    def frame(self, size: int) -> None:
        if size > MAX_BYTES:
            raise UnsafeMetadataError(f"expected frames of at most {MAX_BYTES} bytes, found {size}")

    def mark(self, _: Any) -> None:
        if len(self._marks) == MAX_NESTING:
            raise UnsafeMetadataError(f"expected at most {MAX_NESTING} values inside each other, found more")
        self._marks.append(len(self._stack))

    def _pop_marked(self) -> list[Node]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def tuple_(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def tuple_of(self, size: int) -> None:
        self._stack.append(tuple(reversed([self._pop() for _ in range(size)])))

    def list_(self, _: Any) -> None:
        self._stack.append(self._pop_marked())

    def dict_(self, _: Any) -> None:
        out: dict[str, Node] = {}
        _set_items(out, self._pop_marked())
        self._stack.append(out)

    def append(self, _: Any) -> None:
        item = self._pop()
        _only(list, self._stack[-1]).append(item)

    def appends(self, _: Any) -> None:
        items = self._pop_marked()
        _only(list, self._stack[-1]).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        _set_items(_only(dict, self._stack[-1]), [key, value])

    def set_marked(self, _: Any) -> None:
        items = self._pop_marked()
        _set_items(_only(dict, self._stack[-1]), items)

    def remember(self, number: int) -> None:
        if not 0 <= number <= MAX_OPCODES:
            raise UnsafeMetadataError(f"expected memo numbers of at most {MAX_OPCODES}")
        self._memo[number] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._push_name(_only(str, module), _only(str, name))

    def _push_name(self, module: str, name: str) -> None:
        known = f"{_MODULES.get(module, module)}.{name}"
        if known not in self._names or "." in name:
            raise UnsafeMetadataError(f"the pickle names {show(f'{module}.{name}')}, which has no place in it")
        self._stack.append(Name(known))

    def new(self, _: Any) -> None:
        arguments, cls = _only(tuple, self._pop()), _only(Name, self._pop())
        self._stack.append(self._instance(cls.name, arguments))

    def reduce(self, _: Any) -> None:
        arguments, function = _only(tuple, self._pop()), _only(Name, self._pop())
        self._stack.append(self._call(function.name, arguments))

    def build(self, _: Any) -> None:
        state, instance = _only(dict, self._pop()), _only(Instance, self._stack[-1])
        if instance.state:
            raise UnsafeMetadataError(f"attributes of {instance.name} are set twice")
        instance.state = state

    def _call(self, function: str, arguments: tuple[Node, ...]) -> Node:
        """What one of the few functions that Petastorm's pickles call would return."""
        match function, arguments:
            case "copyreg._reconstructor", (Name(cls), Name("builtins.object"), None):
                return self._instance(cls, ())
            case "copyreg._reconstructor", (Name(cls), Name("builtins.tuple"), tuple(values)):
                return self._instance(cls, values)
            case "pyspark.serializers._restore", (
                "UnischemaField",
                ("name", "numpy_dtype", "shape", "codec", "nullable"),
                tuple(values),
            ):  # what the pyspark of those days made of every namedtuple
                return self._instance(_UNISCHEMA_FIELD, values)
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list(pairs),):
                return _ordered_dict(pairs)
        raise UnsafeMetadataError(f"the pickle calls {function} in a way that Petastorm never does")

    def _instance(self, cls: str, arguments: tuple[Node, ...]) -> Instance:
        if cls not in self._classes:
            raise UnsafeMetadataError(f"the pickle makes an instance of {cls}, which has no place in it")
        return Instance(cls, arguments, {})


def _ordered_dict(pairs: list[Node]) -> dict[str, Node]:
    out: dict[str, Node] = {}
    for pair in pairs:
        if len(_only(list, pair)) != 2:
            raise UnsafeMetadataError("expected pairs in an OrderedDict")
        _set_items(out, pair)  # type: ignore[arg-type]
    pairs.clear()  # so that nobody makes many of one list, at the price of one
    return out


def _set_items(target: dict[str, Node], items: list[Node]) -> None:
    if len(items) % 2:
        raise UnsafeMetadataError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_only(str, key)] = value


def _only(kind: type[Any], value: Node) -> Any:
    if type(value) is not kind:
        raise UnsafeMetadataError(f"expected a {kind.__name__}, found a {type(value).__name__}")
    return value


def _forbidden(opcode: str, argument: object) -> str:
    # INST, PERSID and the EXT opcodes say themselves what they would make.
    what = f" {show(argument)}" if isinstance(argument, str) else f" {argument}" if isinstance(argument, int) else ""
    return f"the pickle has the opcode {opcode}{what}, which has no place in it"


_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    }
)
_CONSTANTS: dict[str, Callable[[], Node]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_ACTIONS: dict[str, Callable[[_Walk, Any], None]] = {
    "PROTO": lambda _walk, _version: None,
    "FRAME": _Walk.frame,
    "MARK": _Walk.mark,
    "TUPLE": _Walk.tuple_,
    "TUPLE1": lambda walk, _: walk.tuple_of(1),
    "TUPLE2": lambda walk, _: walk.tuple_of(2),
    "TUPLE3": lambda walk, _: walk.tuple_of(3),
    "LIST": _Walk.list_,
    "DICT": _Walk.dict_,
    "APPEND": _Walk.append,
    "APPENDS": _Walk.appends,
    "SETITEM": _Walk.set_item,
    "SETITEMS": _Walk.set_marked,
    "PUT": _Walk.remember,
    "BINPUT": _Walk.remember,
    "LONG_BINPUT": _Walk.remember,
    "MEMOIZE": _Walk.memoize,
    "GET": _Walk.recall,
    "BINGET": _Walk.recall,
    "LONG_BINGET": _Walk.recall,
    "GLOBAL": _Walk.name,
    "STACK_GLOBAL": _Walk.stack_name,
    "NEWOBJ": _Walk.new,
    "REDUCE": _Walk.reduce,
    "BUILD": _Walk.build,
}
