"""Train a small convolutional network on your own pictures, in a folder for each class: my_images/cat/1.jpg.

./spark-submit.sh jobs/prepare.py conf/datasets/own_images.toml --set read.path=my_images
python docs/examples/train_own_images.py build/datasets/own_images --epochs 20
"""

import argparse
from typing import Any

import torch
from torch import nn

import shardwright as sw
import shardwright.torch as swt

BATCH_SIZE = 32
SEED = 7


def pictures(batch: dict[str, Any]) -> torch.Tensor:
    """(n, height, width, 3) as PyTorch's (n, 3, height, width), without a copy: the memory format channels_last."""
    images: torch.Tensor = batch["image"]
    return images.permute(0, 3, 1, 2)


def make_model(classes: int) -> nn.Module:
    def block(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(3, 24),
        *block(24, 48),
        *block(48, 64),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(256, classes),
    )


def accuracy(model: nn.Module, validation: swt.TorchLoader) -> float:
    model.eval()
    with torch.no_grad():
        right = [model(pictures(batch)).argmax(1) == batch["label"] for batch in validation]
    model.train()
    return float(torch.cat(right).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared pictures")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=64, help="height and width that pictures are brought to")
    options = parser.parse_args()
    torch.manual_seed(SEED)

    train, validation = (sw.open_dataset(options.dataset, split=split) for split in ("train", "validation"))
    classes = int(train.statistics["label"].max[0]) + 1
    print(f"{len(train)} pictures of {classes} classes to train on, {len(validation)} to validate")
    # Pictures of any shapes become one array; mean and std of the channels come from the dataset.
    part = {"image": sw.RandomResizedCrop(options.size, scale=(0.6, 1.0))}
    loader = swt.loader(train, BATCH_SIZE, seed=SEED, decode=part, normalise=("image",), epochs=options.epochs)

    model = make_model(classes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=options.epochs * len(loader))
    for epoch in range(options.epochs):
        for batch in loader:
            loss = nn.functional.cross_entropy(model(pictures(batch)), batch["label"].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        whole = {"image": sw.Resize(options.size)}
        unseen = swt.loader(validation, 256, shuffle="none", decode=whole, normalise=("image",), epochs=1)
        print(f"epoch {epoch}: accuracy {accuracy(model, unseen):.1%} on the validation split")


if __name__ == "__main__":
    main()
