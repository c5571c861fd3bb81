"""Tar files as `tarfile` and GNU tar write them, and such as nobody should: every one is read, or its damage is named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import InputError
from shardwright.sources import tar
from shardwright.sources.files import find_files
from shardwright.sources.tar import open_tar

Contents = list[tuple[str, bytes]]


def made(members: Contents, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read(path: Path, data: bytes) -> list[tuple[str, bytes | str]]:
    """The members in a file of those bytes; of one that has no content, why."""
    path.write_bytes(data)
    with open_tar(find_files(path)[0]) as members:
        return [(member.name, member.problem or member.read()) for member in members]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members(compress: Callable[[bytes], bytes], format_: int, tmp_path: Path) -> None:
    long = "folder/" * 30 + "x.bin" if format_ != tarfile.USTAR_FORMAT else "x.bin"
    members = [("a.txt", b"hello"), ("b", b""), (long, bytes(range(256)) * 7), ("größe.txt", b"\0" * 512)]
    assert read(tmp_path / "x", compress(made(members, format_))) == members


def test_folders_are_no_members_and_links_are_not_followed(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("p", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("../../etc/cron.d/x"))
    found = read(tmp_path / "x", out.getvalue())
    assert [name for name, _ in found] == ["s", "h", "p", "../../etc/cron.d/x"]
    assert [str(what).partition(",")[0] for _, what in found[:3]] == ["a symbolic link", "a hard link", "a device or pipe"]
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    data = made([("a?.txt", b"x")], tarfile.USTAR_FORMAT)
    header = bytearray(data[:512].replace(b"a?", b"a\xff"))
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    assert read(tmp_path / "x", bytes(header) + data[512:]) == [("a\\xff.txt", b"x")]


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with a size field as it should not be, and the right checksum."""
    block = bytearray(512)
    block[: len(name)], block[100:108], block[124:136], block[156:157] = name, b"0000644\0", size, kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


PAX_SIZE = b"28 size=-10000000000000000\n" + b"\0" * (512 - 27)
HOSTILE = {
    "no tar": (b"no tar at all" * 100, "invalid header"),
    "empty": (b"", "empty file"),
    "negative": (header(b"x", b"\xff" * 12) + bytes(1024), "lies about its size"),
    "larger than the file": (header(b"x", b"00077777777\0") + bytes(1024), "unexpected end of data|cut short"),
    "petabytes": (header(b"x", b"\x80" + bytes(3) + b"\xff" * 8) + bytes(1024), "a header that can't be"),
    "a long name of gigabytes": (header(b"x", b"07777777777\0", b"L") + bytes(1024), "header of at most 1048576 bytes"),
    "pax attributes of gigabytes": (header(b"x", b"07777777777\0", b"x") + bytes(1024), "header of at most 1048576 bytes"),
    "global ones": (header(b"x", b"07777777777\0", b"g") + bytes(1024), "header of at most 1048576 bytes"),
    "global ones of less than nothing": (
        header(b"x", b"\xff" * 10 + bytes(2), b"g") + bytes(1024), "header of at most 1048576 bytes, found one of -65536"
    ),
    "pax says a negative size": (
        header(b"p", b"00000000033\0", b"x") + PAX_SIZE + header(b"x", b"00000000000\0") + bytes(1024), "lies about its size"
    ),
    "headers in headers": (header(b"p", b"00000000000\0", b"x") * 5000 + bytes(1024), "can't be"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(name: str, tmp_path: Path) -> None:
    data, problem = HOSTILE[name]
    with pytest.raises(InputError, match=rf"x: expected a tar file, found one that can't be read.*({problem})"):
        read(tmp_path / "x", data)


def test_damage_is_not_the_end(tmp_path: Path) -> None:
    """`tarfile` takes a broken header in the middle for the end, and a file that was cut between members for a whole one."""
    whole = made([("a", b"x" * 600), ("b", b"y")])
    second = 512 + 1024
    broken = bytearray(whole)
    broken[second] ^= 1
    with pytest.raises(InputError, match=rf"byte {second}: expected a member, or the zeros that end a tar file, found b'c"):
        read(tmp_path / "x", bytes(broken))
    with pytest.raises(InputError, match=rf"byte {second}: .* found the end of the file: it is cut short"):
        read(tmp_path / "x", whole[:second])
    with pytest.raises(InputError, match="one tar file behind another"):
        read(tmp_path / "x", whole + whole)
    with pytest.raises(InputError, match="'a' is cut short: expected 600 bytes, found 10"):
        read(tmp_path / "x", whole[: 512 + 10])
    for cut in (100, second + 100, second + 512):
        with pytest.raises(InputError, match="can't be read"):
            read(tmp_path / "x", whole[:cut])
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path / "x", gzip.compress(whole)[:-3])


def test_a_sparse_file_is_not_expanded(tmp_path: Path) -> None:
    block = bytearray(header(b"x", b"00000000000\0", b"S"))
    block[257:265] = b"ustar  \0"
    block[483:495] = b"07777777777\0"  # its size when expanded: 1 GiB
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (found,) = read(tmp_path / "x", bytes(block) + bytes(1024))
    assert str(found[1]).startswith("a sparse file, which is not expanded")


def test_a_member_that_no_column_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_VALUE_BYTES", 10)
    assert read(tmp_path / "x", made([("a", b"x" * 11), ("b", b"y")])) == [
        ("a", "expected at most 10 bytes, found 11"),
        ("b", b"y"),
    ]


@given(data=st.binary(max_size=3000), at=st.integers(0, 2000), by=st.integers(1, 255))
def test_whatever_bytes_are_read_or_refused(data: bytes, at: int, by: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tar")
    whole = bytearray(made([("a.txt", data[:700]), ("dir/" * 40 + "b", data[:10])]))
    whole[at % len(whole)] ^= by
    for content in (bytes(whole), bytes(whole[: at + 1]), data, header(b"x", b"00000000100\0") + data):
        with suppress(InputError):
            found = read(folder / "x", content)
            assert len(found) <= 8
