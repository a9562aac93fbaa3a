# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of datasets with project quotas, on an ext4 and an XFS that really count.

    python -m tests.soak.dataset_quotas [--fresh]

Containers cannot show it, as they share file systems that are mounted by others. QEMU starts a
Debian with a kernel of its own, without KVM; in it the module makes, limits, frees and deletes a
dataset, and a person without rights writes into it until the file system says no.

Needs root. Both roots are kept and used as copies; --fresh makes them anew. Prints JSON lines and
the counts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._workloads.datasets import project_of
from labhosts.machine import CACHE

from tests.soak import quotas_inside
from tests.soak.guest import KERNEL, blank, console, kernel_of, ran, said, trixie
from tests.soak.roots import CannotRun, Count, run, say

ROOT = Path(__file__).resolve().parents[2]
PLACE = CACHE / "dataset_quotas"
PACKAGES = ("python3", "kmod", "initramfs-tools", "e2fsprogs", "quota", "xfsprogs", KERNEL)
DISKS = {"ext4": "/dev/vdb", "xfs": "/dev/vdc"}
LIBRARY = "/srv/mlops"
# XFS answers as a full disk would; it keeps EDQUOT for quotas of users and groups.
FULL = {"ext4": "EDQUOT", "xfs": "ENOSPC"}
NO_CLAIM = "moved out"
NUMBER = project_of(str(quotas_inside.PLACE))


def rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """What the guest told, without what else is on its console."""
    found = []
    for line in lines:
        if line.startswith("{"):
            found.append(dict(json.loads(line)))
    return found


def limit_kib(report: Iterable[str], number: int = NUMBER) -> int:
    """The hard limit of a project in KiB, as the tools of both file systems print it; 0 is none."""
    for line in report:
        words = line.split()
        if words and words[0] == f"#{number}":
            _used, _soft, hard = [int(word) for word in words[1:] if word.isdigit()][:3]
            return hard
    return 0


def judged(kind: str, told: Iterable[dict[str, Any]]) -> Iterator[tuple[str, bool, Any]]:
    """Each claim about a file system, whether it is so, and what was seen.

    A step that the guest did not come to is not so.
    """
    seen: dict[str, dict[str, Any]] = {row["step"]: row for row in told if row["kind"] == kind}

    def claim(step: str, good: Any) -> tuple[str, bool, Any]:
        row = seen.get(step)
        return f"{kind} {step}", row is not None and bool(good(row)), row

    def changes(row: dict[str, Any]) -> list[str]:
        return list(row["answer"].get("changes", []))

    def stopped(row: dict[str, Any], mib: int) -> bool:
        return bool(row["wrote"]["errno"] == FULL[kind] and 0 <= row["wrote"]["mib"] < mib)

    def all_of(row: dict[str, Any], mib: int) -> bool:
        return bool(row["wrote"] == {"mib": mib, "errno": ""})

    place = quotas_inside.PLACE
    most = f"{place}: at most {{}} MiB"
    yield claim("check", lambda row: most.format(16) in changes(row) and row["there"] is False)
    yield claim(
        "made", lambda row: most.format(16) in changes(row) and limit_kib(row["report"]) == 16 << 10
    )
    yield claim("again", lambda row: row["answer"] == {})
    yield claim("below", lambda row: all_of(row, 12))
    yield claim("above", lambda row: stopped(row, 12))
    yield claim("beside", lambda row: all_of(row, 24))
    yield claim("more", lambda row: changes(row) == [most.format(32)] and all_of(row, 12))
    lifted = [f"{place}: no longer limited"]
    yield claim(
        "free",
        lambda row: changes(row) == lifted and all_of(row, 24) and limit_kib(row["report"]) == 0,
    )
    yield claim("free again", lambda row: row["answer"] == {})
    yield claim("full", lambda row: changes(row) == [most.format(32)] and stopped(row, 1))
    yield claim(
        "left",
        lambda row: (
            set(row["answer"]) == {"kept"}
            and row["there"] is True
            and limit_kib(row["report"]) == 32 << 10
        ),
    )
    yield claim(
        "deleted",
        lambda row: row["answer"].get("changed") is True and limit_kib(row["report"]) == 0,
    )
    yield claim(
        "nothing",
        lambda row: (
            (row["place"], row["known"]) == (False, False)
            and set(row["data"]) <= {"beside", "lost+found"}
        ),
    )
    nothing = f"nothing limits what {place} of images takes: {quotas_inside.DATA} is {kind}"
    yield claim(
        "uncounted",
        lambda row: (
            row["answer"].get("unlimited") == [f"{nothing} without prjquota"] and all_of(row, 12)
        ),
    )
    yield claim("counted", lambda row: changes(row) == [most.format(16)] and stopped(row, 12))
    yield claim("end", lambda row: limit_kib(row["report"]) == 0)


def libraries(root: Path) -> None:
    """Put the module, what it imports, and what it is started by into the root."""
    place = root / LIBRARY.lstrip("/")
    shutil.rmtree(place, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    plugins = place / "ansible_collections/mlops/onprem/plugins"
    shutil.copytree(ROOT / "plugins/module_utils", plugins / "module_utils", ignore=ignore)
    (plugins / "modules").mkdir()
    name = "modules/dataset_directory.py"
    shutil.copyfile(ROOT / "plugins" / name, plugins / name)
    spec = find_spec("ansible")
    if spec is None or spec.origin is None:
        raise CannotRun("ansible-core is not installed where the campaign runs.")
    source = Path(spec.origin).parent / "module_utils"
    shutil.copytree(source, place / "ansible/module_utils", ignore=ignore)
    (place / "ansible/__init__.py").touch()
    shutil.copyfile(Path(quotas_inside.__file__), place / "inside.py")


def campaign(fresh: bool) -> int:
    count = Count()
    began = time.monotonic()
    made = trixie(PLACE, "host", PACKAGES, fresh)
    root = PLACE / "work"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(made), str(root)], check=True)
    ran(root, "useradd", "--uid", str(quotas_inside.PERSON), "--user-group", "anna")
    libraries(root)
    words = [f"{kind}={device}" for kind, device in DISKS.items()]
    script = f"python3 {LIBRARY}/inside.py {LIBRARY} {' '.join(words)} || echo 'guest: broke off'\n"
    with blank(PLACE, ["512M"] * len(DISKS)) as disks:
        text = console(root, script, fresh, disks, longest=1800)
    told = rows(said(text))
    for kind in DISKS:
        for step, good, seen in judged(kind, told):
            count.judge(step, good, seen=seen)
    for row in told:
        if row["step"] == NO_CLAIM:
            say(**row)
    if count.failed:
        say(console=text.splitlines()[-30:])
    return count.end(began, kernel=kernel_of(root))


def clear() -> None:
    shutil.rmtree(PLACE / "work", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run(__doc__, campaign, clear, sys.argv[1:]))
