# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that `make soak SOAK=gpu_driver` has built and loaded, looked at again in CI.

The records are of a real host. That the role would choose the same today is looked at everywhere;
the modules themselves where they were built, by the key of their record.
"""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.facts import parse
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.verdict import judge
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.wish import Wish

from tests.soak.kept_module import KEPT, RECORD, keep, key_of, told, without_addresses, wrong

RECORDS = sorted(Path(__file__).resolve().parents[2].glob("fixtures/nvidia_modules/*.json"))
KERNEL, VERSION = "6.12.1-amd64", "550.1.02"
HOST = {"kernel": KERNEL, "version": VERSION, "versions": {"nvidia-kernel-dkms": "550.1.02-1"}}

each_record = pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)


def elf(*words: str) -> bytes:
    """An ELF file with a section of these words, and one that only looks like it."""
    info = b"".join(word.encode() + b"\0" for word in words)
    other = b"\0version=%s\0vermagic=%s\0"
    names = b"\0.rodata\0.modinfo\0.shstrtab\0"
    parts, offset = [(1, other), (9, info), (18, names)], 64
    rows, data = [bytes(64)], b""
    for name, part in parts:
        rows.append(struct.pack("<IIQQQQ", name, 1, 0, 0, offset, len(part)).ljust(64, b"\0"))
        data, offset = data + part, offset + len(part)
    head = bytearray(64)
    struct.pack_into("<Q", head, 0x28, offset)
    struct.pack_into("<HHH", head, 0x3A, 64, len(rows), len(rows) - 1)
    return bytes(head) + data + b"".join(rows)


def kept(place: Path, kernel: str = KERNEL, version: str = VERSION, name: str = "NVIDIA") -> Path:
    folder = place / "updates"
    folder.mkdir()
    words = (f"version={version}", f"license={name}", f"vermagic={kernel} SMP mod_unload ")
    (folder / "nvidia-current.ko.xz").write_bytes(lzma.compress(elf(*words)))
    (folder / "nvidia-current-uvm.ko").write_bytes(elf())
    (folder / "notes").write_text("no module")
    return keep(folder, HOST, place / "built")


def test_modules_that_are_as_they_were_built_are_found_well(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    assert folder.name == key_of(HOST)
    assert sorted(path.name for path in folder.iterdir()) == [
        "nvidia-current-uvm.ko",
        "nvidia-current.ko.xz",
        RECORD,
    ]
    assert wrong(folder) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"kernel": "6.12.9-amd64"}, f"says kernel 6.12.9-amd64, and {KERNEL} was wanted."),
        ({"version": "535.1.02"}, f"says version 535.1.02, and {VERSION} was wanted."),
        ({"name": "Dual MIT/GPL"}, "says licence Dual MIT/GPL, and NVIDIA was wanted."),
    ],
)
def test_a_module_of_something_else_is_told(
    tmp_path: Path, more: dict[str, str], sentence: str
) -> None:
    assert wrong(kept(tmp_path, **more)) == [f"nvidia-current.ko.xz {sentence}"]


def other_record(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "kernel": "6.12.9-amd64"}))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda folder: (folder / "nvidia-current-uvm.ko").unlink(), "is not there."),
        (
            lambda folder: (folder / "nvidia-current-uvm.ko").write_bytes(b"x"),
            "is not the file that was built.",
        ),
        (other_record, "holds a record of the key "),
    ],
)
def test_what_was_changed_since_is_told(
    tmp_path: Path, harm: Callable[[Path], Any], sentence: str
) -> None:
    folder = kept(tmp_path)
    harm(folder)
    (found,) = wrong(folder)
    assert sentence in found


def test_where_packages_came_from_is_not_kept() -> None:
    policy = "a:\n  Candidate: 1\n     1 500\n        500 http://mirror.example/debian x\n"
    assert without_addresses({"policy": policy, "modules": ["kvm"], "dkms": "y"}) == {
        "policy": "a:\n  Candidate: 1\n     1 500\n",
        "modules": [],
        "dkms": "y",
    }


def test_there_is_a_record_of_what_was_really_built() -> None:
    assert RECORDS
    assert all("://" not in path.read_text() for path in RECORDS)


@each_record
def test_the_role_would_choose_today_what_was_built_and_loaded(path: Path) -> None:
    record = json.loads(path.read_text())
    assert path.stem == key_of(record)
    host = parse(record["before"])
    chosen = judge(host, Wish(mode="install"))
    assert (chosen.action, chosen.sentence, list(chosen.packages), chosen.open) == (
        *(record["chosen"][name] for name in ("action", "sentence", "packages")),
        False,
    )
    refused = judge(host, Wish(mode="install", module="open"))
    assert {"action": refused.action, "sentence": refused.sentence} == record["refused"]
    assert any("No NVIDIA GPU found" in line for line in record["guest"])


@each_record
def test_the_role_adopts_what_was_built_for_the_kernel_that_boots_next(path: Path) -> None:
    record = json.loads(path.read_text())
    host = parse(record["after"])
    assert (host.next, host.version, host.open) == (record["kernel"], record["version"], False)
    adopted = judge(host, Wish(mode="install"))
    assert (adopted.action, adopted.hold_kernel) == ("adopt", ())


@each_record
def test_the_modules_of_the_key_are_those_that_were_built(path: Path) -> None:
    folder = KEPT / path.stem
    if not folder.exists():
        pytest.skip(
            f"no modules of the key {path.stem} here; make soak SOAK=gpu_driver builds them"
        )
    assert (
        json.loads((folder / RECORD).read_text())["versions"]
        == (json.loads(path.read_text())["versions"])
    )
    assert wrong(folder) == []


def test_a_module_tells_what_its_own_section_says(tmp_path: Path) -> None:
    path = tmp_path / "one.ko"
    path.write_bytes(elf("version=1.2", "alias=pci:a=b"))
    assert told(path) == {"version": "1.2", "alias": "pci:a=b"}
