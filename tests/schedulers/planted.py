"""Secrets of these tests' own, which are put where operators have them, and looked for in all logs."""

from __future__ import annotations

import uuid

PLANTED = {name: f"planted-{uuid.uuid4().hex}" for name in ("core-site.xml", "oozie-site.xml", "job.properties")}
"""A secret of each of these files."""
