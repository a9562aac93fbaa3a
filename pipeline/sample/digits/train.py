# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the network; write it as ONNX with golden requests and the network's own answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from network import Network

BATCH = 32


def golden_case(network: Network, image: Any) -> dict[str, Any]:
    """A request in the Open Inference Protocol with its answer."""
    scores = network.scores(image[None])[0]
    request = {
        "name": "image",
        "shape": [1, *image.shape],
        "datatype": "FP32",
        "data": [float(value) for value in image.ravel()],
    }
    return {
        "request": {"inputs": [request]},
        "expected": {
            "scores": [float(value) for value in scores],
            "digit": [int(scores.argmax())],
        },
    }


def main() -> None:
    """Read the images, write the candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--candidate", type=Path, required=True)
    for name, value in (("filters", 12), ("epochs", 30), ("rate", 0.1), ("golden-cases", 16)):
        parser.add_argument(f"--{name}", type=float, default=value)
    options = parser.parse_args()
    for name in ("filters", "epochs", "golden_cases"):
        if getattr(options, name) < 1:
            raise SystemExit(f"{name}: found {getattr(options, name):g}, wanted 1 or more.")
    images = np.load(options.data / "train_images.npy").astype(np.float64)
    labels = np.load(options.data / "train_labels.npy")
    side = images.shape[2]
    network = Network(int(options.filters), side)
    chance = np.random.default_rng(0)
    for _epoch in range(int(options.epochs)):
        order = chance.permutation(len(labels))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            network.learn(images[chosen], labels[chosen], options.rate)
    accuracy = float((network.scores(images).argmax(axis=1) == labels).mean())
    unseen = np.load(options.data / "test_images.npy")
    cases = [golden_case(network, image) for image in unseen[: int(options.golden_cases)]]
    parameters = {name: getattr(options, name) for name in ("filters", "epochs", "rate")}
    files = {
        "golden.json": {"cases": cases},
        "config.json": {"input": "image", "classes": list(range(10))},
        "training.json": {
            "parameters": {**parameters, "train_rows": len(labels)},
            "metrics": {"train_accuracy": accuracy},
        },
    }
    (options.candidate / "model.onnx").write_bytes(network.to_onnx(side))
    # All images: the more there are, the smaller a change that devices can tell from chance.
    everything = np.concatenate([images, unseen]).astype(np.float32)
    np.savez(options.candidate / "reference.npz", image=everything)
    for name, content in files.items():
        (options.candidate / name).write_text(json.dumps(content, sort_keys=True))


if __name__ == "__main__":
    main()
