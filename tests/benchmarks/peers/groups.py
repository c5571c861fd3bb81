"""The groups of `./tests/run --peers`, by the names that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.peers import opening, random_access, ranks, resume, shuffle_quality, steadiness
from tests.benchmarks.peers.contenders import PeerSettings
from tests.benchmarks.peers.source import ARRAY_3K, ARRAY_12K, PICTURE_256, PICTURE_500, TABLE_64, TABLE_300
from tests.benchmarks.peers.throughput import Comparison, compare

_ARRAYS = """## Arrays

Random unsigned bytes, in batches of 256. The limit is `numpy.take` of rows of an array in memory, by a permutation made
before: it gathers the values alone, finds no label and knows no order to work out.
"""
_PICTURES = """## JPEG

Windows of photographs, at quality 90, in batches of 256. Every contender decodes with the same decoder (simplejpeg; stock
Petastorm with its own, OpenCV's) and gives the middle 224x224, of 500 pixels the middle 448 halved (OpenCV, INTER_AREA;
shardwright lets the decoder halve them). The limit is this alone, of bytes in memory, into one array a batch, by as many
threads as the contender has workers (none: one). float32: normalised by ImageNet's mean and standard deviation.
"""
_TABLES = """## Tables

Columns of normal random float32 and a label, in batches of 8,192. The limit is `numpy.take` of each column in memory; for
shardwright with columns compressed by zstd a scan of the same columns, compressed by zstd in one Parquet file, by pyarrow to
NumPy, in the order of the file. The scan decompresses in every epoch; shardwright keeps row groups, which all fit into its
cache here, and decompresses them in the first. LitData, MosaicML Streaming, Grain and PyTorch hold a row as one vector, which
suits them best; the others have columns. shardwright shuffles compressed columns by windows. WebDataset has a file for each
sample, and is left out.
"""


def _comparisons(text: str, *comparisons: Comparison) -> Callable[[PeerSettings], str]:
    return lambda settings: "\n".join([text, *(compare(each, settings) for each in comparisons)])


GROUPS: dict[str, Callable[[PeerSettings], str]] = {
    "B1": _comparisons(
        _ARRAYS,
        Comparison(kind=ARRAY_3K, title="32x32x3, 3 kB"),
        Comparison(kind=ARRAY_12K, title="64x64x3, 12 kB"),
    ),
    "B2": _comparisons(
        _PICTURES,
        Comparison(kind=PICTURE_256, title="256x256 to 224x224, uint8", tolerance=1e-3),
        Comparison(kind=PICTURE_256, title="256x256 to 224x224, float32", tolerance=1e-2, normalise=True, workers=(2,)),
        Comparison(kind=PICTURE_500, title="500x500 to 224x224, uint8", tolerance=2e-2, workers=(0,)),
    ),
    "B3": _comparisons(
        _TABLES,
        Comparison(kind=TABLE_64, title="64 columns", workers=(0,), variants=("", "zstd"), tolerance=1e-4),
        Comparison(kind=TABLE_300, title="300 columns", workers=(0,), variants=("", "zstd"), tolerance=1e-4),
    ),
    "B4": random_access.run,
    "B5": resume.run,
    "B6": ranks.run,
    "B7": shuffle_quality.run,
    "B8": steadiness.run,
    "B9": opening.run,
}
