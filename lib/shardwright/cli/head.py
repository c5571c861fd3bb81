"""``shardwright head URL``: the first samples, for people."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from shardwright.cli.output import out
from shardwright.cli.splits import chosen_split
from shardwright.codecs.npy import show_shape
from shardwright.format.versions import read_manifest
from shardwright.reader.open import open_dataset
from shardwright.storage import open_storage

_SHOWN = 60
"""Characters of a long string."""


def head(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.")],
    count: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 5,
    split: Annotated[str | None, typer.Option(help="The split; by default the only one, or train.")] = None,
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
) -> None:
    """Show the first samples of a split, as they lie on disk."""
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    chosen = chosen_split(manifest, split, where=f"{storage.url}/{name}")
    dataset = open_dataset(url, split=chosen, version=name)
    console = out()
    console.print(f"{name} {chosen}: {len(dataset):,} samples")
    for number, sample in enumerate(dataset[:count]):
        console.print(f"\n{number}")
        for name, value in sample.items():
            console.print(f"  {name}: {_show(value)}")


def _show(value: Any) -> str:
    if isinstance(value, np.ndarray):
        head = " ".join(str(item) for item in value.ravel()[:6])
        return f"{value.dtype} {show_shape(value.shape)} [{head}{' …' if value.size > 6 else ''}]"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(value):,} long)"
