# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found about a driver that is there, and about the host around it."""

from __future__ import annotations

from collections.abc import Iterator

from .._findings.finding import FAIL, PASS, WARN, Finding
from . import matrix
from .facts import Facts, Kernel, branch_of
from .wish import Wish


def condition(facts: Facts, wish: Wish) -> list[Finding]:
    """All that is found about what is there."""
    return [
        *_others(facts),
        *_guard(facts),
        *_skew(facts),
        *_broken(facts),
        *_secure(facts),
        *_nouveau(facts),
        *_planned(wish),
    ]


def guarded(facts: Facts) -> Kernel | None:
    """The kernel that would boot next without a module of the driver; None where all is well."""
    if facts.container or not facts.next or not facts.version:
        return None
    kernel = facts.kernel(facts.next)
    built = any(one.done and one.kernel == facts.next for one in facts.builds)
    return None if kernel is None or kernel.module or built else kernel


def _guard(facts: Facts) -> Iterator[Finding]:
    kernel = guarded(facts)
    if kernel is None:
        if facts.next and facts.version and not facts.container:
            yield passing(
                "next_boot", f"the driver's module is there for {facts.next}, which boots next"
            )
        return
    lacking = "" if kernel.headers else ", and neither are its headers"
    build = "" if kernel.headers else f"apt-get install linux-headers-{kernel.release}; "
    yield warn(
        "next_boot",
        f"the kernel {kernel.release} boots next ({facts.next_why}), and the driver's module is "
        f"not there for it{lacking}",
        "a module for the kernel that boots next, before anybody restarts the host",
        f"{build}dkms autoinstall -k {kernel.release}, or boot {facts.running} by GRUB_DEFAULT; no "
        "further kernel comes with gpu_driver_hold",
    )


def _skew(facts: Facts) -> Iterator[Finding]:
    loaded = facts.loaded
    if loaded and facts.library and loaded != facts.library:
        yield warn(
            "skew",
            f"the kernel runs the driver {loaded}, and the libraries are {facts.library}: new "
            "programs cannot use the GPUs (driver/library version mismatch)",
            "one version of both",
            "restart the host (gpu_driver_reboot), or unload the module and load the new one",
        )
    if facts.persistenced and facts.library and facts.persistenced != facts.library:
        yield warn(
            "persistenced",
            f"nvidia-persistenced runs as {facts.persistenced}, and the libraries are "
            f"{facts.library}",
            "one version of both",
            "systemctl restart nvidia-persistenced",
        )
    module = facts.kernel(facts.running)
    if loaded and module and module.module and module.module != loaded:
        yield warn(
            "pending",
            f"the kernel runs the driver {loaded}, and {module.module} waits on the disk for the "
            "next start",
            "one version of both",
            "restart the host (gpu_driver_reboot)",
        )


def _broken(facts: Facts) -> Iterator[Finding]:
    rows = [one for one in facts.packages if one.broken]
    if rows:
        names = " ".join(one.name for one in rows)
        yield warn(
            "packages",
            f"packages of the driver are not installed to the end: "
            f"{', '.join(f'{one.name} ({one.state})' for one in rows)}",
            "packages whose installation ended",
            f"read /var/lib/dkms/nvidia*/*/build/make.log, then dpkg --configure {names}",
        )
    failed = [one for one in facts.builds if "broken" in one.state or "error" in one.state]
    for one in failed:
        yield warn(
            "dkms",
            f"dkms says of {one.module} {one.version} for {one.kernel or 'no kernel'}: {one.state}",
            "installed",
            f"dkms remove {one.module}/{one.version} --all, and install the driver anew",
        )


def _secure(facts: Facts) -> Iterator[Finding]:
    if facts.secure_boot is None and facts.cards:
        yield warn(
            "secure_boot",
            "whether Secure Boot is on cannot be read",
            "a known state of Secure Boot",
            "mokutil --sb-state",
        )
    if not facts.secure_boot or facts.loaded:
        return
    if facts.key == "enrolled":
        yield passing("secure_boot", "Secure Boot is on, and the key of dkms is enrolled")
        return
    said = {
        "not enrolled": "the key with which dkms signs is not enrolled",
        "none": "there is no key with which dkms could sign",
    }.get(facts.key, "whether the key of dkms is enrolled is not known")
    yield warn(
        "secure_boot",
        f"Secure Boot is on, and {said}: the kernel refuses a module that dkms builds",
        "an enrolled key",
        "mokutil --import /var/lib/dkms/mok.pub, restart, and confirm at the console",
    )


def _nouveau(facts: Facts) -> Iterator[Finding]:
    if not facts.nouveau or not facts.cards:
        return
    yield warn(
        "nouveau",
        "nouveau holds the GPUs, and the driver of NVIDIA cannot take them"
        + (", though it is not to be loaded at the next start" if facts.nouveau_off else ""),
        "nouveau not loaded",
        "restart the host (gpu_driver_reboot)"
        if facts.nouveau_off
        else "gpu_driver_mode install keeps nouveau from being loaded; then restart the host",
    )


def _planned(wish: Wish) -> Iterator[Finding]:
    lost = [one for one in wish.planned if one not in wish.seen]
    if wish.planned and wish.seen and lost:
        yield warn(
            "planned",
            f"the plan uses {len(lost)} GPUs that the driver does not tell: {', '.join(lost)}",
            "every planned GPU",
            "look with nvidia-smi -L and journalctl -k -g NVRM; where one is gone, assess again",
        )


def old_branch(version: str, month: str) -> Iterator[Finding]:
    row = matrix.BRANCHES.get(branch_of(version))
    if row is None or not month or (row.end and row.end >= month):
        return
    until = f"since {row.end}" if row.end else "any more"
    yield warn(
        "life",
        f"NVIDIA does not mend the branch {row.number} of the driver {until}",
        "a branch that is mended",
        "plan gpu_driver_mode upgrade, or leave it to the distribution that mends it",
    )


def _others(facts: Facts) -> Iterator[Finding]:
    if facts.others:
        yield passing(
            "others",
            "GPUs of other makers are taken as they are, with their drivers: "
            + ", ".join(facts.others),
        )
    if facts.jetson:
        yield passing(
            "jetson",
            f"{facts.jetson}: its driver is part of its system (L4T) and is taken as it is",
        )
    strange = [card for card in facts.cards if card.architecture == matrix.UNKNOWN]
    if strange:
        known = [card for card in strange if not matrix.outdated(card.device)]
        if known:
            yield warn(
                "architecture",
                f"the architecture of {', '.join(card.named for card in known)} is not known here",
                "cards from Kepler to Blackwell",
                "name the branch by gpu_driver_branch and the module by gpu_driver_module",
            )


def warn(name: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", WARN, found, wanted, remedy)


def fail(name: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", FAIL, found, wanted, remedy)


def passing(name: str, found: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", PASS, found)
