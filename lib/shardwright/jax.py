"""Batches as global arrays: ``import shardwright.jax as swj; swj.arrays(train.loader(batch_size=256, world=swj.world()))``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import ConfigError, MissingDependencyError, SchemaError, WorldError
from shardwright.order import World
from shardwright.reader import Loader

try:
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
except ImportError as error:
    raise MissingDependencyError(
        f"shardwright.jax needs JAX, which can't be imported ({error}): pip install 'shardwright[jax]'"
    ) from error


def world() -> World:
    """This process among all that `jax.distributed` knows, else `World.from_env()`: what each process makes its loader with.

    Where `jax.distributed` and the environment agree on rank and size, the environment adds the nodes. Raises WorldError as
    `World.from_env()` does.
    """
    if jax.distributed.is_initialized() or jax.process_count() > 1:
        return World.of(jax.process_index(), jax.process_count())
    return World.from_env()


def arrays(loader: Loader, sharding: Sharding | None = None, *, host: Sequence[str] = ()) -> GlobalArrays:
    """The batches of `loader` as dicts of `jax.Array` that span all processes, each of batch size x world size rows.

    `sharding` cuts the first axis (None: over all devices). This process's rows are those of its loader, so the loader's world
    counts the groups of processes that hold the same rows: `world()` where no two do. Fields that JAX has no arrays for
    (strings, bytes, arrays of several shapes) stay NumPy arrays of this process's own rows when `host` names them. Without
    ``jax_enable_x64``, 64-bit numbers become 32-bit ones.

    Iterating moves `loader`, whose state is the one to save. Raises ConfigError where the batch can't be cut like that,
    WorldError where the sharding gives this process another number of rows than the loader; when iterated SchemaError for a
    field that JAX can't hold, or an integer that 32 bits can't.
    """
    if sharding is None:
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
    size, ranks = loader.options.batch_size, loader.options.world.size
    try:
        shard = sharding.shard_shape((size * ranks,))[0]
    except ValueError as error:
        raise ConfigError(
            [f"batch_size {size} on {ranks} ranks: {error}; choose a batch size that the devices divide"]
        ) from error
    if loader.options.last == "short" and shard < size * ranks:
        raise ConfigError(["last='short': the last batch of an epoch might not divide among the devices; use 'drop' or 'pad'"])
    rows = (
        len({index[0].start for index in sharding.addressable_devices_indices_map((size * ranks,)).values() if index}) * shard
    )
    if rows != size:
        raise WorldError(
            f"the sharding gives this process {rows} of {size * ranks} rows, the loader {size}: its world is rank "
            f"{loader.options.world.rank} of {ranks}, of {jax.process_count()} processes; pass world=swj.world() to the loader"
        )
    return GlobalArrays(loader, sharding, frozenset(host))


class GlobalArrays(Iterable[dict[str, Any]]):
    """Made by `arrays`: ``for batch in …`` is the rest of the loader's current epoch, the next ``for`` the next epoch."""

    def __init__(self, loader: Loader, sharding: Sharding, host: frozenset[str]) -> None:
        self.loader = loader
        self._sharding, self._host = sharding, host

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({name: self._array(name, values) for name, values in batch.items()} for batch in self.loader)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self.loader)

    def _array(self, name: str, values: npt.NDArray[Any]) -> Any:
        if name in self._host:
            return values
        if values.dtype == object:
            raise SchemaError(
                f"JAX has no arrays for {name!r} (strings, bytes or several shapes): name it in host=, leave it out with "
                "open_dataset(columns=…), or make numbers of it in the loader's transform"
            )
        local = _as_wide_as_jax(name, values.view(np.int64) if values.dtype.kind == "M" else values)
        shape = (len(local) * self.loader.options.world.size, *local.shape[1:])
        return jax.make_array_from_process_local_data(self._sharding, local, shape)


def _as_wide_as_jax(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """64-bit integers as JAX will hold them, but checked: it would cut off the upper half without a word."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or jax.config.read("jax_enable_x64"):
        return values
    narrow = np.dtype(np.int32 if values.dtype.kind == "i" else np.uint32)
    info = np.iinfo(narrow)
    if values.size and (values.min() < info.min or values.max() > info.max):
        raise SchemaError(
            f"{name!r} has values from {values.min()} to {values.max()}, and JAX holds {narrow} here: set jax_enable_x64, name "
            "it in host=, or make it smaller in the loader's transform"
        )
    return values.astype(narrow)
