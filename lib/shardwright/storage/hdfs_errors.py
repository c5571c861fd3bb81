r"""What hdfs-native raises, as errors that say what was done, where, and what helps; and how long trying again makes sense.

hdfs-native raises FileNotFoundError, FileExistsError and OSError, all else as RuntimeError with the text of a Rust value, such
as ``RPCError("java.class", "message\n\tat …")``, and where it finds itself in the wrong a PanicException, no Exception. The
texts of the NameNode are those of Hadoop 3.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from shardwright.errors import ShardwrightError, StorageError
from shardwright.storage.hadoop import configuration_directory

T = TypeVar("T")
Kind = Literal["final", "again", "starting"]

STARTING_SECONDS = 300.0
"""How long a NameNode that has just been started, or a standby that takes over, is waited for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0

_REMOTE = re.compile(r'^(?:Fatal)?RPCError\("(?P<java>[^"]+)", "(?P<text>.*)', re.DOTALL)
_DENIED = re.compile(r'user=(?P<user>[^,]*), access=(?P<access>\w+), inode="(?P<path>.*)":(?P<owner>.*):(?P<mode>[^:]+)$')
_NAMES = re.compile(r"of directory (?P<path>.+) is exceeded: quota=(?P<quota>\d+) file count=(?P<used>\d+)")
_SPACE = re.compile(r"of (?P<path>\S+) is exceeded: quota = \d+ B = (?P<quota>.+?) but .*consumed = \d+ B = (?P<used>.+)$")


def trying(doing: str, where: str, work: Callable[[], T], *, tries: int = 1) -> T:
    """What `work` gives; what it raises is said clearly: "can't <doing> <where>: …".

    It is called up to `tries` times, with growing pauses, where another DataNode may do what one could not, and for up to
    `STARTING_SECONDS` while the NameNode starts, or where it went before it answered: it may have done `work` by then. (For one
    that is away already hdfs-native itself waits, about three minutes.)
    Raises FileNotFoundError, FileExistsError, NotADirectoryError, StorageError.
    """
    begun, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - also hdfs-native's panics
            clear, kind = clear_error(error, doing, where)
            tries -= kind == "again"
            if kind == "final" or tries < 1 or time.monotonic() - begun > STARTING_SECONDS:
                raise clear from None  # its texts are Java stack traces
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def clear_error(error: BaseException, doing: str, where: str) -> tuple[BaseException, Kind]:
    """The error to raise for `error`, and whether it is worth while to try again."""
    if isinstance(error, ShardwrightError) or not (isinstance(error, (OSError, RuntimeError)) or _is_panic(error)):
        return error, "final"
    text = str(error).partition("\n\tat ")[0].strip()
    for kind in (FileNotFoundError, FileExistsError):
        if isinstance(error, kind):
            number = errno.ENOENT if kind is FileNotFoundError else errno.EEXIST
            plain = not text.startswith(("Path is not", "rename destination parent", "Parent directory"))
            return kind(number, os.strerror(number) if plain else text, where), "final"
    if found := _REMOTE.match(text):
        remote = found["text"].partition("\\n\\tat ")[0].removesuffix('")').replace("\\n", " ").replace('\\"', '"').strip()
        return _remote_error(re.split(r"[.$]", found["java"])[-1], remote, doing, where)
    return _client_error(text, doing, where)


def _remote_error(java: str, text: str, doing: str, where: str) -> tuple[BaseException, Kind]:
    """What the NameNode refused: its exception's class and message."""
    if java == "ParentNotDirectoryException" or text.endswith("(is not a directory)"):
        return NotADirectoryError(errno.ENOTDIR, text, where), "final"
    if text.endswith("must both be directories"):
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where), "final"
    if "SafeModeException" in (java, *text.replace(":", " ").split(".")) or "in safe mode" in text:
        by_hand = "manually" in text or "resources are low" in text.lower()
        advice = "hdfs dfsadmin -safemode get tells, an administrator ends it" if by_hand else "try again in some minutes"
        message = f"can't {doing} {where}: the NameNode is in safe mode, so nothing can be written: {_sentence(text)}; {advice}"
        return StorageError(message), "final" if by_hand else "starting"
    if java in ("StandbyException", "RetriableException", "ObserverRetryOnActiveException"):
        return StorageError(f"can't {doing} {where}: no NameNode is active: {_sentence(text)}"), "starting"
    if java.endswith("QuotaExceededException") or java == "QuotaByStorageTypeExceededException":
        return StorageError(f"can't {doing} {where}: {_quota(text)}"), "final"
    if "authentication is not enabled" in text or java == "InvalidToken":
        return StorageError(_kerberos(doing, where, text)), "final"
    if java in ("AccessControlException", "AuthorizationException"):
        return StorageError(f"no permission to {doing} {where}: {_denied(text)}"), "final"
    if "could only be written to" in text:
        advice = "see `hdfs dfsadmin -report` for dead or full ones"
        if "required nodes" in text:
            advice = "its erasure-coding policy needs so many live ones: choose a smaller policy, or none"
        return StorageError(
            f"can't {doing} {where}: too few DataNodes can take a block of it: {_sentence(text)}; {advice}"
        ), "again"
    if "less than configured minimum value" in text:
        return StorageError(f"can't {doing} {where}: {_sentence(text)}; set publish.block_bytes to that at least"), "final"
    if "replication factor" in text:
        return StorageError(f"can't {doing} {where}: {_sentence(text)}; set publish.replication accordingly"), "final"
    message = f"can't {doing} {where}: the NameNode refused ({java}): {_sentence(text)}"
    return StorageError(message), "again" if java in ("LeaseExpiredException", "NotReplicatedYetException") else "final"


def _client_error(text: str, doing: str, where: str) -> tuple[BaseException, Kind]:
    """What hdfs-native could not do: `text` is of the system, or the Rust value."""
    directory = configuration_directory()
    configured = f"HADOOP_CONF_DIR is {directory}" if directory else "HADOOP_CONF_DIR is not set"
    if directory and not directory.is_dir():
        configured += ", which is not there"
    if "No NameNode hosts found" in text:
        return StorageError(f"can't {doing} {where}: no such nameservice in Hadoop's configuration; {configured}"), "final"
    if re.search(r"SASL|GSSAPI|gssapi|GSS_S|Kerberos|krb5", text):
        return StorageError(_kerberos(doing, where, text)), "final"
    if "lookup address" in text:
        return StorageError(
            f"can't {doing} {where}: a host in it has no address, nor is it a nameservice; {configured}"
        ), "again"
    if doing == "reach":
        return StorageError(
            f"can't {doing} {where}: nothing that speaks HDFS answers there ({text}): is the NameNode up, and is this its RPC "
            "port (8020 where none is said; WebHDFS's is another)? With Kerberos it wants hadoop.security.authentication "
            f"here too; {configured}"
        ), "again"
    if "listener disconnected" in text:
        return StorageError(
            f"can't {doing} {where}: the NameNode broke the connection off, again and again ({text})"
        ), "starting"
    if "onnection refused" in text:
        text = f"a DataNode did not answer, or no NameNode for minutes ({text}); hdfs dfsadmin -report shows which are dead"
    if "All DataNodes failed" in text:
        text = "none of the DataNodes that hold this block gave it (hdfs fsck -files -blocks -locations shows which they are)"
    if "UnsupportedErasureCodingPolicy" in text:
        text = f"units of an erasure-coded block are missing, and hdfs-native computes lost ones of RS policies alone ({text})"
    return StorageError(f"can't {doing} {where}: {text}"), "again"


def _quota(text: str) -> str:
    if found := _NAMES.search(text):
        path = found["path"]
        return (
            f"{path} may hold {found['quota']} files and directories, and would hold {found['used']}; see "
            f"`hdfs dfs -count -q -h {path}`, then remove old versions (shardwright expire), or ask an administrator for more "
            "(hdfs dfsadmin -setQuota)"
        )
    if found := _SPACE.search(text):
        path = found["path"]
        return (
            f"{path} may take {found['quota']}, and would take {found['used']}, copies counted, and a block that is being "
            f"written as full; see `hdfs dfs -count -q -h {path}`, then remove old versions (shardwright expire), or ask an "
            "administrator for more (hdfs dfsadmin -setSpaceQuota)"
        )
    return f"{_sentence(text)}; see `hdfs dfs -count -q -h` of its directory"


def _denied(text: str) -> str:
    if not (found := _DENIED.search(text)):
        return f"{_sentence(text)}; ask its owner, or run as a user who may"
    return (
        f"user {found['user']} lacks {found['access']} on {found['path']} (owner and group {found['owner']}, {found['mode']}); "
        "ask its owner (hdfs dfs -chmod, -chgrp, -setfacl), or run as a user who may"
    )


def _kerberos(doing: str, where: str, text: str) -> str:
    """What is wrong with the login, and what to do: by the texts of MIT Kerberos and of the NameNode."""
    container = os.environ.get("HADOOP_TOKEN_FILE_LOCATION")
    if "authentication is not enabled" in text:
        directory = configuration_directory()
        why = "the cluster asks for Kerberos, which Hadoop's configuration here does not say"
        advice = f"set HADOOP_CONF_DIR (now {directory or 'not set'}) to the cluster's own, with hadoop.security.authentication"
    elif "expired" in text and not container:
        why = "the Kerberos ticket has expired"
        advice = (
            "run kinit, and go on from the last checkpoint, or start the job again; KRB5_CLIENT_KTNAME=FILE:/path/to/keytab "
            "(of jobs: --principal and --keytab) gets new tickets by itself"
        )
    elif container and re.search("NO_CRED|No Kerberos|expired|can't be found in cache", text):
        why = f"this container has no valid delegation token for it (HADOOP_TOKEN_FILE_LOCATION is {container})"
        advice = (
            "start the job again, it goes on after its last finished pass; tokens end after "
            "dfs.namenode.delegation.token.max-lifetime, 7 days. For another HDFS than fs.defaultFS: "
            "--conf spark.kerberos.access.hadoopFileSystems=hdfs://…"
        )
    elif "NO_CRED" in text or "No Kerberos" in text:
        why = "the cluster asks for Kerberos, and there is no ticket"
        advice = (
            "run kinit (klist shows the ticket, KRB5CCNAME says where it lies), or set KRB5_CLIENT_KTNAME=FILE:/path/to/keytab"
        )
    else:
        why = "logging in by Kerberos failed"
        advice = (
            "klist shows the ticket; KRB5_CONFIG or /etc/krb5.conf has to know the realm; libgssapi-krb5 has to be installed"
        )
    return f"can't {doing} {where}: {why}: {advice} ({_gss_reason(text)})"


def _gss_reason(text: str) -> str:
    """The words in the Rust value of a GSSAPI error."""
    found = re.search(r'\d+, "(?P<said>.*)"\)$', text, re.DOTALL)
    return _sentence(found["said"] if found else text)


def _sentence(text: str) -> str:
    return text.rstrip(". ")


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"
