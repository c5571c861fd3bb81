"""The NameNode over HTTP, for what hdfs-native lacks: where blocks lie, storage policies, erasure coding, quotas.

Operations and answers: https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html.
"""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from shardwright.errors import MissingDependencyError, StorageError
from shardwright.storage.hadoop import configuration, configuration_directory, is_secure, rpc_url, web_addresses
from shardwright.storage.hadoop_tokens import Token, service_of, token_for

if TYPE_CHECKING:
    import requests

_TIMEOUT = (5.0, 60.0)
"""Seconds to connect, and between two bytes of an answer."""
_OTHER_NAMENODE = ("StandbyException", "RetriableException")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a file: its bytes, and where its replicas lie, host names and ip:port of DataNodes in one order."""

    offset: int
    length: int
    hosts: tuple[str, ...]
    names: tuple[str, ...]


class WebHdfs:
    """Asks the NameNode of an hdfs://, webhdfs:// or swebhdfs:// URL; of a nameservice the one that is active.

    Threads may share it. The user is HADOOP_USER_NAME, or who runs this process; of a secure cluster who has the Kerberos
    ticket (SPNEGO, RFC 4559), or in a container the delegation token. Raises MissingDependencyError without requests, or
    requests-kerberos on a secure cluster, StorageError for a URL that leads to no NameNode.
    """

    def __init__(self, url: str) -> None:
        try:
            import requests
        except ImportError as error:
            raise MissingDependencyError("WebHDFS needs requests: pip install 'shardwright[hdfs]'") from error
        self._requests = requests
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        self.server = f"{scheme}://{authority}"
        self.path = f"/{path.strip('/')}"
        """That of the URL as Hadoop has it: ?, # and % stand for themselves."""
        settings = configuration()
        self.addresses = web_addresses(url, settings)
        self._secure = is_secure(settings)
        self._token = web_token(url, settings)
        if self._secure and not self._token:
            kerberos_login()  # says what to install
        self.user = os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        self._active = 0
        self._sessions = threading.local()

    def call(
        self, method: Literal["GET", "PUT", "POST", "DELETE"], op: str, path: str, **parameters: str | int | bool
    ) -> dict[str, Any]:
        """The JSON that an operation answers, {} where it answers nothing; `path` is absolute.

        Raises FileNotFoundError for a path that does not exist, StorageError for anything else that the NameNode refuses, and
        when none can be asked.
        """
        failures = []
        first = self._active
        for turn in range(len(self.addresses)):
            number = (first + turn) % len(self.addresses)
            address = self.addresses[number]
            try:
                answer = self._ask(method, address, path, op, parameters)
            except (self._requests.RequestException, _NotActiveError) as error:
                if type(error).__name__ == "KerberosExchangeError":
                    raise StorageError(f"{address}: {_login_advice(secure=True)} ({_reason(error)})") from None
                failures.append(f"{address} ({_reason(error)})")
                continue
            self._active = number
            return answer
        directory = configuration_directory()
        raise StorageError(
            f"can't ask {self.server}{path} over WebHDFS: tried {', '.join(failures)}; dfs.namenode.http-address in "
            f"hdfs-site.xml of HADOOP_CONF_DIR ({directory or 'not set'}) says where, else it is port 9870 of the NameNode"
        )

    def block_locations(self, path: str) -> list[Block]:
        """The blocks of a file, in order."""
        answer = self.call("GET", "GETFILEBLOCKLOCATIONS", path)
        try:
            found = answer["BlockLocations"]["BlockLocation"]
            return [
                Block(
                    offset=int(one["offset"]), length=int(one["length"]),
                    hosts=tuple(map(str, one["hosts"])), names=tuple(map(str, one["names"])),
                )
                for one in found
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{self.server}{path}: expected BlockLocations from WebHDFS, found {answer!r:.200}") from error

    def _ask(self, method: str, address: str, path: str, op: str, parameters: dict[str, str | int | bool]) -> dict[str, Any]:
        url = f"{address}/webhdfs/v1{quote(path)}"
        texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parameters.items()}
        if not self._secure:
            texts["user.name"] = self.user
        elif self._token:
            texts["delegation"] = self._token.secret
        answer = self._session.request(method, url, params={"op": op, **texts}, timeout=_TIMEOUT, allow_redirects=False)
        if answer.status_code == 401:
            raise StorageError(f"{url}: the NameNode asks for a login (HTTP 401): {_login_advice(secure=self._secure)}")
        try:
            found = (answer.json() if answer.content else None) or {}  # null: no erasure-coding policy
        except ValueError:
            found = None
        if not isinstance(found, dict) or (answer.status_code >= 300 and "RemoteException" not in found):
            kind = answer.headers.get("Content-Type", "no type")
            raise StorageError(f"{url}: expected WebHDFS, found HTTP {answer.status_code} {answer.reason} ({kind})")
        if "RemoteException" in found:
            _refused(found["RemoteException"], f"{self.server}{path}", self.user)
        return found

    @property
    def _session(self) -> requests.Session:
        """This thread's own. No proxy of the environment is asked for a cluster's addresses; Hadoop's clients don't either."""
        if not hasattr(self._sessions, "mine"):
            session = self._requests.Session()
            session.trust_env = False
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
            session.auth = kerberos_login() if self._secure and not self._token else None  # it has a state: one a thread
            self._sessions.mine = session
        mine: requests.Session = self._sessions.mine
        return mine


def kerberos_login() -> Any:
    """What requests authenticates with by SPNEGO. Raises MissingDependencyError."""
    try:
        from requests_kerberos import OPTIONAL, HTTPKerberosAuth
    except ImportError as error:
        raise MissingDependencyError(
            "WebHDFS of a secure cluster needs requests-kerberos: pip install 'shardwright[kerberos]' (it is compiled: "
            "apt install libkrb5-dev gcc, or dnf install krb5-devel gcc)"
        ) from error
    return HTTPKerberosAuth(mutual_authentication=OPTIONAL)


def web_token(url: str, settings: Mapping[str, str]) -> Token | None:
    """The delegation token for the NameNode of a URL, where this process has one and the cluster wants it."""
    return token_for(service_of(rpc_url(url, settings))) if is_secure(settings) else None


def _login_advice(*, secure: bool) -> str:
    if secure:
        return "there is no valid Kerberos ticket: run kinit (klist shows it), or set KRB5_CLIENT_KTNAME=FILE:/path/to/keytab"
    return "set HADOOP_CONF_DIR to the cluster's configuration, with hadoop.security.authentication, and run kinit"


class _NotActiveError(Exception):
    """This NameNode is the standby, or not ready."""


def _refused(remote: dict[str, Any], where: str, user: str) -> None:
    """Raise what a RemoteException means."""
    kind = str(remote.get("exception", "RemoteException"))
    message = str(remote.get("message", "")).partition("\n")[0].strip()
    if kind in _OTHER_NAMENODE:
        raise _NotActiveError(message)
    if kind == "FileNotFoundException":
        raise FileNotFoundError(f"{where} does not exist")
    if kind == "AccessControlException":
        raise StorageError(f"{where}: no permission for user {user!r}: {message}")
    raise StorageError(f"{where}: {kind}: {message}")


def _reason(error: Exception) -> str:
    """Why a NameNode could not be asked, without the nesting of requests and urllib3."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return getattr(inner, "strerror", None) or str(inner).partition("\n")[0]
