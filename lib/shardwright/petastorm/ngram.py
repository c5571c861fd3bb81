"""`NGram`: windows of consecutive rows of a row group, by timestamp.

Semantics: petastorm 0.13.1, ``ngram.py``. Windows do not cross the border of a row group.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from shardwright.petastorm.unischema import Unischema, UnischemaField, match_unischema_fields, row_class

Fields = Mapping[int, list[UnischemaField | str]]


class NGram:
    """Windows of ``max(fields) - min(fields) + 1`` rows, in which no timestamp is further than `delta_threshold` from the last.

    `fields` says for each offset which fields (or regular expressions) are wanted there; an offset between them that is not
    named is empty. Without `timestamp_overlap` no row is in two windows. Rows have to be sorted by `timestamp_field` within a
    row group. A reader hands each window out as a dict of offset -> row.

    Raises ValueError for arguments of other types.
    """

    def __init__(
        self, fields: Fields, delta_threshold: Any, timestamp_field: UnischemaField | str, timestamp_overlap: bool = True
    ) -> None:
        _check(fields, delta_threshold, timestamp_field, timestamp_overlap)
        self._fields: dict[int, list[Any]] = dict(fields)
        self._delta_threshold = delta_threshold
        self._timestamp_field: Any = timestamp_field
        self.timestamp_overlap = timestamp_overlap

    @property
    def length(self) -> int:
        """Rows of a window."""
        return max(self._fields) - min(self._fields) + 1

    @property
    def fields(self) -> dict[int, list[Any]]:
        """By offset."""
        return self._fields

    @property
    def delta_threshold(self) -> Any:
        """The largest difference between the timestamps of neighbours."""
        return self._delta_threshold

    @property
    def timestamp_name(self) -> str:
        """The name of the timestamp field, once it is resolved."""
        field = self._timestamp_field
        return str(field if isinstance(field, str) else field.name)

    def resolve_regex_field_names(self, schema: Unischema) -> None:
        """Replace regular expressions by the fields of `schema` that they match.

        Raises ValueError where the timestamp's matches none or several.
        """
        self._fields = {offset: self.convert_fields(schema, fields) for offset, fields in self._fields.items()}
        matched = self.convert_fields(schema, [self._timestamp_field])
        if len(matched) > 1:
            raise ValueError("timestamp_field was matched to more than one unischema field")
        if not matched:
            raise ValueError(f"timestamp_field: no field of the schema matches {self._timestamp_field!r}")
        self._timestamp_field = matched[0]

    def convert_fields(self, unischema: Unischema, field_list: Sequence[UnischemaField | str]) -> list[UnischemaField]:
        """Fields, then those of `unischema` that the regular expressions match. Raises ValueError for anything else."""
        patterns = [field for field in field_list if isinstance(field, str)]
        given = [field for field in field_list if isinstance(field, tuple)]
        if len(patterns) + len(given) != len(field_list):
            raise ValueError(
                '"Elements of fields"/"timestamp field" must be either a string (regular expressions) or an instance of '
                "UnischemaField class."
            )
        return [*given, *match_unischema_fields(unischema, patterns)]

    def get_field_names_at_timestep(self, timestep: int) -> list[str]:
        """Those wanted at an offset."""
        return [field.name for field in self._fields.get(timestep, [])]

    def get_field_names_at_all_timesteps(self) -> list[UnischemaField]:
        """The fields wanted at any offset, and the timestamp's: what has to be read."""
        wanted = {field.name: field for fields in [*self._fields.values(), [self._timestamp_field]] for field in fields}
        return list(wanted.values())

    def get_schema_at_timestep(self, schema: Unischema, timestep: int) -> Unischema:
        """The schema of the rows at an offset, in the order of `schema`."""
        wanted = set(self.get_field_names_at_timestep(timestep))
        return schema.create_schema_view([field for name, field in schema.fields.items() if name in wanted])

    def starts(self, timestamps: Sequence[Any]) -> list[int]:
        """Where windows begin among rows with these timestamps.

        Raises NotImplementedError where they are not sorted.
        """
        steps = [later - earlier for earlier, later in pairwise(timestamps)]
        zero = timestamps[0] - timestamps[0] if timestamps else 0
        if len(timestamps) >= self.length and any(step < zero for step in steps):
            raise NotImplementedError(
                f"NGram assumes that the data is sorted by {self.timestamp_name} field which is not the case"
            )
        found: list[int] = []
        last_end: Any = None
        for start in range(len(timestamps) - self.length + 1):
            if not self.timestamp_overlap and last_end is not None and timestamps[start] <= last_end:
                continue
            if all(step <= self.delta_threshold for step in steps[start : start + self.length - 1]):
                found.append(start)
                last_end = timestamps[start + self.length - 1]
        return found

    def form_ngram(self, data: Sequence[Mapping[str, Any]], schema: Unischema) -> list[dict[int, Any]]:
        """The windows of the rows `data` of `schema`, each a dict of offset -> namedtuple."""
        base = min(self._fields)
        classes = []
        for offset in range(base, base + self.length):
            view = self.get_schema_at_timestep(schema, offset)
            classes.append((offset, row_class(view), list(view.fields)))
        starts = self.starts([row[self.timestamp_name] for row in data])
        return [
            {offset: cls(*[data[start + place][name] for name in names]) for place, (offset, cls, names) in enumerate(classes)}
            for start in starts
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NGram) or set(self.fields) != set(other.fields):
            return False
        return all(set(fields) == set(other.fields[offset]) for offset, fields in self.fields.items())

    __hash__ = None  # type: ignore[assignment] # what it resolves to changes


def _check(fields: Any, delta_threshold: Any, timestamp_field: Any, timestamp_overlap: Any) -> None:
    if not isinstance(fields, dict):
        raise ValueError("Fields must be set and must be a dictionary.")
    for wanted in fields.values():
        if not isinstance(wanted, list):
            raise ValueError("Each field value must be a list of unischema fields/regular expression(s)")
        if not all(isinstance(field, (UnischemaField, str)) for field in wanted):
            raise ValueError("All field values must be of type UnischemaField/regular expression")
    if not isinstance(delta_threshold, numbers.Number):
        raise ValueError("delta_threshold must be a number.")
    if not isinstance(timestamp_field, (UnischemaField, str)):
        raise ValueError("timestamp_field must be set and must be of type UnischemaField or regular expression")
    if not isinstance(timestamp_overlap, bool):
        raise ValueError("timestamp_overlap must be set and must be of type bool")
