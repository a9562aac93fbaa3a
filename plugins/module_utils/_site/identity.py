# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which site hosts belong to, and whether the keys at hand are those it was made with.

The truth lies on the hosts, in the ledger: the random identity of the site, and on its control
hosts short fingerprints of its secrets. What the controller remembers is only used for hosts that
are not looked at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings.finding import FAIL, PASS, SITE, Finding
from .people import SECRET

IDENTITY = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Secrets of release 0.2.0, which took down no fingerprints, by the role that needs them.
BEFORE_FINGERPRINTS: Mapping[str, tuple[str, ...]] = {
    "artifact_registry": (
        "artifact_registry_pull_password",
        "artifact_registry_push_password",
        "artifact_registry_salt",
        "artifact_registry_upload_secret",
    ),
    "gateway": ("gateway_admin_password", "gateway_salt"),
    "metadata_db": ("metadata_db_managed_admin_password", "model_registry_db_password"),
    "model_registry": ("model_registry_admin_password", "model_registry_session_key"),
    "model_serving": ("release_signing_key",),
    "object_store": (
        "artifact_registry_s3_access_key",
        "artifact_registry_s3_secret_key",
        "model_registry_s3_access_key",
        "model_registry_s3_secret_key",
    ),
    "trust": ("trust_ca_key",),
}
FINGERPRINT_DIGITS = 5  # enough to notice a change, too little to guess a password by


@dataclass(frozen=True)
class Carried:
    """What a host says: its site, the roles that made something there, the authority it trusts.

    ``adopts`` is set for a site that was made before there were identities.
    """

    identity: str = ""
    name: str = ""
    adopts: bool = False
    roles: tuple[str, ...] = ()
    authority: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remembered:
    """What the controller keeps: the site, and where its hosts were reached."""

    identity: str = ""
    adopts: bool = False
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The identity of the site of this run, and what is to be said about it."""

    identity: str
    adopts: bool
    findings: tuple[Finding, ...]


def read_carried(platform: object) -> Carried:
    """What a host said of itself; nothing where it said nothing, or something else."""
    given = platform if isinstance(platform, Mapping) else {}
    site = given.get("site")
    site = site if isinstance(site, Mapping) else {}
    prints = site.get("fingerprints")
    return Carried(
        identity=str(site.get("id") or ""),
        name=str(site.get("name") or ""),
        adopts=bool(site.get("adopts")),
        roles=tuple(str(role) for role in given.get("roles") or ()),
        authority=str(given.get("authority") or ""),
        fingerprints={str(k): str(v) for k, v in prints.items()}
        if isinstance(prints, Mapping)
        else {},
    )


def fingerprint(identity: str, name: str, value: str) -> str:
    """A short, slow and salted hash: it tells that a secret is another one, and not much more."""
    salt = f"{identity}/{name}".encode()
    return hashlib.scrypt(value.strip().encode(), salt=salt, n=2**12, r=8, p=1).hex()[
        :FINGERPRINT_DIGITS
    ]


def some(names: Sequence[str], most: int = 4) -> str:
    """Names for a sentence."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def decide(
    carried: Mapping[str, Carried],
    elsewhere: Mapping[str, str],
    remembered: Remembered,
    wanted: str,
    make: Callable[[], str],
    limited: bool = False,
) -> Decision:
    """Find out which site the hosts are.

    Args:
        carried: By host, what those say that were looked at.
        elsewhere: Hosts of the inventory that were not looked at, and their addresses.
        remembered: What the controller keeps of an earlier run.
        wanted: The identity that the inventory asks for, or nothing.
        make: Gives a new random identity.
        limited: Whether some of those could have been looked at, but for --limit.
    """
    by_site: dict[str, list[str]] = {}
    for host, said in carried.items():
        if said.identity:
            by_site.setdefault(said.identity, []).append(host)
    before = [host for host, said in carried.items() if said.roles and not said.identity]
    if len(by_site) > 1:
        return Decision(next(iter(by_site)), False, (_two_sites(by_site, carried),))
    if by_site:
        identity, hosts = next(iter(by_site.items()))
        adopts = any(carried[host].adopts for host in hosts) or bool(before)
        return _answered(identity, hosts, adopts, wanted)
    if wanted:
        return _asked_for(wanted, bool(before))
    same = [host for host, place in elsewhere.items() if remembered.addresses.get(host) == place]
    if remembered.identity and same:
        adopts = remembered.adopts or bool(before)
        return Decision(remembered.identity, adopts, (_passed("a site that is known here"),))
    if limited:
        return Decision("", False, (_not_said(carried, elsewhere),))
    if before:
        found = f"{some(before)} made before sites had an identity, which is given now"
        return Decision(make(), True, (_passed(found),))
    return Decision(make(), False, (_passed("a new site"),))


def _answered(identity: str, hosts: Sequence[str], adopts: bool, wanted: str) -> Decision:
    """The site that hosts say they belong to."""
    if wanted and wanted != identity:
        return Decision(identity, adopts, (_not_wanted(identity, hosts, wanted),))
    found = f"{some(hosts)} {'belong' if len(hosts) > 1 else 'belongs'} to this site"
    return Decision(identity, adopts, (_passed(f"{found} ({identity[:8]})"),))


def _asked_for(wanted: str, adopts: bool) -> Decision:
    """The site that the inventory asks for, where no host says anything."""
    if not IDENTITY.fullmatch(wanted):
        return Decision("", False, (_no_identity(wanted),))
    return Decision(wanted, adopts, (_passed(f"mlops_site_id is {wanted}"),))


def _passed(found: str) -> Finding:
    return Finding("site.identity", SITE, PASS, found, "hosts of one site")


def _two_sites(by_site: Mapping[str, list[str]], carried: Mapping[str, Carried]) -> Finding:
    groups = [
        f"{some(hosts)} to {carried[hosts[0]].name or 'a site'} ({identity[:8]})"
        for identity, hosts in sorted(by_site.items(), key=lambda item: -len(item[1]))
    ]
    fewest = min(by_site.values(), key=len)
    return Finding(
        "site.identity",
        SITE,
        FAIL,
        f"the hosts belong to {len(by_site)} sites: {', and '.join(groups)}",
        "hosts of one site",
        f"take {some(fewest)} out of this inventory, or remove the other site from there first, "
        "with its own inventory",
    )


def _not_wanted(identity: str, hosts: Sequence[str], wanted: str) -> Finding:
    return Finding(
        "site.identity",
        SITE,
        FAIL,
        f"{some(hosts)} of the site {identity} answered, mlops_site_id says {wanted}",
        "hosts of the site that mlops_site_id names",
        "take mlops_site_id out of the inventory, which is only for a site that lost all its hosts",
    )


def _no_identity(wanted: str) -> Finding:
    return Finding(
        "site.identity",
        SITE,
        FAIL,
        f"mlops_site_id is {wanted!r}",
        "8 to 64 letters, digits, - and _",
        "take mlops_site_id out of the inventory, or copy it as a refusal or a comment names it",
    )


def _not_said(carried: Mapping[str, Carried], elsewhere: Mapping[str, str]) -> Finding:
    return Finding(
        "site.identity",
        SITE,
        FAIL,
        f"no mark of a site is on {some(sorted(carried))}, and {some(sorted(elsewhere))}, "
        "where it may be, were not looked at",
        "a host that says which site this is",
        f"run without --limit, or with a host of the site: --limit "
        f"{','.join([*sorted(carried), min(elsewhere)][:6])}",
    )


@dataclass(frozen=True)
class Kept:
    """The secrets at hand: ``value`` gives one or None, ``place`` is the file they are kept in.

    ``rekeyed`` are the secrets that are changed on purpose: names, or all of them.
    """

    value: Callable[[str], str | None]
    place: str
    rekeyed: frozenset[str] | bool = False

    def accepts(self, name: str) -> bool:
        """Whether a secret may be another one than before."""
        return self.rekeyed is True or (not isinstance(self.rekeyed, bool) and name in self.rekeyed)


def _made_with(carried: Mapping[str, Carried]) -> tuple[dict[str, str], set[str], list[str]]:
    """Fingerprints of the site's secrets, the names of all of them, and the hosts that say so."""
    hosts = [host for host, said in carried.items() if said.fingerprints]
    if hosts:
        prints = {k: v for host in hosts for k, v in carried[host].fingerprints.items()}
        return prints, set(prints), hosts
    needs = {
        host: {name for role in said.roles for name in BEFORE_FINGERPRINTS.get(role, ())}
        for host, said in carried.items()
    }
    return {}, set().union(*needs.values()), [host for host, needed in needs.items() if needed]


def check_secrets(
    identity: str,
    carried: Mapping[str, Carried],
    kept: Kept,
    own_authority: bool,
    people: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Whether the secrets at hand are those that the site was made with.

    Of ``people`` those of now count: one who left, or whose password was renewed, has none.
    """
    prints, wanted, hosts = _made_with(carried)
    if not own_authority:
        wanted.discard("trust_ca_key")
    wanted = {name for name in wanted if not name.startswith(SECRET) or name in people}
    missing, other = [], []
    for name in sorted(name for name in wanted if not kept.accepts(name)):
        value = kept.value(name)
        if not value:
            missing.append(name)
        elif name in prints and fingerprint(identity, name, value) != prints[name]:
            other.append(name)
    said_name = next((said.name for said in carried.values() if said.name), "a site")
    found = []
    if missing:
        found.append(_missing(missing, hosts, said_name, kept.place))
    if other:
        found.append(_another(other, hosts, said_name, kept.place))
    if prints and not found:
        text = f"the {len(prints)} secrets at hand are those of the site"
        found.append(Finding("site.secrets", SITE, PASS, text, "the secrets of the site"))
    return found


def _missing(names: Sequence[str], hosts: Sequence[str], site: str, place: str) -> Finding:
    return Finding(
        "site.secrets",
        SITE,
        FAIL,
        f"{some(hosts)} {'belong' if len(hosts) > 1 else 'belongs'} to {site}, whose secrets are "
        f"not here: {some(names)} would be made anew",
        "the secrets that the site was made with",
        f"restore {place} from a backup or the machine that has it, or give the variables; to make "
        "new keys and passwords for the whole site on purpose: -e mlops_rekey=true",
    )


def _another(names: Sequence[str], hosts: Sequence[str], site: str, place: str) -> Finding:
    listed = ", ".join(f'"{name}"' for name in names)
    many = len(names) > 1
    return Finding(
        "site.secrets",
        SITE,
        FAIL,
        f"{some(names)} {'are' if many else 'is'} not what {some(hosts)} of {site} "
        f"{'were' if len(hosts) > 1 else 'was'} made with: damaged, shortened, or of "
        "another copy of the inventory",
        "the secrets that the site was made with",
        f"restore {place} from a backup, or the variable; if changed on purpose: "
        f"-e '{{\"mlops_rekey\": [{listed}]}}'",
    )


def check_authority(
    carried: Mapping[str, Carried], fits: Callable[[str], bool], kept: Kept
) -> list[Finding]:
    """Whether the authority that hosts trust is that of the key at hand.

    Args:
        carried: By host, what it says.
        fits: Whether a certificate in PEM belongs to the key at hand.
        kept: The secrets at hand, among them ``trust_ca_key``.
    """
    if kept.accepts("trust_ca_key") or not kept.value("trust_ca_key"):
        return []  # a missing key is told by its name
    ours = {
        host: said for host, said in carried.items() if said.authority and "trust" in said.roles
    }
    known = {text: fits(text) for text in {said.authority for said in ours.values()}}
    strangers = [host for host, said in ours.items() if not known[said.authority]]
    if not strangers:
        return []
    return [
        Finding(
            "site.authority",
            SITE,
            FAIL,
            f"trust_ca_key is not the key of the authority that {some(strangers)} "
            f"{'trust' if len(strangers) > 1 else 'trusts'}",
            "the authority that the site was made with",
            f"restore {kept.place} and ca.crt from a backup or the machine that has them; to give "
            'every host a new authority on purpose: -e \'{"mlops_rekey": ["trust_ca_key"]}\'',
        )
    ]


def read_remembered(data: Any) -> Remembered:
    """What the controller kept; nothing if it is damaged, since it is only remembered."""
    given = data if isinstance(data, Mapping) else {}
    addresses = given.get("addresses")
    return Remembered(
        str(given.get("id") or ""),
        bool(given.get("adopts")),
        {str(k): str(v) for k, v in addresses.items()} if isinstance(addresses, Mapping) else {},
    )
