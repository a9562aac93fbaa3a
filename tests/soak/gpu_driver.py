# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's GPU drivers, really built for trixie's kernel, and really loaded there.

    python -m tests.soak.gpu_driver [--fresh]

In a root of Debian trixie with a kernel, below the cache directory, the code of the role judges a
host with an A100 and brings drivers as a run does:

open     Debian's open module. It does not build for this kernel; the error has to hold the end of
         the build's log, and packages and files have to be as they were before.
closed   what the verdict chooses by itself. dkms has to say "installed" for the kernel.
guest    QEMU starts that kernel, without KVM, with the built module on its disk: modprobe has to
         get as far as the driver's own "No NVIDIA GPU found", which a module of another kernel, or
         with a symbol that is missing, never says.
kept     The modules lie below the cache directory, and their record in tests/fixtures, where CI
         looks at both (tests/unit/soak/test_kept_module.py). Commit the record.

Needs root. Nothing is installed on this machine: QEMU is in a root of its own. Both roots are kept
and used as copies; --fresh makes them anew. Prints JSON lines and the counts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from labhosts.machine import CACHE

from tests.soak import kept_module
from tests.soak.guest import KERNEL, console, kernel_of, ran, said, trixie
from tests.soak.roots import Count, run

ROOT = Path(__file__).resolve().parents[2]
PLACE = CACHE / "gpu_driver"
PACKAGES = ("python3", "python3-apt", "ca-certificates", "kmod", "initramfs-tools")
PROGRAM = """
import json, sys, time
from module_utils._gpu_driver import facts, read, verdict
from module_utils._host import packages, packages_apply, system
words = json.loads(sys.argv[1])
kernel = words["kernel"]
raw = read.read()
card = ["0000:3b:00.0", "0x10de", "0x20b0", "0x030200", ""]
raw.update(running=kernel, container=False, pci=[card])
wish = verdict.Wish(mode="install", module=words["module"])
judged = verdict.judge(facts.parse(raw), wish)
told = {"action": judged.action, "sentence": judged.sentence, "packages": list(judged.packages)}
names = words["packages"] or list(judged.packages)
if words["install"]:
    began = time.monotonic()
    attempt = packages_apply.Attempt(
        "gpu_driver", packages.install_words(names, False), (), "/var/lib/dkms/*/*/build/make.log"
    )
    with system.Book(False) as book:
        try:
            told["installed"] = list(packages_apply.attempt(book, attempt).new)
        except system.HostError as error:
            told["said"] = str(error)
        told["ledger"] = len(list(book.ledger))
    told["seconds"] = round(time.monotonic() - began, 1)
told["dkms"] = read.run(["dkms", "status"]).strip()
told["raw"] = raw
print(json.dumps(told))
"""
SCRIPT = """
echo "guest: $(uname -r)"
modprobe nvidia
echo "guest: modprobe ended with $?"
dmesg | grep -i -E 'nvidia|nvrm' | sed 's/^/guest: /'
"""
FOUND_NONE = "No NVIDIA GPU found"
LONGEST = 3600  # seconds that a guest may take on a machine that others use, too
RECORDS = ROOT / "tests" / "fixtures" / "nvidia_modules"


def asked(root: Path, **words: Any) -> dict[str, Any]:
    """The answer of the role's own code on the host."""
    library = root / "srv/mlops"
    shutil.rmtree(library, ignore_errors=True)
    for package in ("_gpu_driver", "_host", "_findings"):
        source = ROOT / "plugins/module_utils" / package
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, library / "module_utils" / package, ignore=ignore)
    given = json.dumps({"packages": [], "install": False, "module": "auto", **words})
    text = ran(
        root,
        *("env", "PYTHONPATH=/srv/mlops", "PYTHONDONTWRITEBYTECODE=1"),
        *("/usr/bin/python3", "-c", PROGRAM, given),
    )
    return dict(json.loads(text.splitlines()[-1]))


def picture(root: Path) -> dict[str, list[str]]:
    """What a driver could leave: packages, and files where kernels, dkms and modprobe look."""
    places = ("usr/src", "var/lib/dkms", "etc", "usr/lib/modules", "usr/lib/firmware")
    paths = [
        str(path.relative_to(root))
        for place in places
        for path in sorted((root / place).rglob("*"))
        if "__pycache__" not in path.parts
    ]
    # What tools write for themselves: caches, and dpkg's own copies.
    own = re.compile(r"etc/(ld\.so\.cache|passwd-|group-|shadow-|gshadow-|subuid-|subgid-)$")
    listing = ran(root, "dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n")
    return {
        "packages": sorted(listing.splitlines()),
        "paths": [path for path in paths if not own.search(path)],
    }


def versions(root: Path, names: list[str]) -> dict[str, str]:
    """The versions of packages that are installed."""
    listing = ran(root, "dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names)
    return dict(line.split(" ", 1) for line in listing.splitlines())


def campaign(fresh: bool) -> int:
    count = Count()
    began = time.monotonic()
    made = trixie(PLACE, "host", (*PACKAGES, KERNEL), fresh)
    root = PLACE / "work"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(made), str(root)], check=True)
    release = kernel_of(root)
    before = picture(root)

    seen = refused = asked(root, kernel=release, module="open")
    count.judge(
        "open refused",
        seen["action"] == "refuse" and "does not build for the kernel" in seen["sentence"],
        sentence=seen["sentence"],
    )
    names = [f"linux-headers-{release}", "nvidia-open-kernel-dkms"]
    seen = asked(root, kernel=release, packages=names, install=True)
    error = seen.get("said", "")
    count.judge(
        "open does not build",
        "make.log ended with:" in error and "pci_resize_resource" in error,
        seconds=seen["seconds"],
        said=error[-900:],
    )
    after = picture(root)
    differs = {
        part: sorted(set(before[part]) ^ set(after[part]))[:12]
        for part in before
        if before[part] != after[part]
    }
    count.judge("host as before", not differs and not seen["ledger"], differs=differs)

    seen = chosen = asked(root, kernel=release, install=True)
    built = re.search(rf"nvidia\S*/(\S+), {re.escape(release)}, x86_64: installed", seen["dkms"])
    count.judge(
        "closed builds",
        seen["action"] == "install" and bool(built),
        sentence=seen["sentence"],
        seconds=seen["seconds"],
        dkms=seen["dkms"],
        said=seen.get("said", "")[-900:],
    )
    again = asked(root, kernel=release)
    count.judge("then adopted", again["action"] == "adopt", sentence=again["sentence"])
    if built:
        started = time.monotonic()
        text = console(root, SCRIPT, fresh, longest=LONGEST)
        lines = said(text)
        loaded = FOUND_NONE in text and release in lines
        count.judge(
            "guest loads it",
            loaded,
            seconds=round(time.monotonic() - started, 1),
            console=lines[-12:] or text.splitlines()[-12:],
        )
        if loaded and not count.failed:
            record = {
                "kernel": release,
                "versions": versions(root, chosen["packages"]),
                "version": built.group(1),
                "before": kept_module.without_addresses(refused["raw"]),
                "after": kept_module.without_addresses(again["raw"]),
                "chosen": {name: chosen[name] for name in ("action", "sentence", "packages")},
                "refused": {name: refused[name] for name in ("action", "sentence")},
                "guest": lines,
                "seconds": chosen["seconds"],
            }
            modules = root / "usr/lib/modules" / release / "updates/dkms"
            kept = kept_module.keep(modules, record)
            RECORDS.mkdir(exist_ok=True)
            shutil.copyfile(kept / kept_module.RECORD, RECORDS / f"{kept.name}.json")
            count.judge("kept for CI", not kept_module.wrong(kept), key=kept.name)
    return count.end(began, kernel=release) or int(not built)


def clear() -> None:
    shutil.rmtree(PLACE / "work", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run(__doc__, campaign, clear, sys.argv[1:]))
