"""Loader states: small, plain, and refused where they don't belong."""

from __future__ import annotations

import json

import pytest

from shardwright.errors import StateError
from shardwright.order import LoaderState

STATE = LoaderState(
    content_id="c" * 64, split="train", selection=None, seed=7, shuffle="window", window_blocks=16, epoch=3,
    samples_consumed=10**12,
)  # fmt: skip


def test_round_trip_below_a_kilobyte():
    largest = STATE.model_copy(update={"selection": "f" * 64, "seed": 2**64 - 1, "split": "s" * 100})
    text = json.dumps(largest.to_json())
    assert len(text) < 1024
    assert LoaderState.parse(json.loads(text)) == largest


def test_golden():
    """States of these versions stay readable: never edit these texts."""
    text = (
        '{"format_version": 1, "content_id": "%s", "split": "train", "selection": null, "seed": 7, "shuffle": "window", '
        '"window_blocks": 16, "epoch": 3, "samples_consumed": 1000000000000}' % ("c" * 64)
    )
    assert LoaderState.parse(json.loads(text)) == STATE.model_copy(update={"format_version": 1})
    text = (
        '{"format_version": 2, "content_id": "%s", "split": "train", "selection": null, "seed": 7, "shuffle": "global", '
        '"window_blocks": null, "sampling": {"name": "balanced", "field": "label", "samples": 100}, "epoch": 3, '
        '"samples_consumed": 1000000000000}' % ("c" * 64)
    )
    sampling: dict[str, str | int] = {"name": "balanced", "field": "label", "samples": 100}
    changed = {"shuffle": "global", "window_blocks": None, "sampling": sampling}
    assert LoaderState.parse(json.loads(text)) == STATE.model_copy(update=changed)


@pytest.mark.parametrize(
    "state, message",
    [
        ({}, "expected a loader state with a format_version"),
        ("state", "expected a loader state with a format_version, found state"),
        (None, r"expected a loader state with a format_version, found None; give the dict that state_dict\(\) gave"),
        (json.dumps(STATE.to_json())[:90], r'found \{"format_version": 2, .*json\.loads of its text'),
        ({**STATE.to_json(), "format_version": "2"}, "expected a loader state with a format_version"),
        (dict(list(STATE.to_json().items())[:4]), "not a loader state: seed: Field required; shuffle: Field required"),
        ({**STATE.to_json(), "epoch": 1.0}, "not a loader state: epoch: Input should be a valid integer"),
        ({**STATE.to_json(), "format_version": 0}, "expected a loader state with a format_version"),
        ({**STATE.to_json(), "format_version": 3}, "format_version 3, newer than 2.*upgrade shardwright"),
        ({**STATE.to_json(), "epoch": -1}, "not a loader state: epoch"),
        ({**STATE.to_json(), "rank": 0}, "not a loader state: rank"),
    ],
)
def test_what_is_no_state_is_refused(state, message):
    with pytest.raises(StateError, match=message):
        LoaderState.parse(state)


@pytest.mark.parametrize(
    "change",
    [
        {"content_id": "d" * 64},
        {"seed": 8},
        {"shuffle": "global"},
        {"split": "test"},
        {"selection": "e" * 64},
        {"sampling": {"name": "balanced", "field": "label", "samples": 5}},
    ],
)
def test_a_foreign_state_is_refused_with_both_values(change):
    other = STATE.model_copy(update=change)
    with pytest.raises(StateError) as caught:
        STATE.check_continues(other)
    ((name, value),) = change.items()
    assert f"{name} {getattr(STATE, name)!r} (this loader: {value!r})" in str(caught.value)
