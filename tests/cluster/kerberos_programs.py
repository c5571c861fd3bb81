"""MIT Kerberos for the tests: its servers, and the Python packages of the extra `kerberos`, which have to be compiled.

What the machine has installed is taken; else Debian's packages are unpacked in the user's cache, where they need no root.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import ROOT

_SERVERS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PACKAGES = (
    "krb5-kdc", "krb5-admin-server", "krb5-user", "libkrb5-dev", "krb5-multidev", "comerr-dev", "libgssrpc4", "libss2",
    "libkadm5clnt-mit12", "libkadm5srv-mit12", "libkdb5-10", "libverto1", "libverto-libev1", "libev4", "libgssapi-krb5-2",
    "libkrb5-3", "libk5crypto3", "libkrb5support0",
)  # fmt: skip
_ADVICE = """The tests of secure clusters need the servers of MIT Kerberos, its headers and a C compiler. Install them:
  Debian, Ubuntu   apt install krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc
  RHEL, Fedora     dnf install krb5-server krb5-workstation krb5-devel gcc
  macOS            brew install krb5"""
_SECONDS = 600


@dataclass(frozen=True)
class Programs:
    """Where the programs lie: below `root`, which is None where they are installed."""

    root: Path | None

    def path(self, name: str) -> str:
        """A program's."""
        found = shutil.which(name, path=_path(self.root))
        assert found, f"no program {name}"
        return found

    @property
    def libraries(self) -> Path | None:
        """The directory of the libraries that they run with."""
        return next(self.root.glob("usr/lib/*/libkrb5.so.3")).parent if self.root else None

    @property
    def environment(self) -> dict[str, str]:
        """What the programs need in their environment."""
        return {"LD_LIBRARY_PATH": str(self.libraries)} if self.root else {}


@functools.cache
def programs() -> Programs:
    """The servers and the headers. Raises RuntimeError with advice where they are neither installed nor can be fetched."""
    if all(shutil.which(name, path=_path(None)) for name in (*_SERVERS, "krb5-config")):
        return Programs(None)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(_ADVICE)
    return Programs(_made("kerberos", repr(_PACKAGES), _unpack))


@functools.cache
def python_packages() -> Path:
    """A directory for PYTHONPATH with what the extra `kerberos` names, compiled for this Python; in the locked versions."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["kerberos"]
    lock = (ROOT / "requirements.lock").read_text()
    return _made("kerberos-python", repr((extra, lock, sys.version)), functools.partial(_compile, extra))


def make_importable() -> None:
    """The packages of the extra, in this process too."""
    if find_spec("requests_kerberos") is None:
        sys.path.append(str(python_packages()))


def _path(root: Path | None) -> str:
    folders = ("/usr/sbin", "/usr/bin")
    return os.pathsep.join(f"{root}{folder}" for folder in folders) if root else os.pathsep.join((os.environ["PATH"], *folders))


def _unpack(folder: Path) -> None:
    fetched = folder / "packages"
    fetched.mkdir()
    try:
        _run("apt-get", "download", *_PACKAGES, cwd=fetched)
    except RuntimeError:  # a machine whose lists are of another day, or that has none yet
        _run("apt-get", "update", cwd=fetched)
        _run("apt-get", "download", *_PACKAGES, cwd=fetched)
    for package in sorted(fetched.glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(folder), cwd=fetched)
    shutil.rmtree(fetched)


def _compile(extra: list[str], folder: Path) -> None:
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        raise RuntimeError(_ADVICE)
    pins = folder / "pins.txt"
    pins.write_text((ROOT / "requirements.lock").read_text())
    installer = [
        shutil.which("uv") or f"{sysconfig.get_path('scripts')}/uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
    ]
    _run(*installer, "--target", str(folder), "--constraints", str(pins), *extra, cwd=folder, environment=_flags(programs()))


def _flags(found: Programs) -> dict[str, str]:
    """What lets the packages' own build scripts find unpacked headers."""
    if found.root is None:
        return {}
    include, libraries = found.root / "usr/include", found.libraries
    headers = f"-I{include} -I{include}/mit-krb5"
    links = f"-L{libraries} -L{libraries}/mit-krb5"
    return {
        **found.environment, "PATH": f"{found.root}/usr/bin{os.pathsep}{os.environ['PATH']}",
        "GSSAPI_MAIN_LIB": f"{libraries}/libgssapi_krb5.so.2", "GSSAPI_COMPILER_ARGS": f"{headers} -DHAS_GSSAPI_EXT_H",
        "GSSAPI_LINKER_ARGS": f"{links} -lgssapi_krb5", "CFLAGS": headers, "LDFLAGS": links,
    }  # fmt: skip


def _made(name: str, content: str, make: Callable[[Path], None]) -> Path:
    """A directory in the user's cache, named by what decides its content. One that is complete is never changed again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shardwright")
    folder = cache / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


def _run(*command: str, cwd: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{done.stdout[-3000:]}\n{_ADVICE}")
