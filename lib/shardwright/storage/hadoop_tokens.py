"""Hadoop's delegation tokens: what a container of YARN has in place of a Kerberos ticket.

HADOOP_TOKEN_FILE_LOCATION names a file in the format of org.apache.hadoop.security.Credentials (`writeTokenStorageToStream`,
version 0), of Writables: https://hadoop.apache.org/docs/stable/api/org/apache/hadoop/io/WritableUtils.html. What is read here
is a secret: it is never shown.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from shardwright.errors import StorageError

VARIABLE = "HADOOP_TOKEN_FILE_LOCATION"
_HDFS = "HDFS_DELEGATION_TOKEN"
_MAGIC, _WRITABLES, _PROTOBUF = b"HDTS", 0, 1


@dataclass(frozen=True)
class Token:
    """A token for one service, such as ``ha-hdfs:ns1`` or ``10.0.0.5:8020``, and when its life ends, renewed or not."""

    service: str
    ends: datetime
    secret: str = field(repr=False)
    """As WebHDFS takes it (`Token.encodeToUrlString`)."""


def hdfs_tokens() -> list[Token]:
    """The tokens for HDFS that this process was given; none where it is not in a container.

    Raises StorageError for a file that is no file of tokens.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return []
    try:
        data = Path(path).read_bytes()
        return list(_tokens(data))
    except (OSError, IndexError, UnicodeDecodeError, ValueError) as error:
        raise StorageError(f"{VARIABLE} is {path}: expected a file of Hadoop's delegation tokens: {error}") from None


def token_for(service: str) -> Token | None:
    """The token for this service, or the only one that there is."""
    found = hdfs_tokens()
    named = next((token for token in found if token.service == service), None)
    return named or (found[0] if len(found) == 1 else None)


def service_of(server: str) -> str:
    """What the token for a NameNode or nameservice is called; `server` is hdfs://host:port or hdfs://nameservice.

    By the address in place of the name, which is Hadoop's default (hadoop.security.token.service.use_ip).
    """
    parts = urlsplit(server)
    if parts.port is None:
        return f"ha-hdfs:{parts.netloc}"
    try:
        return f"{socket.gethostbyname(parts.hostname or '')}:{parts.port}"
    except OSError:
        return parts.netloc


def as_tokens_have_it(server: str) -> str:
    """hdfs://host:port by its address, where there is a token for that: hdfs-native finds it by this text alone."""
    service = service_of(server)
    known = {token.service for token in hdfs_tokens()}
    return f"hdfs://{service}" if service in known and not service.startswith("ha-hdfs:") else server


def _tokens(data: bytes) -> Iterator[Token]:
    reader = _Reader(data)
    magic, version = reader.take(len(_MAGIC)), reader.take(1)[0]
    if magic != _MAGIC or version not in (_WRITABLES, _PROTOBUF):
        raise ValueError("it does not begin with HDTS and a version of 0 or 1")
    if version == _PROTOBUF:  # of `hdfs fetchdt`, not of YARN; hdfs-native reads these by itself
        return
    for _ in range(reader.number()):
        reader.text()  # an alias
        begin = reader.at
        identifier, _password, kind, service = reader.text(), reader.text(), reader.text(), reader.text()
        if kind.decode() == _HDFS:
            secret = base64.urlsafe_b64encode(data[begin : reader.at]).rstrip(b"=").decode()
            yield Token(service.decode(), _end_of(identifier), secret)


def _end_of(identifier: bytes) -> datetime:
    """The max date of an AbstractDelegationTokenIdentifier."""
    reader = _Reader(identifier)
    reader.take(1)  # the version
    for _ in ("owner", "renewer", "real user"):
        reader.text()
    reader.number()  # when it was issued
    return datetime.fromtimestamp(reader.number() / 1000, UTC)


class _Reader:
    """Reads Hadoop's Writables."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes. Raises ValueError where there are not so many."""
        if count < 0 or self.at + count > len(self._data):
            raise ValueError("it ends too soon")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self) -> int:
        """A VInt or VLong: one byte, or as many as the first one says, the most significant first."""
        first = int.from_bytes(self.take(1), signed=True)
        if first >= -112:
            return first
        negative = first < -120
        value = int.from_bytes(self.take(-(first + 120) if negative else -(first + 112)))
        return ~value if negative else value

    def text(self) -> bytes:
        """Bytes after their number."""
        return self.take(self.number())
