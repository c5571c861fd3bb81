"""Whom a Kerberos keytab logs in.

MIT's library takes the first entry of KRB5_CLIENT_KTNAME, Spark the one that --principal names: they have to be one.
The format: https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html (version 2).
"""

from __future__ import annotations

import struct
from pathlib import Path

from shardwright.errors import ConfigError

_VERSION_2 = b"\x05\x02"


def check_keytab(path: str, principal: str | None) -> None:
    """Raise ConfigError where `path` is no keytab, or its first entry is another principal's than `principal`."""
    if principal is None:
        raise ConfigError(["expected --principal beside --keytab: ada@EXAMPLE.ORG"])
    try:
        first = _first_principal(Path(path).read_bytes())
    except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ConfigError([f"--keytab {path}: expected a Kerberos keytab: {error}"]) from None
    if principal not in (first, first.rpartition("@")[0]):
        advice = "give that principal a keytab of its own (kadmin's ktadd)"
        raise ConfigError([f"--keytab {path}: expected {principal} as its first entry, found {first}; {advice}"])


def _first_principal(data: bytes) -> str:
    """``name/instance@REALM`` of the first entry that is not deleted."""
    if data[:2] != _VERSION_2:
        raise ValueError("it does not begin with 05 02")
    at = 2
    while (size := struct.unpack_from(">i", data, at)[0]) <= 0:  # a hole, of a deleted entry
        if size == 0:
            raise ValueError("it has no entry")
        at += 4 - size
    at += 4
    (components,) = struct.unpack_from(">H", data, at)
    at += 2
    texts = []
    for _ in range(1 + components):
        (length,) = struct.unpack_from(">H", data, at)
        if at + 2 + length > len(data):
            raise ValueError("it ends too soon")
        texts.append(data[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return f"{'/'.join(texts[1:])}@{texts[0]}"
