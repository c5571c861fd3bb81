"""Whom a keytab logs in."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from shardwright.errors import ConfigError
from shardwright.spark.keytab import check_keytab


def entry(principal: str) -> bytes:
    """One as kadmin writes it."""
    name, realm = principal.split("@")
    texts = [realm, *name.split("/")]
    names = b"".join(struct.pack(">H", len(text)) + text.encode() for text in texts)
    body = struct.pack(">H", len(texts) - 1) + names + struct.pack(">IIBHH", 1, 0, 1, 18, 32) + bytes(32)
    return struct.pack(">i", len(body)) + body


@pytest.fixture
def keytab(tmp_path: Path) -> Path:
    path = tmp_path / "ada.keytab"
    hole = struct.pack(">i", -12) + bytes(12)
    path.write_bytes(b"\x05\x02" + hole + entry("ada@EXAMPLE.ORG") + entry("HTTP/host@EXAMPLE.ORG"))
    return path


def test_its_first_principal_with_or_without_realm(keytab: Path) -> None:
    check_keytab(str(keytab), "ada@EXAMPLE.ORG")
    check_keytab(str(keytab), "ada")


@pytest.mark.parametrize("principal", ["HTTP/host@EXAMPLE.ORG", "ada@ELSEWHERE.ORG", "EXAMPLE.ORG"])
def test_another_principal(keytab: Path, principal: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {principal} as its first entry, found ada@EXAMPLE.ORG"):
        check_keytab(str(keytab), principal)


def test_no_principal(keytab: Path) -> None:
    with pytest.raises(ConfigError, match="expected --principal beside --keytab"):
        check_keytab(str(keytab), None)


@pytest.mark.parametrize(
    "data", [b"", b"\x05\x01", b"\x05\x02", b"\x05\x02\x00\x00\x00\x00", b"\x05\x02" + entry("ada@E.ORG")[:12]]
)
def test_no_keytab(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="expected a Kerberos keytab"):
        check_keytab(str(path), "ada@E.ORG")
