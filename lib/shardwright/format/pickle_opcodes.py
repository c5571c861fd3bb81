"""The few pickle opcodes that Petastorm's metadata needs, as bytes; nothing here imports, reads or runs a pickle.

Each function but the last two returns a program that leaves one value on the stack of whoever loads it. Protocol 2,
which every Python that Petastorm ever ran on can load. Source of the opcodes: CPython's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

NONE = b"N"
_PROTO_2, _STOP = b"\x80\x02", b"."
_MARK, _EMPTY_TUPLE, _TUPLE = b"(", b")", b"t"
_EMPTY_DICT, _SETITEMS = b"}", b"u"
_REDUCE, _NEWOBJ, _BUILD = b"R", b"\x81", b"b"


def program(value: bytes) -> bytes:
    """A whole pickle that loads as `value`."""
    return _PROTO_2 + value + _STOP


def named(module: str, name: str) -> bytes:
    """What `module` calls `name` (GLOBAL)."""
    return f"c{module}\n{name}\n".encode("ascii")


def text(value: str) -> bytes:
    """A str (BINUNICODE)."""
    data = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    """An int of at most 255 bytes: BININT where 32 bits hold it, else LONG1."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + struct.pack("<B", size) + value.to_bytes(size, "little", signed=True)


def boolean(value: bool) -> bytes:
    """A bool (NEWTRUE, NEWFALSE)."""
    return b"\x88" if value else b"\x89"


def sequence(items: Iterable[bytes]) -> bytes:
    """A tuple of values."""
    content = b"".join(items)
    return _MARK + content + _TUPLE if content else _EMPTY_TUPLE


def mapping(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A dict of keys and values, in order."""
    return _EMPTY_DICT + set_items(items)


def call(function: bytes) -> bytes:
    """What `function` returns without arguments (REDUCE)."""
    return function + _EMPTY_TUPLE + _REDUCE


def instance(cls: bytes, arguments: bytes = _EMPTY_TUPLE, state: bytes | None = None) -> bytes:
    """``cls.__new__(cls, *arguments)`` (NEWOBJ), with `state`, a dict, as its attributes (BUILD)."""
    return cls + arguments + _NEWOBJ + (state + _BUILD if state else b"")


def recall(number: int) -> bytes:
    """The value remembered as `number` (LONG_BINGET)."""
    return b"j" + struct.pack("<I", number)


def set_items(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Put keys and values into the mapping that lies on top of the stack (SETITEMS)."""
    content = b"".join(key + value for key, value in items)
    return _MARK + content + _SETITEMS if content else b""


def remember(number: int) -> bytes:
    """Let `recall(number)` be the value on top of the stack (LONG_BINPUT)."""
    return b"r" + struct.pack("<I", number)
