"""A training loop under a tf.distribute strategy, in a process of its own: devices and TF_CONFIG are fixed at the first import.

python -m tests.tensorflow.train DATASET distribute|function|workers FOLDER [--batch-size B] [--epochs N] [--stop-after STEPS]

In FOLDER it continues from the state in state-RANK if that is there, writes it at the end, and appends "epoch key" of every
sample that a replica got to seen-RANK. Replicas really meet in each step: the number of samples is summed over all of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import tensorflow as tf

import shardwright as sw
import shardwright.tensorflow as swf


def main() -> None:
    args = _arguments()
    strategy = _strategy(args.way)
    train = sw.open_dataset(args.dataset, columns=["label", "_key"])
    saved, log = (args.folder / f"{name}-{sw.World.from_env().rank}" for name in ("state", "seen"))
    state = json.loads(saved.read_text()) if saved.exists() else None
    loader, data = _data(args, strategy, train, state)

    @tf.function
    def step(batch: Any) -> Any:
        counts = strategy.run(lambda own: tf.cast(tf.shape(own["label"])[0], tf.float32), args=(batch,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, counts, axis=None)

    done = 0
    with log.open("a") as seen:
        for batch in data:
            epoch = loader.state_after(done)["epoch"]
            keys = [key for own in strategy.experimental_local_results(batch["_key"]) for key in own.numpy()]
            summed = int(step(batch))
            assert summed >= len(keys), (summed, len(keys))  # with those of other workers
            seen.writelines(f"{epoch} {key.tobytes().hex()}\n" for key in keys)
            done += 1
            if done == args.stop_after:
                break
    saved.write_text(json.dumps(loader.state_after(done)))
    print(json.dumps({"steps": done, "replicas": strategy.num_replicas_in_sync}))


def _strategy(way: str) -> Any:
    if way == "workers":
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def _data(args: argparse.Namespace, strategy: Any, train: sw.Dataset, state: Any) -> tuple[sw.Loader, Any]:
    def make(world: sw.World | None) -> sw.Loader:
        loader = train.loader(batch_size=args.batch_size, world=world, seed=3, epochs=args.epochs)
        if state is not None:
            loader.load_state_dict(state)
        return loader

    if args.way == "distribute":
        return make(None), strategy.experimental_distribute_dataset(swf.dataset(make(None)))

    def pipeline(context: Any) -> Any:
        world = sw.World(context.input_pipeline_id, context.num_input_pipelines)
        return swf.dataset(make(world), replicas=context.num_replicas_in_sync // context.num_input_pipelines)

    return make(None), strategy.distribute_datasets_from_function(pipeline)  # TF_CONFIG says the same world


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("way", choices=["distribute", "function", "workers"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--stop-after", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
