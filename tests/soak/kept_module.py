# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel modules that the campaign `gpu_driver` has built and loaded, kept by a key.

Building takes minutes; CI looks at what was built. A record says what the role was told of the host
before and after, what it chose, and which files dkms made of it. The key is that of the record's
host: kernel, packages and their versions. A record lies in ``tests/fixtures/nvidia_modules``; the
files, tens of megabytes, below the cache directory of the machine that built them.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labhosts.machine import CACHE

KEPT = CACHE / "gpu_driver" / "built"
RECORD = "record.json"


def key_of(record: Mapping[str, Any]) -> str:
    """What a module was built from: the kernel, and the packages with their versions."""
    words = [record["kernel"], sorted(record["versions"].items())]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]


def without_addresses(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the role was told, without where packages came from and what this machine has."""
    policy = [line for line in str(raw["policy"]).splitlines() if "://" not in line]
    return {**raw, "policy": "\n".join(policy) + "\n", "modules": []}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keep(folder: Path, record: Mapping[str, Any], place: Path = KEPT) -> Path:
    """Keep the modules of a folder, and the record of them."""
    files = sorted(path for path in folder.iterdir() if ".ko" in path.name)
    whole = {**record, "files": {path.name: digest(path) for path in files}}
    kept = place / key_of(record)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, kept / path.name)
    (kept / RECORD).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return kept


def section(data: bytes, wanted: str) -> bytes:
    """A section of an ELF file of 64 bits; empty where there is none of that name."""
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", data, offset + number * size) for number in range(count)]
    start = rows[names][4]
    for name, _kind, _flags, _address, begin, length in rows:
        end = data.index(b"\0", start + name)
        if data[start + name : end] == wanted.encode():
            return data[begin : begin + length]
    return b""


def told(path: Path) -> dict[str, str]:
    """What a module says of itself: its version, its licence, and the kernel that it is for."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        data = lzma.decompress(data)
    words = [row.decode("utf-8", "replace") for row in section(data, ".modinfo").split(b"\0")]
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: value for name, _sign, value in pairs}


def wrong(kept: Path) -> list[str]:
    """What is not as it should be of modules that were kept, each as a sentence."""
    record = json.loads((kept / RECORD).read_text())
    if key_of(record) != kept.name:
        return [f"{kept.name} holds a record of the key {key_of(record)}."]
    found = []
    for name, wanted in record["files"].items():
        path = kept / name
        if not path.exists():
            found.append(f"{name} is not there.")
        elif digest(path) != wanted:
            found.append(f"{name} is not the file that was built.")
    if found:
        return found
    main = [name for name in record["files"] if re.match(r"nvidia(-current)?\.ko", name)]
    if len(main) != 1:
        return [f"{len(main)} files are the driver itself; one was wanted."]
    said = told(kept / main[0])
    for what, has, wanted in (
        ("kernel", said.get("vermagic", "").partition(" ")[0], record["kernel"]),
        ("version", said.get("version", ""), record["version"]),
        ("licence", said.get("license", ""), "NVIDIA"),
    ):
        if has != wanted:
            found.append(f"{main[0]} says {what} {has or 'nothing'}, and {wanted} was wanted.")
    return found
