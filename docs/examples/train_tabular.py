"""Tell three cultivars apart by what is in their wine: a table, with a policy for each feature, and a model in NumPy alone.

./spark-submit.sh jobs/prepare.py conf/datasets/wine.toml
python docs/examples/train_tabular.py build/datasets/wine
"""

import argparse
from typing import Any

import numpy as np

import shardwright as sw

CLASSES = 3
BATCH_SIZE = 16
LEARNING_RATE = 0.1


def matrix(batch: dict[str, Any]) -> tuple[Any, Any]:
    """The features as columns in the order of their names, after one of ones: (n, 1 + features); and the cultivars (n,)."""
    features = [batch[name] for name in sorted(batch) if name != "cultivar"]
    return np.stack([np.ones_like(features[0]), *features], axis=1), batch["cultivar"]


def probabilities(weights: Any, x: Any) -> Any:
    scores = np.exp(x @ weights - (x @ weights).max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="path or URL of the prepared table")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()

    train, test = (sw.open_dataset(options.dataset, split=split) for split in ("train", "test"))
    # normalise=True: what the configuration standardises at read; what it did at write is done
    loader = train.loader(batch_size=BATCH_SIZE, seed=7, normalise=True, epochs=options.epochs)
    weights = np.zeros((len(train.schema), CLASSES))
    for _ in range(options.epochs):
        for batch in loader:
            x, cultivar = matrix(batch)
            gradient = x.T @ (probabilities(weights, x) - np.eye(CLASSES)[cultivar]) / len(x)
            weights -= LEARNING_RATE * gradient

    (batch,) = test.loader(batch_size=len(test), normalise=True, epochs=1)
    x, cultivar = matrix(batch)
    found = probabilities(weights, x).argmax(axis=1)
    print(f"accuracy {(found == cultivar).mean():.1%} on {len(test)} wines that were not trained on")
    wrong = test.loader(batch_size=len(test), normalise=True, epochs=1).inverse(batch)["alcohol"][found != cultivar]
    print(f"alcohol of those taken for another: {', '.join(f'{value:.1f} %' for value in wrong) or 'none'}")


if __name__ == "__main__":
    main()
