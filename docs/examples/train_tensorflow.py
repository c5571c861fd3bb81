"""Train a small convolutional network on prepared digits under tf.distribute, and stop and resume in mid-epoch.

    python docs/examples/train_tensorflow.py build/datasets/mnist --epochs 10

On all GPUs of this machine, and on several machines where TF_CONFIG says so. Stop after 100 steps; later continue with the very
next sample:

    python docs/examples/train_tensorflow.py build/datasets/mnist --checkpoint run --stop-after 100
    python docs/examples/train_tensorflow.py build/datasets/mnist --checkpoint run
"""

import argparse
import json
import os
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

import shardwright as sw
import shardwright.tensorflow as swf

BATCH_SIZE = 16  # of this process in a step; its replicas share it
SEED = 7


def make_model() -> keras.Model:
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.RandomRotation(0.04), layers.RandomTranslation(0.1, 0.1), layers.RandomZoom(0.1),  # 1,800 digits are not many
        layers.Conv2D(24, 5, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Conv2D(48, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dropout(0.4), layers.Dense(128, "relu"), layers.Dense(10),
    ])  # fmt: skip


def accuracy(model: keras.Model, url: str) -> float:
    """On the whole validation split."""
    validation = sw.open_dataset(url, split="validation")
    right = 0
    for batch in validation.loader(batch_size=256, world=sw.World(), shuffle="none", normalise=("image",), epochs=1):
        right += (model(batch["image"][..., None], training=False).numpy().argmax(1) == batch["label"]).sum()
    return right / len(validation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--stop-after", type=int, metavar="STEPS", help="stop after so many steps, wherever that is")
    parser.add_argument("--checkpoint", type=Path, help="folder: resume from it if there is one; write it at the end")
    options = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else tf.distribute.MirroredStrategy()

    # The data. Every process has the same loader but for its world, which by default is what TF_CONFIG says.
    train = sw.open_dataset(options.dataset, split="train")
    loader = train.loader(batch_size=BATCH_SIZE, seed=SEED, normalise=("image",), epochs=options.epochs)

    with strategy.scope():
        model = make_model()
        optimiser = keras.optimizers.AdamW(3e-3, weight_decay=0.05)
        optimiser.build(model.trainable_variables)

    # Resuming. The loader's state is the same in all processes, and says nothing of how many there were.
    checkpoint = tf.train.Checkpoint(model=model, optimiser=optimiser)
    if options.checkpoint and options.checkpoint.exists():
        checkpoint.read(str(options.checkpoint / "weights"))
        loader.load_state_dict(json.loads((options.checkpoint / "loader.json").read_text()))

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return swf.dataset(loader, replicas=context.num_replicas_in_sync // context.num_input_pipelines)

    @tf.function
    def step(batch: dict[str, tf.Tensor]) -> None:
        def on_replica(own: dict[str, tf.Tensor]) -> None:
            with tf.GradientTape() as tape:
                logits = model(own["image"][..., None], training=True)
                losses = keras.losses.sparse_categorical_crossentropy(own["label"], logits, from_logits=True)
                loss = tf.reduce_sum(losses) / (BATCH_SIZE * loader.options.world.size)  # gradients are summed over replicas
            optimiser.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

        strategy.run(on_replica, args=(batch,))

    # One epoch follows the other in the dataset; the loader says where a number of steps leads.
    epoch = loader.epoch
    state = loader.state_dict()
    for steps, batch in enumerate(strategy.distribute_datasets_from_function(pipeline), start=1):
        step(batch)
        state = loader.state_after(steps)
        if state["epoch"] > epoch:
            print(f"epoch {epoch}: accuracy {accuracy(model, options.dataset):.1%} on the validation split")
            epoch = state["epoch"]
            optimiser.learning_rate.assign(3e-3 * (1 - epoch / options.epochs))
        if steps == options.stop_after:
            break

    if options.checkpoint:
        options.checkpoint.mkdir(parents=True, exist_ok=True)
        checkpoint.write(str(options.checkpoint / "weights"))
        (options.checkpoint / "loader.json").write_text(json.dumps(state))


if __name__ == "__main__":
    main()
