"""What Oozie's command line asks its server, by the same REST API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from tests.cluster.daemon import wait_until

ENDED = {"SUCCEEDED", "KILLED", "FAILED", "DONEWITHERROR"}


class OozieError(Exception):
    """What the server refused, with its own words."""


class OozieClient:
    """Of the server at `url`, for `user`."""

    def __init__(self, url: str, user: str) -> None:
        self.url = url
        self.user = user

    def mode(self) -> str | None:
        """NORMAL when it takes jobs; None while it is not there."""
        try:
            return str(json.loads(self._ask("GET", "v1/admin/status"))["systemMode"])
        except OSError:
            return None

    def validate(self, definition: str) -> str:
        """`oozie validate`: what the server says of the XML of a workflow, coordinator or bundle. Raises OozieError."""
        said = self._ask("POST", "v2/validate", definition, file="given.xml", user=self.user)
        return str(json.loads(said)["validate"])

    def submit(self, properties: Mapping[str, object]) -> str:
        """`oozie job -run -config job.properties`: the id of the job."""
        said = self._ask("POST", "v2/jobs", self._configuration(properties), action="start")
        return str(json.loads(said)["id"])

    def rerun(self, job: str, properties: Mapping[str, object]) -> None:
        """`oozie job -rerun ID -config job.properties`, of a workflow."""
        self._ask("PUT", f"v2/job/{job}", self._configuration(properties), action="rerun")

    def rerun_action(self, job: str, number: int) -> None:
        """`oozie job -rerun ID -action NUMBER`, of a coordinator."""
        chosen = {"action": "coord-rerun", "type": "action", "scope": number, "refresh": "true", "nocleanup": "true"}
        self._ask("PUT", f"v2/job/{job}", self._configuration({}), **chosen)

    def kill(self, job: str) -> None:
        """`oozie job -kill ID`."""
        self._ask("PUT", f"v2/job/{job}", action="kill", **{"user.name": self.user})

    def job(self, job: str) -> dict[str, Any]:
        """`oozie job -info ID`: of a workflow, coordinator, bundle, or of one of their actions."""
        return dict(json.loads(self._ask("GET", f"v2/job/{job}", show="info", len=1000, **{"user.name": self.user})))

    def job_log(self, job: str) -> str:
        """`oozie job -log ID`."""
        return self._ask("GET", f"v2/job/{job}", show="log", **{"user.name": self.user})

    def update_sharelib(self) -> None:
        """`oozie admin -sharelibupdate`."""
        self._ask("GET", "v2/admin/update_sharelib", **{"user.name": self.user})

    def actions(self, job: str) -> dict[str, dict[str, Any]]:
        """The nodes of a workflow that were run, by name."""
        return {action["name"]: action for action in self.job(job)["actions"]}

    def wait(self, job: str, status: str, seconds: float = 420) -> dict[str, Any]:
        """The job when it has this status. Fails when it ends with another."""
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.job(job))
            assert found["status"] == status or found["status"] not in ENDED, self._told(found)
            return bool(found["status"] == status)

        wait_until(reached, f"{job} is {status}", seconds)
        return found

    def _told(self, job: Mapping[str, Any]) -> str:
        keys = ("name", "status", "errorCode", "errorMessage", "data", "externalId")
        lines = [str({key: action.get(key) for key in keys}) for action in job.get("actions", ())]
        return "\n".join([f"{job.get('id')} is {job['status']}", *lines])

    def _configuration(self, properties: Mapping[str, object]) -> str:
        given = {"user.name": self.user, **properties}
        lines = [
            f"<property><name>{name}</name><value>{escape(str(value))}</value></property>" for name, value in given.items()
        ]
        return "\n".join(["<configuration>", *lines, "</configuration>"])

    def _ask(self, method: str, path: str, body: str | None = None, **parameters: object) -> str:
        request = urllib.request.Request(
            f"{self.url}/{path}?{urlencode(parameters)}", method=method, data=body.encode() if body is not None else None,
            headers={"Content-Type": "application/xml;charset=UTF-8"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read()).decode()
        except urllib.error.HTTPError as error:
            said = error.headers.get("oozie-error-message") or error.read().decode(errors="replace")
            raise OozieError(f"{method} {path}: {error.code} {error.headers.get('oozie-error-code', '')}: {said}") from None
