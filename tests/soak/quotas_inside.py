# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest of `dataset_quotas` does: the module on file systems, and a person who writes.

    python3 quotas_inside.py DIRECTORY_OF_LIBRARIES ext4=/dev/vdb xfs=/dev/vdc

Each line it says is JSON: which file system, which step, and what was seen. It judges nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PERSON, MIB = 5001, 1 << 20
DATA = Path("/data")
PLACE, BESIDE = DATA / "images", DATA / "beside"
KNOWN = Path("/var/lib/mlops/datasets.json")
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}


def done(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def module(*rows: dict[str, Any], check: bool = False, delete: tuple[str, ...] = ()) -> Any:
    """What the module answers."""
    from ansible.module_utils import testing
    from ansible_collections.mlops.onprem.plugins.modules import dataset_directory

    given = {
        "datasets": list(rows),
        "known": str(KNOWN),
        "delete": list(delete),
        "_ansible_check_mode": check,
    }
    said = io.StringIO()
    ended = contextlib.suppress(SystemExit)
    with testing.patch_module_args(given), contextlib.redirect_stdout(said), ended:
        dataset_directory.main()
    answer = json.loads(said.getvalue())
    words = ("changed", "changes", "unlimited", "kept", "failed", "msg", "exception")
    return {word: answer[word] for word in words if answer.get(word)}


def images(mib: float, **more: Any) -> dict[str, Any]:
    return {"workload": "images", "path": str(PLACE), "mib": mib, "mount": str(DATA)} | {
        "owner": "anna",
        "group": "anna",
        **more,
    }


def written(path: Path, mib: int) -> dict[str, Any]:
    """How much of a file a person without rights could write, and what the system said then."""
    child, parent = os.pipe()
    process = os.fork()
    if process == 0:
        os.setgroups([])
        os.setgid(PERSON)
        os.setuid(PERSON)
        told: dict[str, Any] = {"mib": 0, "errno": ""}
        try:
            with path.open("wb", buffering=0) as stream:
                for _time in range(mib):
                    if stream.write(b"x" * MIB) != MIB:
                        continue  # the next one says why
                    os.fsync(stream.fileno())
                    told["mib"] += 1
        except OSError as error:
            told["errno"] = errno.errorcode[error.errno or 0]
        os.write(parent, json.dumps(told).encode())
        os._exit(0)
    os.close(parent)
    with os.fdopen(child) as stream:
        text = stream.read()
    os.waitpid(process, 0)
    return dict(json.loads(text))


def as_person(*command: str) -> int:
    return subprocess.run(
        command, user=PERSON, group=PERSON, extra_groups=[], capture_output=True, check=False
    ).returncode


def report(kind: str) -> list[str]:
    """What the file system itself says of projects."""
    os.sync()
    if kind == "xfs":
        return done("xfs_quota", "-x", "-c", "report -p -n -N", str(DATA)).splitlines()
    return done("repquota", "-P", "-n", str(DATA)).splitlines()


def names() -> list[str]:
    return sorted(path.name for path in DATA.iterdir())


def mounted(device: str, *options: str) -> None:
    if os.path.ismount(DATA):
        done("umount", str(DATA))
    done("mount", *(["-o", ",".join(options)] if options else []), device, str(DATA))


def tried(kind: str, device: str) -> None:
    def say(step: str, **seen: Any) -> None:
        print("guest: " + json.dumps({"kind": kind, "step": step, **seen}), flush=True)

    done(*MAKE[kind], device)
    mounted(device, "prjquota")
    BESIDE.mkdir()
    os.chown(BESIDE, PERSON, PERSON)
    say("check", answer=module(images(16), check=True), there=PLACE.exists())
    say("made", answer=module(images(16)), report=report(kind))
    say("again", answer=module(images(16)))
    say("below", wrote=written(PLACE / "a", 12))
    say("above", wrote=written(PLACE / "b", 12))
    # No claim: what a person can do to a file of their own.
    say("moved out", ended=as_person("chattr", "-p", "0", str(PLACE / "a")), report=report(kind))
    say("beside", wrote=written(BESIDE / "c", 24))
    (PLACE / "b").unlink()
    say("more", answer=module(images(32)), wrote=written(PLACE / "b", 12))
    free = images(32, quota=False)
    say("free", answer=module(free), wrote=written(PLACE / "c", 24), report=report(kind))
    say("free again", answer=module(free))
    say("full", answer=module(images(32)), wrote=written(PLACE / "d", 1))
    say("left", answer=module(), there=(PLACE / "a").exists(), report=report(kind))
    say("deleted", answer=module(delete=("images",)), report=report(kind))
    say("nothing", place=PLACE.exists(), known=KNOWN.exists(), data=names())

    # A file system that could not count when the dataset came.
    mounted(device)
    say("uncounted", answer=module(images(16)), wrote=written(PLACE / "a", 12))
    mounted(device, "prjquota")
    say("counted", answer=module(images(16)), wrote=written(PLACE / "b", 12))
    say("end", answer=module(delete=("images",)), report=report(kind))
    done("umount", str(DATA))


def main(words: list[str]) -> None:
    sys.path.insert(0, words[0])
    DATA.mkdir(exist_ok=True)
    KNOWN.parent.mkdir(parents=True, exist_ok=True)
    for word in words[1:]:
        kind, _sign, device = word.partition("=")
        tried(kind, device)


if __name__ == "__main__":
    main(sys.argv[1:])
