# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comments by which a site knows again what it made on a server.

A mark names the site, its identity and the thing itself::

    Made by mlops.onprem for site NAME (IDENTITY) as THING; removed with it.

Names of sites are copied together with an inventory, the random identity is not. A mark that was
copied to another thing, or that stayed on a thing which was renamed, names a thing that it is not
on. Sites without an identity, and release 0.2.0, wrote the name only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

START = "Made by mlops.onprem for site "
IDENTITY = re.compile(r"^[0-9A-Za-z_-]{8,64}$")
_MARK = re.compile(
    rf"^{re.escape(START)}(.+?)(?: \(([0-9A-Za-z_-]{{8,64}})\) as (\S+))?; removed with it\.$"
)


@dataclass(frozen=True)
class Site:
    """A site by its name and its random identity; an empty identity leaves only the name.

    ``adopt_named`` takes marks with the name only as this site's own, which a site that
    release 0.2.0 installed needs once.
    """

    name: str
    identity: str = ""
    adopt_named: bool = False

    def mark(self, thing: str) -> str:
        """The comment on a thing of this name. ASCII, as a database of any encoding takes it."""
        if not self.identity:
            return f"{START}{_ascii(self.name)}; removed with it."
        return f"{START}{_ascii(self.name)} ({self.identity}) as {thing}; removed with it."

    def proves(self, thing: str, comment: str) -> bool:
        """Whether the comment can only have been written by this site, onto this thing."""
        seen = _MARK.match(comment)
        return bool(seen and self.identity and seen.group(2, 3) == (self.identity, thing))

    def names(self, comment: str) -> bool:
        """Whether the comment is a mark with this site's name and no identity."""
        seen = _MARK.match(comment)
        return bool(seen and not seen.group(2) and seen.group(1) in (self.name, _ascii(self.name)))

    def namesake(self, comment: str) -> str:
        """The identity in a mark that has this site's name and another identity."""
        seen = _MARK.match(comment)
        if not seen or seen.group(1) not in (self.name, _ascii(self.name)):
            return ""
        return "" if seen.group(2) == self.identity else seen.group(2) or ""

    def owns(self, thing: str, comment: str) -> bool:
        """Whether the thing counts as made by this site."""
        named = self.adopt_named or not self.identity
        return self.proves(thing, comment) or (named and self.names(comment))

    def concerns(self, comment: str) -> bool:
        """Whether the comment speaks of this site, rightly or not."""
        seen = _MARK.match(comment)
        return self.names(comment) or bool(seen and self.identity and seen[2] == self.identity)

    def whose(self, comment: str) -> str:
        """What to say of a thing that does not count as this site's."""
        seen = _MARK.match(comment)
        if not seen:
            return "was not made by this site"
        name, identity, marked = seen.groups()
        if identity and identity == self.identity:
            return f"bears a mark that this site put on {marked}"
        if name not in (self.name, _ascii(self.name)):
            return f"belongs to site {name}"
        if identity:
            return f"belongs to another site of the name {name} ({identity})"
        return "was made by a site of this name, whose identity is not known here"


def _ascii(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode("ascii")
