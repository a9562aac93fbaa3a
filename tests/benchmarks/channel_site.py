# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's whole life as signed documents, and what thieves and strangers make beside them.

Thirty channel documents are published, one every two days, under five roots: the online key is
rotated by roots 2, 4 and 5, the root keys by root 3. Each document bears the truth about itself
(who really signed it), by which the traces judge without asking the rules that are tested.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    MAX_CHANNEL_BYTES,
    MAX_NUMBER,
    MAX_SIGNATURES_BYTES,
    Channel,
    Root,
    Signed,
    build_signatures,
)

from tests.benchmarks.channel_world import (
    NOW,
    SITE,
    WEEK,
    YEAR,
    Key,
    channel,
    root,
    signed,
    target,
)

DAY = 86400
EVERY = 2 * DAY
DOCUMENTS, PER_ROOT = 30, 6
ONLINE_OF_ROOT = {1: 0, 2: 1, 3: 1, 4: 2, 5: 3}
ROOT_EXPIRES = {1: 20 * DAY, 2: 40 * DAY, 3: YEAR, 4: 2 * YEAR, 5: 3 * YEAR}


@dataclass(frozen=True)
class Paper:
    """A channel as it may be served, and the truth about it.

    ``content`` is None where nobody can read it in one way only; ``signers`` are the keys that
    signed these very bytes; ``index`` is its number among the honest ones of the ring.
    """

    kind: str
    served: Signed
    content: Channel | None = None
    signers: frozenset[str] = frozenset()
    index: int = -1


@dataclass
class Site:
    """Everything that a trace may be served.

    ``threshold`` is that of the online keys: with 2, one stolen key is below it.
    """

    seed: int
    threshold: int = 1
    root_keys: list[Key] = field(default_factory=list)
    online: list[list[Key]] = field(default_factory=list)
    roots: list[Root] = field(default_factory=list)
    signed_roots: list[Signed] = field(default_factory=list)
    honest: list[Paper] = field(default_factory=list)
    forged_roots: dict[int, list[tuple[str, Signed]]] = field(default_factory=dict)
    others: list[list[Paper]] = field(default_factory=list)
    stolen: list[list[Paper]] = field(default_factory=list)
    tame: list[list[Paper]] = field(default_factory=list)
    partial: list[list[Paper]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.root_keys = [Key.make() for _number in range(4)]
        self.stranger = Key.make()
        self.online = [[Key.make() for _one in range(self.threshold)] for _number in range(4)]
        for version in ONLINE_OF_ROOT:
            self._publish_root(version)
        self.honest = [self._honest(index) for index in range(DOCUMENTS)]
        self.others = [self._others(index) for index in range(DOCUMENTS)]
        for number in range(len(self.online)):
            wild = [self._wild(number, count) for count in range(8)]
            self.stolen.append([self._paper("stolen", one, self.online[number]) for one in wild])
            tame = [self._wild(number, count) for count in range(8, 12)]
            self.tame.append([self._paper("stolen", one, self.online[number]) for one in tame])
            few = self.online[number][:-1]
            self.partial.append([self._paper("partial", one, few) for one in wild])

    # -- the honest life --------------------------------------------------------------------

    @staticmethod
    def version_at(index: int) -> int:
        """The version of the root under which a document was made."""
        return 1 + index // PER_ROOT

    @staticmethod
    def time_at(index: int) -> int:
        """When a document was issued."""
        return NOW + index * EVERY

    def holders(self, version: int) -> list[Key]:
        """The root keys of a version."""
        return self.root_keys[:2] if version < 3 else self.root_keys[2:]

    def _root(self, version: int, **changed: Any) -> Root:
        fields = {
            "threshold": 2,
            "channel_threshold": self.threshold,
            "issued": self.time_at((version - 1) * PER_ROOT),
            "expires": NOW + ROOT_EXPIRES[version],
            **changed,
        }
        return root(version, self.holders(version), self.online[ONLINE_OF_ROOT[version]], **fields)

    def _publish_root(self, version: int) -> None:
        document = self._root(version)
        before = self.holders(max(1, version - 1))
        keys = list({key.id: key for key in (*before, *self.holders(version))}.values())
        self.roots.append(document)
        self.signed_roots.append(signed(document.to_bytes(), keys))
        if version > 1:
            self.forged_roots[version] = self._forged(version, before)

    def _forged(self, version: int, before: list[Key]) -> list[tuple[str, Signed]]:
        """Roots of that version which nobody may believe."""
        own = [self.stranger, self.root_keys[0]]
        evil = root(version, own, [self.stranger], threshold=2, expires=NOW + 9 * YEAR)
        data, good = evil.to_bytes(), self.signed_roots[-1]
        online = self.online[ONLINE_OF_ROOT[version - 1]]
        return [
            ("root of a stranger", signed(data, own)),
            ("root by one stolen key", signed(data, [before[0], *own])),
            ("root by the online key", signed(data, [*own, *online])),
            ("root not by itself", signed(data, before)),
            ("root with signatures of another", Signed(data, good.signatures)),
            ("root cut off", Signed(good.data[:-20], good.signatures)),
            ("root too large", Signed(good.data + b" " * 70_000, good.signatures)),
        ]

    def _honest(self, index: int) -> Paper:
        version = self.version_at(index)
        back = index % PER_ROOT == 4
        document = channel(
            10 * (index + 1),
            target(
                counter=100 + index - (2 if back else 0),
                minimum_counter=98 + PER_ROOT * (index // PER_ROOT),
                generation=1 + index // 3,
                rollback=back,
                digest="sha256:" + f"{index:064x}",
            ),
            issued=self.time_at(index),
            expires=self.time_at(index) + WEEK,
            root_version=version,
        )
        keys = self.online[ONLINE_OF_ROOT[version]]
        return replace(self._paper("honest", document, keys), index=index)

    def _paper(self, kind: str, document: Channel, keys: list[Key]) -> Paper:
        data = document.to_bytes()
        return Paper(kind, signed(data, keys), document, frozenset(key.id for key in keys))

    # -- what others make of it -------------------------------------------------------------

    def _others(self, index: int) -> list[Paper]:
        """What anybody who holds the gateway can serve beside the honest document."""
        good = self.honest[index]
        document, keys = good.content, self.online[ONLINE_OF_ROOT[self.version_at(index)]]
        assert document is not None
        data, marks = good.served.data, good.served.signatures
        next_one = replace(document, sequence=document.sequence + 1)
        other = self.honest[self.chance.randrange(DOCUMENTS)]
        place = self.chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << self.chance.randrange(7)
        mark = bytearray(keys[0].sign(data))
        mark[-1 - self.chance.randrange(40)] ^= 1
        bent = build_signatures([(key.id, bytes(mark)) for key in keys])
        twice = data[:-1] + b',"sequence":' + str(MAX_NUMBER).encode() + b"}"
        return [
            self._paper("other ring", replace(next_one, ring="ring_fleet"), keys),
            self._paper("other class", replace(next_one, device_classes=("x86_64",)), keys),
            self._paper("other site", replace(next_one, site=f"{SITE}2"), keys),
            self._paper("by a stranger", next_one, [self.stranger]),
            self._paper("by a root key", next_one, self.root_keys),
            self._paper("unsigned", next_one, []),
            Paper("mixed", Signed(next_one.to_bytes(), other.served.signatures), next_one),
            Paper("garbled", Signed(bytes(flipped), marks)),
            Paper("bent signature", Signed(data, bent), document),
            Paper("endless", Signed(data + b" " * MAX_CHANNEL_BYTES, marks)),
            Paper("endless signatures", Signed(data, marks + b" " * MAX_SIGNATURES_BYTES)),
            Paper("cut off", Signed(data[: len(data) // 2], marks)),
            Paper("two readings", signed(twice, keys), None, good.signers),
            Paper("nothing", Signed(b"", b"")),
        ]

    def _wild(self, number: int, count: int) -> Channel:
        """What a thief of an online key tries: as far ahead as the numbers go, or far back."""
        version = next(one for one in ONLINE_OF_ROOT if ONLINE_OF_ROOT[one] == number)
        last = (version - 1) * PER_ROOT + self.chance.randrange(PER_ROOT)
        issued = self.time_at(last)
        far = NOW + 80 * YEAR
        tries: list[dict[str, Any]] = [
            {"counter": 10 * MAX_NUMBER // 11},
            {"counter": MAX_NUMBER, "minimum_counter": MAX_NUMBER},
            {"generation": MAX_NUMBER},
            {"counter": 1, "minimum_counter": 0, "rollback": True},
            {"counter": 100, "minimum_counter": 0, "rollback": True},
            {"counter": 100 + last, "model": "unheard-of"},
            {"counter": 100 + last, "minimum_counter": 0},
            {"counter": MAX_NUMBER, "generation": MAX_NUMBER, "minimum_counter": MAX_NUMBER},
        ]
        # Beyond these only the sequence counts, which is what TUF has a rule for.
        tame = count >= len(tries)
        more = {"generation": DOCUMENTS, "counter": 1000} if tame else tries[count]
        fields = {"generation": 1 + last // 3, "minimum_counter": 0, "rollback": True, **more}
        return channel(
            self.chance.choice((10 * last + 15, MAX_NUMBER - count, 2**40 + count)[tame:]),
            target(digest="sha256:" + f"{self.chance.getrandbits(256):064x}", **fields),
            issued=issued if tame else self.chance.choice((issued, far)),
            expires=far + YEAR,
            root_version=version,
        )
