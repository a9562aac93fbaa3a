# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of one convolution and one layer of ten scores, trained by plain gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

KERNEL = 3
CLASSES = 10


class Network:
    """Weights, what they answer, and how they learn."""

    def __init__(self, filters: int, side: int, seed: int = 0) -> None:
        chance = np.random.default_rng(seed)
        self.side = side - KERNEL + 1
        width = filters * self.side**2
        self.kernels = chance.normal(0, 0.3, (filters, KERNEL * KERNEL))
        self.kernel_bias = np.zeros(filters)
        self.weights = chance.normal(0, np.sqrt(2 / width), (CLASSES, width))
        self.bias = np.zeros(CLASSES)

    def windows(self, images: Any) -> Any:
        """Every window of each image as a row: (n, places, pixels of a kernel)."""
        found = np.lib.stride_tricks.sliding_window_view(images[:, 0], (KERNEL, KERNEL), (1, 2))
        return found.reshape(len(images), self.side**2, KERNEL * KERNEL)

    def hidden(self, windows: Any) -> Any:
        """What the kernels see, in the order of ONNX: (n, filters * places)."""
        seen = np.maximum(windows @ self.kernels.T + self.kernel_bias, 0)
        return seen.transpose(0, 2, 1).reshape(len(windows), -1)

    def scores(self, images: Any) -> Any:
        """Probabilities of each digit."""
        raw = self.hidden(self.windows(images)) @ self.weights.T + self.bias
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def learn(self, images: Any, labels: Any, rate: float) -> None:
        """One step down the cross entropy of a batch."""
        windows = self.windows(images)
        hidden = self.hidden(windows)
        wrong = self.scores(images)
        wrong[np.arange(len(labels)), labels] -= 1
        wrong /= len(labels)
        back = (wrong @ self.weights) * (hidden > 0)
        back = back.reshape(len(images), len(self.kernels), -1).transpose(0, 2, 1)
        self.weights -= rate * wrong.T @ hidden
        self.bias -= rate * wrong.sum(axis=0)
        self.kernels -= rate * np.einsum("npf,npk->fk", back, windows)
        self.kernel_bias -= rate * back.sum(axis=(0, 1))

    def to_onnx(self, side: int) -> bytes:
        """The same network in the nodes of ONNX."""
        from onnx import TensorProto, checker, helper, numpy_helper

        def constant(name: str, value: Any) -> Any:
            return numpy_helper.from_array(np.asarray(value), name)

        shaped = self.kernels.reshape(-1, 1, KERNEL, KERNEL).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "kernels", "kernel_bias"], ["seen"]),
                helper.make_node("Relu", ["seen"], ["hidden"]),
                helper.make_node("Flatten", ["hidden"], ["flat"], axis=1),
                helper.make_node("Gemm", ["flat", "weights", "bias"], ["raw"], transB=1),
                helper.make_node("Softmax", ["raw"], ["scores"], axis=1),
                helper.make_node("ArgMax", ["scores"], ["digit"], axis=1, keepdims=0),
            ],
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, side, side])],
            [
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
                helper.make_tensor_value_info("digit", TensorProto.INT64, ["n"]),
            ],
            [
                constant("kernels", shaped),
                constant("kernel_bias", self.kernel_bias.astype(np.float32)),
                constant("weights", self.weights.astype(np.float32)),
                constant("bias", self.bias.astype(np.float32)),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data
