# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would do about the driver of a host, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings.finding import Finding
from . import matrix
from .condition import condition, fail, guarded, old_branch, passing, warn
from .facts import DEBIAN, KERNEL_PACKAGE, RUNFILE, Facts, branch_of, flavour_of, numbers
from .pairs import WORDS, clashes
from .wish import ADOPT, CLOSED, INSTALL, OPEN, UPGRADE, Wish

REFUSE, NOTHING = "refuse", "nothing"


@dataclass(frozen=True)
class Verdict:
    """What will be done, why, and with which packages."""

    action: str
    sentence: str
    findings: tuple[Finding, ...] = ()
    packages: tuple[str, ...] = ()
    version: str = ""
    open: bool | None = None
    hold_kernel: tuple[str, ...] = ()
    clashes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "action": self.action,
            "sentence": self.sentence,
            # Of the host that takes them down.
            "findings": [
                {key: value for key, value in row.as_dict().items() if key != "host"}
                for row in self.findings
            ],
            "packages": list(self.packages),
            "version": self.version,
            "module": "" if self.open is None else WORDS[self.open],
            "hold_kernel": list(self.hold_kernel),
            "clashes": list(self.clashes),
        }


@dataclass(frozen=True)
class _Offer:
    row: matrix.Candidate
    version: str
    why_not: tuple[str, ...]

    @property
    def upstream(self) -> str:
        return self.version.rpartition("-")[0] or self.version


def _offers(facts: Facts, wish: Wish) -> list[_Offer]:
    found = []
    for row in matrix.CANDIDATES:
        version = facts.candidates.get(row.kernel, "")
        if row.source != wish.source or not version:
            continue
        upstream = version.rpartition("-")[0] or version
        why = list(clashes(upstream, row.open, facts, wish.cuda, row.source))
        if wish.branch and branch_of(version) != wish.branch:
            why.append(
                f"{row.kernel} is of branch {branch_of(version)}, and gpu_driver_branch asks for "
                f"{wish.branch}"
            )
        if wish.module in (OPEN, CLOSED) and (wish.module == OPEN) != row.open:
            why.append(
                f"{row.kernel} is the {WORDS[row.open]} kernel module, and gpu_driver_module asks "
                f"for the {wish.module} one"
            )
        found.append(_Offer(row, version, tuple(why)))
    # Open before closed of one branch, as NVIDIA advises where both drive the cards.
    return sorted(found, key=lambda one: (branch_of(one.version), one.row.open), reverse=True)


def headers(facts: Facts) -> tuple[str, ...]:
    """Packages with the headers that dkms needs, for the kernels that run and boot next."""
    releases = dict.fromkeys(one for one in (facts.running, facts.next) if one)
    if facts.container:
        releases = dict.fromkeys([facts.next] if facts.next else [])
    found = []
    for release in releases:
        kernel = facts.kernel(release)
        if kernel is None or not kernel.headers:
            found.append(f"linux-headers-{release}")
    return tuple(found)


def _images(facts: Facts) -> tuple[str, ...]:
    flavour = flavour_of(facts.next or facts.running)
    return (f"linux-image-{flavour}", f"linux-headers-{flavour}") if flavour else ()


def judge(facts: Facts, wish: Wish) -> Verdict:
    """What is to be done, with all that was found."""
    found = condition(facts, wish)
    version = facts.version or wish.told
    hold = _images(facts) if guarded(facts) is not None else ()
    verdict = _with_cards(facts, wish, version) if facts.cards or version else _without(facts)
    chosen = verdict.version if verdict.action != REFUSE else ""
    found += [*old_branch(chosen, wish.month), *verdict.findings]
    return Verdict(
        verdict.action,
        verdict.sentence,
        tuple(found),
        verdict.packages,
        verdict.version,
        verdict.open,
        hold,
        verdict.clashes,
    )


def _without(facts: Facts) -> Verdict:
    if facts.others or facts.jetson:
        return Verdict(ADOPT, "the GPUs here are not driven by a driver that this role installs")
    sentence = "no GPU is seen on the bus of this host"
    return Verdict(
        NOTHING,
        sentence,
        (
            warn(
                "cards", sentence, "a GPU", "take the host out of the group gpu, or look with lspci"
            ),
        ),
    )


def _with_cards(facts: Facts, wish: Wish, version: str) -> Verdict:
    if version and wish.mode != UPGRADE:
        return _adopted(facts, wish, version)
    if not version and wish.mode == ADOPT:
        sentence = f"no driver is there for {_named(facts)}"
        return Verdict(
            REFUSE,
            sentence,
            (
                fail(
                    "driver",
                    sentence,
                    "a driver that can be adopted",
                    "set gpu_driver_mode to install, or install the company's driver",
                ),
            ),
        )
    return _chosen(facts, wish, version)


def _named(facts: Facts) -> str:
    return ", ".join(card.named for card in facts.cards)


def _adopted(facts: Facts, wish: Wish, version: str) -> Verdict:
    is_open = facts.open
    how = {
        "debian": "from Debian's packages",
        "nvidia": "from NVIDIA's repository",
        "runfile": "by NVIDIA's installer (runfile)",
    }.get(facts.origin, "from a source that is not known")
    module = "" if is_open is None else f", {WORDS[is_open]} kernel module"
    sentence = f"the driver {version} {how}{module} is adopted"
    why = clashes(version, is_open, facts, wish.cuda)
    if why:
        return Verdict(
            REFUSE,
            f"the driver {version} that is there cannot be used: {why[0]}",
            tuple(fail("pair", one, "a driver that fits", _way(facts)) for one in why),
            version=version,
            open=is_open,
            clashes=why,
        )
    return Verdict(ADOPT, sentence, (passing("driver", sentence),), version=version, open=is_open)


def _way(facts: Facts) -> str:
    if facts.origin == RUNFILE:
        return "take it away with nvidia-uninstall, then set gpu_driver_mode to install"
    return "set gpu_driver_mode to upgrade, and gpu_driver_source, _branch and _module where needed"


def _chosen(facts: Facts, wish: Wish, version: str) -> Verdict:
    if version and facts.origin not in (wish.source, ""):
        sentence = (
            f"the driver {version} came by {facts.origin}, and gpu_driver_source is {wish.source}: "
            "one is not put over the other"
        )
        return Verdict(
            REFUSE,
            sentence,
            (
                fail(
                    "source",
                    sentence,
                    "one source",
                    _way(facts)
                    if facts.origin == RUNFILE
                    else f"set gpu_driver_source to {facts.origin}, or remove the driver first",
                ),
            ),
            version=version,
            open=facts.open,
        )
    offers = _offers(facts, wish)
    good = [one for one in offers if not one.why_not]
    if not good:
        return _no_offer(offers, wish)
    best = good[0]
    if version and numbers(best.upstream) <= numbers(version):
        return _adopted(facts, wish, version)
    signing = _unsigned(facts)
    words = f"{best.row.kernel} {best.version} ({WORDS[best.row.open]} kernel module)"
    verb = f"the driver {version} becomes" if version else "the driver is installed by"
    return Verdict(
        UPGRADE if version else INSTALL,
        f"{verb} {words} for {_named(facts)}",
        signing,
        (*headers(facts), *best.row.packages),
        best.upstream,
        best.row.open,
        clashes=tuple(why for one in offers for why in one.why_not),
    )


def _unsigned(facts: Facts) -> tuple[Finding, ...]:
    """Nothing is built that the firmware would let nobody load."""
    if facts.secure_boot and facts.key in ("not enrolled", "none"):
        return (
            fail(
                "signing",
                "Secure Boot is on, and the module that dkms would build could not be loaded",
                "a key of dkms that is enrolled before the driver is installed",
                "mokutil --import /var/lib/dkms/mok.pub (dkms generate_mok makes one), restart, "
                "and confirm at the console; or set gpu_driver_mode to adopt",
            ),
        )
    return ()


def _no_offer(offers: Sequence[_Offer], wish: Wish) -> Verdict:
    if not offers and wish.repository:
        sentence = "which driver fits is chosen once apt knows gpu_driver_repository"
        return Verdict(INSTALL, sentence, (passing("driver", sentence),))
    if not offers:
        sentence = f"apt knows no driver of {wish.source}"
        remedy = (
            "set gpu_driver_repository to a mirror of Debian with the components contrib, non-free "
            "and non-free-firmware"
            if wish.source == DEBIAN
            else "set gpu_driver_repository to NVIDIA's repository or a mirror of it, with its key"
        )
        return Verdict(
            REFUSE, sentence, (fail("source", sentence, "a driver that apt knows", remedy),)
        )
    why = tuple(dict.fromkeys(reason for one in offers for reason in one.why_not))
    return Verdict(
        REFUSE,
        f"no driver of {wish.source} fits this host: {why[0]}",
        tuple(
            fail(
                "pair",
                one,
                "a driver that fits cards, kernel and programs",
                "set gpu_driver_source, gpu_driver_branch or gpu_driver_module, or boot a kernel "
                "that it builds for",
            )
            for one in why
        ),
        clashes=why,
    )


def kernel_packages(facts: Facts) -> tuple[str, ...]:
    """Packages of the kernel module that are installed."""
    return tuple(one.name for one in facts.packages if KERNEL_PACKAGE.match(one.name))
