# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which root document comes next: the controller's side, without any key in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import RegistryError
from .documents import Role, Root, check_key


@dataclass(frozen=True)
class Wish:
    """What the root of a site is to say; keys are public keys in PEM form.

    ``threshold`` is how many of the root keys have to sign; online keys are on one host, so that
    one of them is enough.
    """

    site: str
    root_keys: tuple[str, ...]
    online_keys: tuple[str, ...]
    release_keys: tuple[str, ...] = ()
    threshold: int = 1
    days: int = 3650
    renew_days: int = 730


def next_root(wish: Wish, current: Root | None, now: int) -> Root | None:
    """Return the root document that is to come next; None where the current one says all.

    It is made anew, too, when it is valid for fewer days than ``renew_days``.
    """
    document = _document(wish, now)
    if current is None:
        return document
    if current.site != wish.site:
        raise RegistryError(
            f"The root document {current.version} is of the site {current.site}, wanted "
            f"{wish.site}."
        )
    same = replace(
        document, version=current.version, issued=current.issued, expires=current.expires
    )
    if same == current and current.expires - now > wish.renew_days * 86400:
        return None
    return replace(document, version=current.version + 1, issued=max(now, current.issued))


def _document(wish: Wish, now: int) -> Root:
    names = {
        kind: tuple(check_key(key, f"{kind} key {number}") for number, key in enumerate(keys, 1))
        for kind, keys in (
            ("root", wish.root_keys),
            ("online", wish.online_keys),
            ("release", wish.release_keys),
        )
    }
    every = (*wish.root_keys, *wish.online_keys, *wish.release_keys)
    if not names["root"] or not names["online"]:
        raise RegistryError("A root document needs a root key and an online key.")
    if set(names["root"]) & set(names["online"]):
        raise RegistryError(
            "The online key is a root key too; root keys stay where no network is, so use another."
        )
    return Root(
        site=wish.site,
        version=1,
        issued=now,
        expires=now + wish.days * 86400,
        keys={check_key(key, "key"): key.strip() + "\n" for key in every},
        root=Role(names["root"], wish.threshold),
        channel=Role(names["online"]),
        release=Role(names["release"]) if names["release"] else None,
    )


def signers(document: Root, current: Root | None) -> tuple[str, ...]:
    """Return the keys by which a root document may be signed: those before, and its own."""
    before: Sequence[str] = current.root.keys if current is not None else ()
    return tuple(dict.fromkeys((*before, *document.root.keys)))


def lacking(document: Root, current: Root | None, have: Sequence[str]) -> str:
    """Say which signatures a root document still needs; nothing where it has enough."""
    roles = [document.root, *([current.root] if current is not None else [])]
    wanted = []
    for role in roles:
        missing = [name for name in role.keys if name not in have]
        if len(role.keys) - len(missing) < role.threshold:
            wanted.append(
                f"{role.threshold - len(role.keys) + len(missing)} of {', '.join(missing)}"
            )
    return " and ".join(wanted)
