"""A throwaway Kerberos realm on loopback: its KDC, keytabs and tickets, and the settings of a Hadoop that asks for them."""

from __future__ import annotations

import base64
import functools
import importlib
import os
import re
import secrets
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.daemon import MARK, Daemon, Guard, listens, wait_until
from tests.cluster.kerberos_programs import make_importable, programs
from tests.processes import free_ports

REALM = "SHARDWRIGHT.TEST"
_SERVICES = {"hdfs": ("hdfs/localhost", "HTTP/localhost", "HTTP/127.0.0.1"), "yarn": ("yarn/localhost", "HTTP/localhost")}
"""Keytabs of daemons, and the principals in each."""
_KRB5 = """\
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 forwardable = true
 ticket_lifetime = 8h
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {realm}
[dbmodules]
 db_module_dir = {modules}
"""
_KDC = """\
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principals
  key_stash_file = {folder}/stash
  max_life = 10h
  max_renewable_life = 24h
  supported_enctypes = aes256-cts-hmac-sha1-96:normal
 }}
"""


class Kdc:
    """The realm `REALM`, with a principal for each user who asks for a keytab or a ticket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (port,) = free_ports(1)
        self.folder, self._port = folder, port
        self.config = folder / "krb5.conf"
        libraries = programs().libraries or Path("/usr/lib")
        self.config.write_text(_KRB5.format(realm=REALM, port=port, modules=libraries / "krb5/plugins/kdb"))
        if programs().root is None:  # an installed one knows where its modules are
            self.config.write_text(self.config.read_text().partition("[dbmodules]")[0])
        (folder / "kdc.conf").write_text(_KDC.format(realm=REALM, port=port, folder=folder))
        (folder / "signatures").write_text(secrets.token_hex(16))
        self._names: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        """What every process needs that logs in to the realm, or talks to who did."""
        return {"KRB5_CONFIG": str(self.config)}

    @property
    def java_options(self) -> str:
        """The same for a JVM, which does not look at the environment."""
        return f"-Djava.security.krb5.conf={self.config}"

    def start(self) -> None:
        """Make the database, and serve."""
        self._guard = Guard(str(self.folder))
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", secrets.token_hex(16))
        environment = {**self._environment, MARK: str(self.folder)}
        self._daemon = Daemon("kdc", [programs().path("krb5kdc"), "-n"], environment, self.folder / "kdc.log")
        self._daemon.start()
        wait_until(lambda: listens(self._port), "the KDC", 30, [self._daemon])

    def stop(self) -> list[str]:
        """End it; the command lines of processes that were left over."""
        self._daemon.stop()
        return self._guard.close()

    def keytab(self, name: str) -> Path:
        """That of a daemon's account or of a user; a stranger is made known first."""
        path = self.folder / f"{name}.keytab"
        if not path.exists():
            for principal in _SERVICES.get(name, (name,)):
                self._know(principal)
                self._run("kadmin.local", "-q", f"ktadd -norandkey -k {path} {principal}")
        return path

    def ticket(self, name: str, *, lifetime: str = "8h", cache: Path | None = None) -> Path:
        """A ticket cache of a user, with one that holds for `lifetime`; a `cache` that is there gets a new one."""
        cache = cache or self.folder / f"{name}-{secrets.token_hex(4)}.cache"
        principal = _SERVICES.get(name, (name,))[0]
        self._run("kinit", "-k", "-t", str(self.keytab(name)), "-l", lifetime, "-c", f"FILE:{cache}", principal)
        return cache

    @functools.cached_property
    def superuser(self) -> Path:
        """A ticket cache of HDFS's superuser."""
        return self.ticket("hdfs")

    def authorisation(self) -> str:
        """What a superuser's HTTP request says in its Authorization header, to daemons on whatever host."""
        make_importable()
        gssapi: Any = importlib.import_module("gssapi")
        os.environ.update(self.environment)
        held = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{self.superuser}"})
        server = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
        token = gssapi.SecurityContext(name=server, creds=held, usage="initiate", mech=gssapi.MechType.kerberos).step()
        return f"Negotiate {base64.b64encode(token or b'').decode()}"

    def core(self) -> dict[str, object]:
        """For core-site.xml."""
        return {
            "hadoop.security.authentication": "kerberos",
            "hadoop.security.authorization": "true",
            "hadoop.http.authentication.type": "kerberos",  # else WebHDFS believes ?user.name=…
            "hadoop.http.authentication.kerberos.principal": "*",
            "hadoop.http.authentication.kerberos.keytab": self.keytab("hdfs"),
            "hadoop.http.authentication.signature.secret.file": self.folder / "signatures",
        }

    def hdfs(self) -> dict[str, object]:
        """For hdfs-site.xml."""
        principal = f"hdfs/localhost@{REALM}"
        keytab = self.keytab("hdfs")
        daemons = ("namenode", "datanode", "journalnode")
        return {
            **{f"dfs.{daemon}.kerberos.principal": principal for daemon in daemons},
            **{f"dfs.{daemon}.keytab.file": keytab for daemon in daemons},
            **{f"dfs.{daemon}.kerberos.internal.spnego.principal": "*" for daemon in ("namenode", "journalnode")},
            "dfs.web.authentication.kerberos.principal": "*",
            "dfs.web.authentication.kerberos.keytab": keytab,
            "dfs.block.access.token.enable": "true",
            "dfs.data.transfer.protection": "authentication",
            "dfs.http.policy": "HTTP_ONLY",
            "ignore.secure.ports.for.testing": "true",  # else it takes root, or certificates, to start a DataNode
        }

    def yarn(self) -> dict[str, object]:
        """For yarn-site.xml."""
        daemons = ("resourcemanager", "nodemanager")
        return {
            **{f"yarn.{daemon}.principal": f"yarn/localhost@{REALM}" for daemon in daemons},
            **{f"yarn.{daemon}.keytab": self.keytab("yarn") for daemon in daemons},
        }

    @property
    def _environment(self) -> dict[str, str]:
        own = {"KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"), **self.environment, **programs().environment}
        return {**os.environ, **own}

    def _know(self, principal: str) -> None:
        if principal not in self._names:
            self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
            self._names.add(principal)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs().path(name), *arguments], env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert not re.search(r"^kadmin.local: .*while", done.stdout, re.M), done.stdout
