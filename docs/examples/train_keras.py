"""Train a small convolutional network with Keras on prepared digits; stop it at any time, and continue with the next sample.

    python docs/examples/train_keras.py build/datasets/mnist --epochs 10 --backup run

The same command again continues from the last backup, in the middle of an epoch too.
"""

import argparse

import keras
import tensorflow as tf
from keras import layers

import shardwright as sw
import shardwright.keras as swk
import shardwright.tensorflow as swf

BATCH_SIZE = 16
SEED = 7


def make_model() -> keras.Model:
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.RandomRotation(0.04), layers.RandomTranslation(0.1, 0.1), layers.RandomZoom(0.1),  # 1,800 digits are not many
        layers.Conv2D(24, 5, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Conv2D(48, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dropout(0.4), layers.Dense(128, "relu"), layers.Dense(10),
    ])  # fmt: skip


def pairs(loader: sw.Loader) -> tf.data.Dataset:
    """What Keras wants: (image, label). Nothing is shuffled here, the loader has done so."""
    return swf.dataset(loader).map(lambda batch: (batch["image"][..., None], batch["label"])).prefetch(tf.data.AUTOTUNE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--backup", default="run", help="folder of the backup; delete it to begin anew")
    parser.add_argument("--every", type=int, default=50, help="steps between two backups within an epoch")
    options = parser.parse_args()
    keras.utils.set_random_seed(SEED)

    train = sw.open_dataset(options.dataset, split="train").loader(
        batch_size=BATCH_SIZE, seed=SEED, normalise=("image",), epochs=options.epochs
    )
    validation = sw.open_dataset(options.dataset, split="validation").loader(
        batch_size=256, shuffle="none", normalise=("image",), epochs=1
    )
    backup = swk.Backup(options.backup, train, every=options.every)  # where there is one, `train` stands where that was made

    model = make_model()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, len(train) * options.epochs)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def fit(end: int) -> None:
        model.fit(
            pairs(train), validation_data=pairs(validation), callbacks=[backup], verbose=2, shuffle=False,
            steps_per_epoch=train.remaining, initial_epoch=train.epoch, epochs=end,
        )  # fmt: skip

    if train.remaining < len(train):
        fit(train.epoch + 1)  # the rest of the epoch that was stopped
    if train.epoch < options.epochs:
        fit(options.epochs)


if __name__ == "__main__":
    main()
