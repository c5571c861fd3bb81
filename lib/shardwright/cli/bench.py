"""``shardwright bench URL``: how fast a dataset is read here, what the limit is, and which settings to read it with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import Progress

from shardwright.cli.output import out, size, table
from shardwright.cli.splits import chosen_split
from shardwright.format.versions import read_manifest
from shardwright.order import Shuffle
from shardwright.reader.bench import BenchOptions, Measured, Report, Speed
from shardwright.reader.bench import bench as measure
from shardwright.reader.open import open_dataset
from shardwright.storage import open_storage

_SLOWER = 0.8
"""A first pass below this part of the loader's speed is worth a line."""
_BUSY = 0.7
"""Decoders that keep less than this part of their processors busy have something else to wait for."""


def bench(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.")],
    split: Annotated[str | None, typer.Option(help="The split; by default the only one, or train.")] = None,
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    columns: Annotated[list[str] | None, typer.Option(help="A column to read; may be repeated. All by default.")] = None,
    batch_size: Annotated[int, typer.Option(help="Samples in a batch.")] = 64,
    shuffle: Annotated[str, typer.Option(help="none, window or global.")] = "window",
    normalise: Annotated[bool, typer.Option("--normalise", help="Normalise what the manifest standardises at read.")] = False,
    crop: Annotated[int | None, typer.Option(help="Pictures as RandomResizedCrop of so many pixels; whole by default.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads that decode; may be repeated, to compare.")] = None,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 3.0,
    step_ms: Annotated[float | None, typer.Option(help="A trainer's time for a batch: would it wait?")] = None,
    origin: Annotated[str | None, typer.Option(help="Where parts are that are missing at URL.")] = None,
    cache: Annotated[str | None, typer.Option(help="A directory on this node for remote parts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    """Measure how fast storage, and loaders with several numbers of threads, give the samples; takes some 20 seconds."""
    options = BenchOptions(
        batch_size=batch_size, shuffle=cast(Shuffle, shuffle), normalise=normalise, crop=crop,
        threads=tuple(threads or ()),
        seconds=seconds, step_seconds=None if step_ms is None else step_ms / 1000,
    )  # fmt: skip
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    chosen = chosen_split(manifest, split, where=f"{storage.url}/{name}")
    dataset = open_dataset(url, split=chosen, version=name, columns=columns or None, origin=origin, cache=cache)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        report = measure(
            dataset, options, progress=lambda what, done, of: bar.update(task, description=what, completed=done, total=of)
        )
    if as_json:
        out().print(json.dumps({**report.to_json(), "verdict": verdict(report)}, indent=2, ensure_ascii=False))
    else:
        _show(report)


def _show(report: Report) -> None:
    console, source, step = out(), report.dataset.source, report.options.step_seconds
    console.print(
        f"{source.url} {source.version} {source.catalog.split}: {len(report.dataset):,} samples of {', '.join(source.names)}; "
        f"batches of {report.options.batch_size}, shuffle={report.options.shuffle!r}, one rank"
        + ("" if step is None else f", a trainer of {step * 1000:g} ms a step")
    )
    passes = table("storage alone", "samples/s", "stored bytes")
    for label, speed in (("first pass", report.first), ("again", report.again)):
        passes.add_row(label, _rate(speed), f"{size(round(speed.bytes_per_second))}/s")
    console.print("", passes, "")
    shown = table("threads", "samples/s", "decoded bytes", "order", "fetch", "decode", "room", "decoders", "trainer waits")
    for one in report.measured:
        making = (f"{one.share(stage):.0%}" for stage in ("order", "fetch", "decode_wait", "room"))
        shown.add_row(
            str(one.threads), _rate(one.speed), f"{size(round(one.speed.bytes_per_second))}/s", *making,
            f"{one.share('decode'):.2f}" if one.threads else "-", "-" if step is None else f"{one.metrics.wait_share:.1%}",
        )  # fmt: skip
    console.print(shown)
    console.print(
        "order to room: share of the time of the thread that makes batches; decoders: processors that they keep busy\n"
    )
    console.print(verdict(report))
    for line in _more(report):
        console.print(line)
    console.print(f"\n  {_call(report)}")


def verdict(report: Report) -> str:
    """What the limit is, with the figures that say so, and the threads to take."""
    best, storage = report.recommended, report.again
    settings = ", ".join(f"{_threads(one)} {_rate(one.speed)}" for one in report.measured) + " samples/s"
    use = f"use threads={best.threads}"
    if report.limit == "trainer":
        said = f"the trainer is the limit: it waits {best.metrics.wait_share:.1%} of the time with {_threads(best)}; {use}"
    elif report.limit == "decode":
        decoding = "decoding and normalising are" if report.options.normalise else "decoding is"
        said = f"{decoding} the limit: {settings}; storage could give {_rate(storage)}: {use}"
    elif report.limit == "storage":
        said = f"storage is the limit: it gives {_rate(storage)} samples/s by itself, loaders {settings}: {use}"
    else:
        said = f"working out the order is the limit: {settings}; storage could give {_rate(storage)}: {use}"
    if report.options.step_seconds is not None and report.limit != "trainer":
        said += (
            f"; a trainer of {report.options.step_seconds * 1000:g} ms a step waits {best.metrics.wait_share:.0%} of the time"
        )
    return said


def _more(report: Report) -> Iterator[str]:
    """What else the figures say."""
    best, source = report.recommended, report.dataset.source
    remote = not source.columns.files.local
    if report.first.samples_per_second < _SLOWER * best.speed.samples_per_second:
        yield f"the first pass gave {_rate(report.first)} samples/s: what is not in this machine's memory yet comes no faster"
    if report.limit == "decode" and best.threads and (busy := best.share("decode")) < _BUSY * best.threads:
        yield f"{_threads(best)} kept {busy:.1f} processors busy: others use them too, or stored bytes come from a slow disk"
    elif report.limit == "decode" and best is report.measured[-1] and best.threads == report.default_threads > 1:
        yield "more needs more processors, smaller pictures, or fewer ranks on this node"
    if report.limit == "storage" and remote and report.options.shuffle == "global":
        yield "shuffle='global' fetches single values: 'window' fetches whole blocks, each once"
    if report.limit == "storage" and remote and source.cache is None:
        yield "cache='/a/local/disk' would keep the parts on this node, from the second epoch on"


def _call(report: Report) -> str:
    options, threads = report.options, report.recommended.threads
    default = "  # the default here" if threads == report.default_threads else ""
    names = [field.name for field in report.dataset.schema if field.is_image]
    cut = ", ".join(f'"{name}": sw.RandomResizedCrop({options.crop})' for name in names)
    decode = "" if options.crop is None else f", decode={{{cut}}}"
    normalise = ", normalise=True" if options.normalise else ""
    what = f"batch_size={options.batch_size}, shuffle={options.shuffle!r}{decode}{normalise}"
    return f"dataset.loader({what}, threads={threads}){default}"


def _threads(one: Measured) -> str:
    return f"{one.threads} thread" + "s" * (one.threads != 1)


def _rate(speed: Speed) -> str:
    return f"{speed.samples_per_second:,.0f}" if speed.samples_per_second >= 10 else f"{speed.samples_per_second:.1f}"
