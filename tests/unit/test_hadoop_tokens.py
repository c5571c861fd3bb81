"""Files of delegation tokens, as Hadoop writes them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shardwright.errors import StorageError
from shardwright.storage.hadoop_tokens import VARIABLE, as_tokens_have_it, hdfs_tokens, service_of, token_for

_FILE = base64.b64decode(
    "SERUUwABDzEyNy4wLjAuMToxMDczODcAH2hkZnMvbG9jYWxob3N0QFNIQVJEV1JJR0hULlRFU1QEeWFybgCKAaIwzX/eigGiVNoD3gECFNlS26SeFJOmF8DpHHgC"
    "Muo7mMZdFUhERlNfREVMRUdBVElPTl9UT0tFTg8xMjcuMC4wLjE6MTA3MzgA"
)
"""By `hdfs fetchdt` of Hadoop 3.5, for a NameNode of a test that is long gone."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tokens"
    path.write_bytes(_FILE)
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.mark.usefixtures("file")
def test_what_hadoop_wrote() -> None:
    (token,) = hdfs_tokens()
    assert token.service == "127.0.0.1:10738"
    assert token.ends == datetime(2026, 12, 8, 8, 51, 43, 710_000, UTC)
    assert token.secret not in repr(token)
    padded = token.secret + "=" * (-len(token.secret) % 4)
    assert base64.urlsafe_b64decode(padded) in _FILE
    assert token_for("ha-hdfs:another") == token  # the only one
    assert as_tokens_have_it("hdfs://localhost:10738") == "hdfs://127.0.0.1:10738"
    assert as_tokens_have_it("hdfs://localhost:10739") == "hdfs://localhost:10739"
    assert as_tokens_have_it("hdfs://ns1") == "hdfs://ns1"


def test_services() -> None:
    assert service_of("hdfs://ns1") == "ha-hdfs:ns1"
    assert service_of("hdfs://localhost:8020") == "127.0.0.1:8020"
    assert service_of("hdfs://no-such-host.invalid:8020") == "no-such-host.invalid:8020"


def test_no_file_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert hdfs_tokens() == []
    assert token_for("ha-hdfs:ns1") is None


@pytest.mark.parametrize("length", [0, 4, 5, 20, len(_FILE) - 2])
def test_a_file_that_ends_too_soon(file: Path, length: int) -> None:
    file.write_bytes(_FILE[:length])
    with pytest.raises(StorageError, match=f"{VARIABLE} is .*: expected a file of Hadoop's delegation tokens"):
        hdfs_tokens()


def test_the_other_format_is_left_to_hdfs_native(file: Path) -> None:
    file.write_bytes(b"HDTS\x01" + bytes(20))
    assert hdfs_tokens() == []


def test_a_file_that_is_not_there_or_another(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(StorageError, match="HDTS"):
        hdfs_tokens()
    file.unlink()
    with pytest.raises(StorageError, match="No such file"):
        hdfs_tokens()
