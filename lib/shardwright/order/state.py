"""The state of a loader: where in the order it is, and whose order that is. Plain JSON below 1 KiB."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwright.errors import StateError
from shardwright.order.epoch import Shuffle

STATE_VERSION = 2
_ADVICE = "give the dict that state_dict() gave, unchanged, or json.loads of its text"
_Count = Annotated[int, Field(ge=0)]


class LoaderState(BaseModel):
    """`samples_consumed` of epoch `epoch` by all ranks together, in the order that the other fields name.

    It says nothing of world size, batch size or threads: it continues with any. `selection` is the hash of what `shards=`,
    slices, `select` and `where` left over, None where that is the whole split. Version 1 had no sampling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: int = STATE_VERSION
    content_id: str
    split: str
    selection: str | None
    seed: int
    shuffle: Shuffle
    window_blocks: int | None
    """None where the order has no windows."""
    sampling: dict[str, str | int] | None = None
    """What `describe_sampling` says; None where an epoch has every sample once."""
    epoch: _Count
    samples_consumed: _Count

    @classmethod
    def parse(cls, state: object) -> LoaderState:
        """The state in a dict, as `to_json` gave it. Raises StateError for anything else, or one from a newer shardwright."""
        version = state.get("format_version") if isinstance(state, dict) else None
        if not isinstance(version, int) or version < 1:
            raise StateError(f"expected a loader state with a format_version, found {str(state)[:200]}; {_ADVICE}")
        if version > STATE_VERSION:
            raise StateError(
                f"the loader state has format_version {version}, newer than {STATE_VERSION}, the newest this shardwright "
                "reads; upgrade shardwright"
            )
        try:
            return cls.model_validate(state)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise StateError(f"not a loader state: {problems}; {_ADVICE}") from error

    def check_continues(self, order: LoaderState) -> None:
        """Raise StateError, with both values of all that differ, unless this state is of the same order as `order`."""
        names = [name for name in type(self).model_fields if name not in ("format_version", "epoch", "samples_consumed")]
        differ = [name for name in names if getattr(self, name) != getattr(order, name)]
        if differ:
            pairs = ", ".join(f"{name} {getattr(self, name)!r} (this loader: {getattr(order, name)!r})" for name in differ)
            raise StateError(
                f"the state belongs to another order: {pairs}; open the same version, split and selection with the same "
                "seed, shuffle and sampling, or begin anew without the state"
            )

    def to_json(self) -> dict[str, Any]:
        """The state as a dict of JSON values."""
        return self.model_dump(mode="json")
