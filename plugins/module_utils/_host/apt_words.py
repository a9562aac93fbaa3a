# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt says, as sentences for a person, and how it is asked where it would fetch from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from .packages import Simulated

_UNKNOWN = re.compile(
    r"Unable to locate package (\S+)|Couldn't find any package by \w+ '([^']+)'"
    r"|Package '?([a-z0-9][a-z0-9.+:-]+)'? (?:has no installation candidate|is not available)"
)
_NEWS = re.compile(r"^(?:E|W): (.*)$", re.MULTILINE)
_URI = re.compile(r"^'([^']+)' (\S+) (\d+)(?: (\S+))?")
HELD = ("Held packages were changed", "held broken packages")
# Of servers that answered, though not with what was asked for: the lists may be older than they.
ANSWERED = ("404", "Hash Sum mismatch", "Unexpected size", "416")


@dataclass(frozen=True)
class Download:
    """A file that apt would fetch."""

    uri: str
    bytes: int = 0
    hash: str = ""

    @property
    def server(self) -> str:
        """The server, without a name and password that sources may hold."""
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def unknown(said: str) -> tuple[str, ...]:
    """Packages that apt does not know, by its words."""
    names = ("".join(groups) for groups in _UNKNOWN.findall(said))
    return tuple(dict.fromkeys(name.rstrip(".,'") for name in names))


def short(said: str) -> str:
    """What apt gives as its reasons, on one line and without passwords of its sources."""
    lines = _NEWS.findall(said) or said.splitlines()[-3:]
    depends = re.findall(r"^ +(\S+ : (?:Pre)?(?:Depends|Breaks|Conflicts): .*)$", said, re.M)
    text = " ".join(" ".join([*depends, *lines]).split())
    return re.sub(r"(\w://)[^/@\s]+@", r"\1", text).rstrip(". ")[:600]


def refused(
    verb: str,
    names: Iterable[str],
    said: str,
    holds: Sequence[str] = (),
    forced: Simulated | None = None,
) -> str:
    """Why apt does not do (``install``, ``purge``) what is asked, as a sentence with what to do.

    ``holds``: what is held on the host. ``forced``: what apt would do if nothing were held.
    """
    wanted = f"{verb} {' '.join(names)}"
    touched = (*forced.new, *forced.upgraded, *forced.removed) if forced else ()
    guilty = [name for name in holds if name in touched] or list(holds)
    if any(words in said for words in HELD) and guilty:
        return (
            f"apt cannot {wanted}, because these packages are held on this host "
            f"(apt-mark showhold): {' '.join(guilty)}; let them go with: "
            f"apt-mark unhold {' '.join(guilty)}"
        )
    lacking = unknown(said)
    if lacking:
        return (
            f"apt on this host knows no package {' '.join(lacking)}; give it a source that has it, "
            "as main of Debian does, in /etc/apt/sources.list.d, and run: apt-get update"
        )
    if "--fix-broken" in said:
        return (
            f"apt cannot {wanted}, because what is installed does not fit together: "
            f"{short(said)}; mend it with: apt-get --fix-broken install"
        )
    return f"apt cannot {wanted}: {short(said)}; look with: apt-get --simulate {wanted}"


def downloads(output: str) -> list[Download]:
    """What ``apt-get --print-uris`` lists."""
    found = (_URI.match(line) for line in output.splitlines())
    return [Download(one[1], int(one[3]), one[4] or "") for one in found if one]


def samples(files: Iterable[Download]) -> list[Download]:
    """The smallest file of each server."""
    least: dict[str, Download] = {}
    for one in files:
        if one.server not in least or one.bytes < least[one.server].bytes:
            least[one.server] = one
    return [least[server] for server in sorted(least)]


def unreachable(failed: Mapping[str, str]) -> str:
    """That servers of packages cannot be reached, by what apt says of each."""
    said = ", ".join(f"{server} ({short(words)})" for server, words in failed.items())
    return (
        f"apt on this host cannot fetch packages from {said}; mend its way there, its proxy "
        "(apt-config dump Acquire), or its sources in /etc/apt/sources.list.d"
    )


def no_room(folder: str, needed: int, left: int) -> str:
    """That the archives of packages do not fit."""
    return (
        f"{folder} has room for {left // 2**20} MiB, and the packages are "
        f"{needed // 2**20 + 1} MiB; make room there, with: apt-get clean"
    )
