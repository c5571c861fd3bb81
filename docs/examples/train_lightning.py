"""Train a small network on prepared digits with Lightning, in any number of processes, and resume from its checkpoints.

    python docs/examples/train_lightning.py build/datasets/mnist --devices 2 --checkpoints runs --every 40

Later continue with the very next sample, in as many processes or others:

    python docs/examples/train_lightning.py build/datasets/mnist --resume runs/step=40.ckpt
"""

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import shardwright as sw
import shardwright.torch as swt

BATCH_SIZE = 16
SEED = 7


class Digits(lightning.LightningDataModule):
    """Lightning calls these methods when its processes have met, so each loader finds its rank by itself."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def train_dataloader(self) -> swt.TorchLoader:
        train = sw.open_dataset(self.url, split="train", columns=["image", "label", "_key"])
        return swt.loader(train, BATCH_SIZE, seed=SEED, normalise=("image",))

    def val_dataloader(self) -> swt.TorchLoader:
        return swt.loader(sw.open_dataset(self.url, split="validation"), 256, shuffle="none", normalise=("image",))


class Network(lightning.LightningModule):
    def __init__(self, seen: Path | None) -> None:
        super().__init__()
        self.seen = seen
        self.layers = nn.Sequential(
            nn.Conv2d(1, 24, 5, padding=2), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(24 * 49, 10)
        )

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        if self.seen:
            with open(f"{self.seen}.{self.global_rank}", "a") as log:
                keys = (bytes(key.tolist()).hex() for key in batch["_key"])
                log.writelines(f"{self.current_epoch} {self.global_step} {key}\n" for key in keys)
        return nn.functional.cross_entropy(self.layers(batch["image"][:, None]), batch["label"].long())

    def validation_step(self, batch: dict[str, Any]) -> None:
        right = (self.layers(batch["image"][:, None]).argmax(dim=1) == batch["label"]).float().mean()
        self.log("accuracy", right, batch_size=len(batch["label"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        found = self.trainer.callback_metrics["accuracy"]
        self.print(f"epoch {self.current_epoch}: accuracy {found:.1%} on the validation split")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared digits")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--devices", type=int, default=1, help="processes on this machine")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs"), help="where Lightning puts them")
    parser.add_argument("--every", type=int, default=100, metavar="STEPS", help="one checkpoint every so many steps")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="continue from it, wherever in an epoch that is")
    parser.add_argument("--seen", type=Path, help="append epoch, step and key of every sample trained on to FILE.RANK")
    options = parser.parse_args()

    lightning.seed_everything(SEED)
    checkpoints = ModelCheckpoint(options.checkpoints, "{step}", every_n_train_steps=options.every, save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=options.devices,
        strategy="ddp" if options.devices > 1 else "auto",
        max_epochs=options.epochs,
        callbacks=[checkpoints],
        logger=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,  # it takes batches that the first validation would then not have
    )
    trainer.fit(Network(options.seen), datamodule=Digits(options.dataset), ckpt_path=options.resume)


if __name__ == "__main__":
    main()
