# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would do about a driver, and a sentence for each pair that does not work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings.finding import FAIL, PASS, WARN, Finding
from . import matrix
from .facts import (
    DEBIAN,
    KERNEL_PACKAGE,
    RUNFILE,
    Facts,
    Kernel,
    branch_of,
    flavour_of,
    numbers,
    release_of,
)

ADOPT, INSTALL, UPGRADE = "adopt", "install", "upgrade"
REFUSE, NOTHING = "refuse", "nothing"
AUTO, OPEN, CLOSED = "auto", "open", "closed"
WORDS = {True: "open", False: "closed"}


@dataclass(frozen=True)
class Wish:
    """What the variables of the role ask for."""

    mode: str = ADOPT
    source: str = DEBIAN
    branch: int = 0  # 0: chosen
    module: str = AUTO
    cuda: int = 0  # major version that programs need; 0: none is known
    month: str = ""  # now, as 2026-11; empty: ends of life are not judged
    planned: tuple[str, ...] = ()  # ids of GPUs that the plan uses here
    seen: tuple[str, ...] = ()  # ids of GPUs that the driver tells
    told: str = ""  # version that the driver tells, where /proc has none
    repository: bool = False  # gpu_driver_repository says where apt finds drivers


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


# -- pairs that do not work ------------------------------------------------------------------------


def clashes(
    version: str, is_open: bool | None, facts: Facts, cuda: int = 0, family: str = ""
) -> tuple[str, ...]:
    """Each pair of this driver with something of the host that does not work, as a sentence."""
    number = branch_of(version)
    found: list[str] = []
    for card in facts.cards:
        found += _card(number, is_open, card.architecture, card.named, card.device)
    found += _cuda(version, cuda)
    if family and is_open is not None:
        found += _kernels(number, is_open, facts, family)
    return tuple(dict.fromkeys(found))


def _card(number: int, is_open: bool | None, name: str, named: str, device: int) -> Iterator[str]:
    row = matrix.ARCHITECTURES.get(name)
    if row is None:
        if matrix.outdated(device):
            yield f"the {named} is older than Kepler, and no driver of today drives it"
        return
    if row.last is not None and number > row.last:
        yield f"branch {number} no longer drives the {named}: the last one for {name} is {row.last}"
    if number < row.first:
        yield f"branch {number} does not know the {named}: the first one for {name} is {row.first}"
    if is_open and not row.open:
        yield f"the open kernel module does not drive the {named}: {name} needs the closed one"
    if is_open is False and not row.closed:
        yield f"the closed kernel module does not drive the {named}: {name} needs the open one"
    if is_open and number < matrix.OPEN_SINCE:
        yield f"branch {number} has no open kernel module: the first one is {matrix.OPEN_SINCE}"


def _cuda(version: str, cuda: int) -> Iterator[str]:
    least = matrix.CUDA_MINIMUM.get(cuda)
    if least and numbers(version) < numbers(least):
        yield f"driver {version} is too old for programs of CUDA {cuda}, which need {least}"


def _kernels(number: int, is_open: bool, facts: Facts, family: str) -> Iterator[str]:
    for release in dict.fromkeys(one for one in (facts.running, facts.next) if one):
        for limit in matrix.KERNEL_LIMITS:
            have = release_of(release)
            same = (limit.family, limit.branch, limit.open) == (family, number, is_open)
            if same and have >= limit.kernel:
                yield (
                    f"the {WORDS[is_open]} kernel module {number} of {family.capitalize()} does "
                    f"not build for the kernel {release} ({limit.said})"
                )


# -- the choice ------------------------------------------------------------------------------------


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


# -- what is found about what is there -------------------------------------------------------------


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
            yield _pass(
                "next_boot", f"the driver's module is there for {facts.next}, which boots next"
            )
        return
    lacking = "" if kernel.headers else ", and neither are its headers"
    build = "" if kernel.headers else f"apt-get install linux-headers-{kernel.release}; "
    yield _warn(
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
        yield _warn(
            "skew",
            f"the kernel runs the driver {loaded}, and the libraries are {facts.library}: new "
            "programs cannot use the GPUs (driver/library version mismatch)",
            "one version of both",
            "restart the host (gpu_driver_reboot), or unload the module and load the new one",
        )
    if facts.persistenced and facts.library and facts.persistenced != facts.library:
        yield _warn(
            "persistenced",
            f"nvidia-persistenced runs as {facts.persistenced}, and the libraries are "
            f"{facts.library}",
            "one version of both",
            "systemctl restart nvidia-persistenced",
        )
    module = facts.kernel(facts.running)
    if loaded and module and module.module and module.module != loaded:
        yield _warn(
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
        yield _warn(
            "packages",
            f"packages of the driver are not installed to the end: "
            f"{', '.join(f'{one.name} ({one.state})' for one in rows)}",
            "packages whose installation ended",
            f"read /var/lib/dkms/nvidia*/*/build/make.log, then dpkg --configure {names}",
        )
    failed = [one for one in facts.builds if "broken" in one.state or "error" in one.state]
    for one in failed:
        yield _warn(
            "dkms",
            f"dkms says of {one.module} {one.version} for {one.kernel or 'no kernel'}: {one.state}",
            "installed",
            f"dkms remove {one.module}/{one.version} --all, and install the driver anew",
        )


def _secure(facts: Facts) -> Iterator[Finding]:
    if facts.secure_boot is None and facts.cards:
        yield _warn(
            "secure_boot",
            "whether Secure Boot is on cannot be read",
            "a known state of Secure Boot",
            "mokutil --sb-state",
        )
    if not facts.secure_boot or facts.loaded:
        return
    if facts.key == "enrolled":
        yield _pass("secure_boot", "Secure Boot is on, and the key of dkms is enrolled")
        return
    said = {
        "not enrolled": "the key with which dkms signs is not enrolled",
        "none": "there is no key with which dkms could sign",
    }.get(facts.key, "whether the key of dkms is enrolled is not known")
    yield _warn(
        "secure_boot",
        f"Secure Boot is on, and {said}: the kernel refuses a module that dkms builds",
        "an enrolled key",
        "mokutil --import /var/lib/dkms/mok.pub, restart, and confirm at the console",
    )


def _nouveau(facts: Facts) -> Iterator[Finding]:
    if not facts.nouveau or not facts.cards:
        return
    yield _warn(
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
        yield _warn(
            "planned",
            f"the plan uses {len(lost)} GPUs that the driver does not tell: {', '.join(lost)}",
            "every planned GPU",
            "look with nvidia-smi -L and journalctl -k -g NVRM; where one is gone, assess again",
        )


def _life(version: str, month: str) -> Iterator[Finding]:
    row = matrix.BRANCHES.get(branch_of(version))
    if row is None or not month or (row.end and row.end >= month):
        return
    until = f"since {row.end}" if row.end else "any more"
    yield _warn(
        "life",
        f"NVIDIA does not mend the branch {row.number} of the driver {until}",
        "a branch that is mended",
        "plan gpu_driver_mode upgrade, or leave it to the distribution that mends it",
    )


def _others(facts: Facts) -> Iterator[Finding]:
    if facts.others:
        yield _pass(
            "others",
            "GPUs of other makers are taken as they are, with their drivers: "
            + ", ".join(facts.others),
        )
    if facts.jetson:
        yield _pass(
            "jetson",
            f"{facts.jetson}: its driver is part of its system (L4T) and is taken as it is",
        )
    strange = [card for card in facts.cards if card.architecture == matrix.UNKNOWN]
    if strange:
        known = [card for card in strange if not matrix.outdated(card.device)]
        if known:
            yield _warn(
                "architecture",
                f"the architecture of {', '.join(card.named for card in known)} is not known here",
                "cards from Kepler to Blackwell",
                "name the branch by gpu_driver_branch and the module by gpu_driver_module",
            )


def _warn(name: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", WARN, found, wanted, remedy)


def _fail(name: str, found: str, wanted: str, remedy: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", FAIL, found, wanted, remedy)


def _pass(name: str, found: str) -> Finding:
    return Finding(f"gpu_driver.{name}", "", PASS, found)


# -- the verdict -----------------------------------------------------------------------------------


def judge(facts: Facts, wish: Wish) -> Verdict:
    """What is to be done, with all that was found."""
    found = [
        *_others(facts),
        *_guard(facts),
        *_skew(facts),
        *_broken(facts),
        *_secure(facts),
        *_nouveau(facts),
        *_planned(wish),
    ]
    version = facts.version or wish.told
    hold = _images(facts) if guarded(facts) is not None else ()
    verdict = _with_cards(facts, wish, version) if facts.cards or version else _without(facts)
    chosen = verdict.version if verdict.action != REFUSE else ""
    found += [*_life(chosen, wish.month), *verdict.findings]
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
            _warn(
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
                _fail(
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
            tuple(_fail("pair", one, "a driver that fits", _way(facts)) for one in why),
            version=version,
            open=is_open,
            clashes=why,
        )
    return Verdict(ADOPT, sentence, (_pass("driver", sentence),), version=version, open=is_open)


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
                _fail(
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
            _fail(
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
        return Verdict(INSTALL, sentence, (_pass("driver", sentence),))
    if not offers:
        sentence = f"apt knows no driver of {wish.source}"
        remedy = (
            "set gpu_driver_repository to a mirror of Debian with the components contrib, non-free "
            "and non-free-firmware"
            if wish.source == DEBIAN
            else "set gpu_driver_repository to NVIDIA's repository or a mirror of it, with its key"
        )
        return Verdict(
            REFUSE, sentence, (_fail("source", sentence, "a driver that apt knows", remedy),)
        )
    why = tuple(dict.fromkeys(reason for one in offers for reason in one.why_not))
    return Verdict(
        REFUSE,
        f"no driver of {wish.source} fits this host: {why[0]}",
        tuple(
            _fail(
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


def wish_of(params: Mapping[str, Any]) -> Wish:
    """The wish in the parameters of a task."""
    measured = params["measured"] or {}
    planned = [str(one) for row in params["placement"] for one in row.get("gpu_ids") or []]
    seen = [str(row["uuid"]) for row in measured.get("gpus") or [] if row.get("uuid")]
    # A card that was looked for on the bus only is told by no driver.
    by_driver = measured.get("source") in ("nvml", "nvidia-smi")
    return Wish(
        mode=params["mode"],
        source=params["source"],
        branch=params["branch"],
        module=params["module"],
        cuda=params["cuda"],
        month=params["month"],
        planned=tuple(dict.fromkeys(planned)),
        seen=tuple(seen) if by_driver else (),
        told=str(measured.get("driver_version") or "") if by_driver else "",
        repository=params["repository"],
    )
