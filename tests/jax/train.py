"""A training loop over global arrays, in a process of its own: devices are fixed when JAX starts.

python -m tests.jax.train DATASET FOLDER [--processes N --process I --port P] [--epochs N] [--stop-after STEPS]

In FOLDER it continues from the state in state-PROCESS if that is there, writes it at the end, and appends "epoch key" of every
sample whose row lies on a device of this process to seen-PROCESS, but for those that `_pad` flags as repeated. In each step
all devices meet: the labels of the global batch are summed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import shardwright as sw
import shardwright.jax as swj


def main() -> None:
    args = _arguments()
    if args.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process)
    train = sw.open_dataset(args.dataset, columns=["label", "_key"])
    loader = train.loader(batch_size=16, world=swj.world(), seed=3, epochs=args.epochs, last="pad")
    saved, log = (args.folder / f"{name}-{jax.process_index()}" for name in ("state", "seen"))
    if saved.exists():
        loader.load_state_dict(json.loads(saved.read_text()))
    batches = swj.arrays(loader)
    total = jax.jit(jnp.sum)
    steps = 0
    sums = []
    with log.open("a") as seen:
        while loader.epoch < args.epochs and steps != args.stop_after:
            epoch = loader.epoch
            for batch in batches:
                assert batch["label"].shape == (16 * jax.process_count(),)
                sums.append(int(total(batch["label"] * ~batch["_pad"])))
                keys, pads = (
                    np.concatenate([np.asarray(shard.data) for shard in batch[name].addressable_shards])
                    for name in ("_key", "_pad")
                )
                assert len(keys) == 16
                seen.writelines(f"{epoch} {key.tobytes().hex()}\n" for key in keys[~pads])
                steps += 1
                if steps == args.stop_after:
                    break
    saved.write_text(json.dumps(loader.state_dict()))
    print(json.dumps({"steps": steps, "devices": jax.device_count(), "sum": sum(sums)}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--port", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--stop-after", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
