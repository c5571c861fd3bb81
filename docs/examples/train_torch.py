"""Train a small convolutional network on prepared digits, on any number of ranks, and stop and resume in mid-epoch.

    torchrun --nproc-per-node 2 docs/examples/train_torch.py build/datasets/mnist --epochs 8

Stop after 100 steps; later continue with the very next sample, on one rank, or four:

    torchrun --nproc-per-node 2 docs/examples/train_torch.py build/datasets/mnist --stop-after 100 --checkpoint run.pt
    torchrun --nproc-per-node 4 docs/examples/train_torch.py build/datasets/mnist --epochs 8 --checkpoint run.pt
"""

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import shardwright as sw
import shardwright.torch as swt

BATCH_SIZE = 16
LEARNING_RATE = 3e-3
SEED = 7


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.4), nn.Linear(48 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def distort(images: torch.Tensor) -> torch.Tensor:
    """Each digit turned, scaled and moved a little: 1,800 are not many. Shape (n, 1, 28, 28)."""
    angle, scale, moved = (torch.rand(len(images), n) - 0.5 for n in (1, 1, 2))
    cosine, sine, scale = torch.cos(0.5 * angle), torch.sin(0.5 * angle), 1 + 0.3 * scale
    rows = (torch.cat([scale * cosine, -scale * sine], 1), torch.cat([scale * sine, scale * cosine], 1))
    affine = torch.cat([torch.stack(rows, 1), 0.25 * moved[:, :, None]], 2)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    background = images.min()
    return nn.functional.grid_sample(images - background, grid, align_corners=False) + background


def accuracy(model: nn.Module, url: str) -> float:
    """On the validation split. Each rank looks at its share; at most world size - 1 samples are left out."""
    right = torch.zeros(2)
    model.eval()
    validation = swt.loader(sw.open_dataset(url, split="validation"), 256, shuffle="none", normalise=("image",), epochs=1)
    with torch.no_grad():
        for batch in validation:
            found = model(batch["image"][:, None]).argmax(dim=1)
            right += torch.tensor([(found == batch["label"]).sum(), len(found)])
    model.train()
    dist.all_reduce(right)
    return float(right[0] / right[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared digits")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--stop-after", type=int, metavar="STEPS", help="stop after so many steps, wherever that is")
    parser.add_argument("--checkpoint", type=Path, help="resume from this file if it exists; write it at the end")
    parser.add_argument("--seen", type=Path, help="append epoch and key of every sample trained on to FILE.RANK")
    options = parser.parse_args()

    dist.init_process_group("gloo")  # torchrun says in the environment who we are
    rank = dist.get_rank()
    torch.manual_seed(SEED)

    # The data. The rank comes from torch.distributed; mean and std from the dataset's own statistics.
    train = sw.open_dataset(options.dataset, split="train", columns=["image", "label", "_key"])
    loader = swt.loader(train, BATCH_SIZE, seed=SEED, normalise=("image",), epochs=options.epochs)

    model = DistributedDataParallel(make_model())
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)

    # Resuming. The loader's state is the same on all ranks, and says nothing of how many there were.
    if options.checkpoint and options.checkpoint.exists():
        checkpoint = torch.load(options.checkpoint, weights_only=True)
        model.module.load_state_dict(checkpoint["model"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        loader.load_state_dict(checkpoint["loader"])

    steps = 0
    stopped = False
    while loader.epoch < options.epochs and not stopped:
        epoch = loader.epoch
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - epoch / options.epochs)
        for batch in loader:  # the rest of this epoch
            loss = nn.functional.cross_entropy(model(distort(batch["image"][:, None])), batch["label"].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
            if options.seen:
                with open(f"{options.seen}.{rank}", "a") as log:
                    log.writelines(f"{epoch} {bytes(key.tolist()).hex()}\n" for key in batch["_key"])
            stopped = steps == options.stop_after
            if stopped:
                break
        if not stopped:
            found = accuracy(model, options.dataset)
            if rank == 0:
                print(f"epoch {epoch}: accuracy {found:.1%} on the validation split")

    if options.checkpoint and rank == 0:
        state = {"model": model.module.state_dict(), "optimiser": optimiser.state_dict(), "loader": loader.state_dict()}
        torch.save(state, options.checkpoint)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
