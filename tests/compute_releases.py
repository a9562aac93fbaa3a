# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put releases into a registry for what serves on servers: an ONNX model, and a language model.

Two more of the first may not be served: what a stranger has signed, and what nobody has.

    python -m tests.compute_releases --url https://10.209.0.10:5443 --ca-file ca.crt \\
        --key sign.key --user push --password-file password --repository models

prints the digests by name as JSON. The language model has random weights, always the same ones.
"""

from __future__ import annotations

import json

from tests.fixtures import random_gguf
from tests.releases import Publisher, Signer, publish_by_command

PROMPTS = ("hello", "what is the answer")


def language_model() -> dict[str, bytes]:
    """The files of its release. Without expected answers each prompt is asked twice."""
    cases = [{"request": {"prompt": prompt, "max_tokens": 8}} for prompt in PROMPTS]
    return {
        "model.gguf": random_gguf.model(),
        "config.json": json.dumps({"model_name": "tiny"}).encode(),
        "golden.json": json.dumps({"cases": cases}).encode(),
    }


def publish_all(publisher: Publisher, stranger: Signer) -> dict[str, str]:
    """Publish them; return their digests by name."""
    return {
        "iris": publisher.publish("1", tag=True),
        "tiny": publisher.publish("1", tag=True, files=language_model(), kind="gguf", model="tiny"),
        "stranger": publisher.publish("2", tag=True, sign=stranger),
        "unsigned": publisher.publish("3", tag=True, signed=False),
    }


def main() -> None:
    """Publish; print the digests."""
    print(json.dumps(publish_by_command(__doc__, publish_all), sort_keys=True))


if __name__ == "__main__":
    main()
