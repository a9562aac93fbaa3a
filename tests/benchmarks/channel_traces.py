# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attack the code by which devices believe, with a clock and a disk that do not exist.

    python tests/benchmarks/channel_traces.py --traces 1000000 --tuf 10000 --openssl 2000

A trace is the life of one device: whoever holds the gateway serves it what they like (replays,
mixtures, other rings' documents, forgeries, endless data, what a stolen online key signs), its
clock is wrong, it sleeps through rotations of the root, and its power fails between any two
operations on the disk. Two promises are held against every step, by code of its own that asks the
rules nothing:

- no wrong acceptance: what is believed was signed by enough of the keys that count, for this
  device, is no older than anything that was used, has not expired, and no root but the site's own
  is ever trusted;
- no lock-out: where the honest documents are served at the right time they are believed, and after
  everything the site's recovery (a rotated online key where that was stolen) is believed too.

``--tuf`` traces are judged by python-tuf beside, with what TUF has rules for; ``--openssl`` cases
compare the verifier of this process with the openssl command. What verifying a signature and
reading a key, a document and the bytes of a state came to is remembered within this process, for it
depends on nothing else; all other code runs as on a device. Prints one JSON object; exit code 1 if
a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import (  # noqa: E402
    documents,
    rules,
    state,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (  # noqa: E402
    Channel,
    Signed,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (  # noqa: E402
    Clock,
    Judgement,
    Own,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import (  # noqa: E402
    Keeper,
    Trust,
    by_openssl,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import (  # noqa: E402
    RegistryError,
)

from tests.benchmarks import channel_world as world  # noqa: E402
from tests.benchmarks.channel_disk import Broken, FakeDisk, PowerLoss  # noqa: E402
from tests.benchmarks.channel_site import (  # noqa: E402
    DAY,
    DOCUMENTS,
    EVERY,
    ONLINE_OF_ROOT,
    PER_ROOT,
    Paper,
    Site,
)

OWN = Own(world.SITE, world.RING, world.CLASS)
PER_SITE = 1000
STEPS = (3, 9)
LAST = DOCUMENTS - 1

verify = functools.lru_cache(maxsize=65536)(world.verify)


@dataclass
class Truth:
    """What a device may and may not believe, kept beside it in the plainest way.

    Everything here is about what was *used*: a verdict that power loss kept from being returned
    binds nobody.
    """

    site: Site
    version: int = 1
    used: Paper | None = None
    honest: int = -1
    sequence: int = 0
    floor: int = 0
    generation: dict[str, int] = field(default_factory=dict)
    minimum: dict[str, int] = field(default_factory=dict)

    def keys(self) -> set[str]:
        """The online keys that count."""
        return {key.id for key in self.site.online[ONLINE_OF_ROOT[self.version]]}

    def root(self, version: int, data: bytes) -> None:
        """The device trusts a root now."""
        if not self.version <= version <= len(self.site.roots):
            raise Broken(f"root {version} after {self.version}")
        if data != self.site.signed_roots[version - 1].data:
            raise Broken("a root that the site never published")
        self.version = version
        if self.used is not None and not self.used.signers & self.keys():
            self.used, self.sequence, self.floor = None, 0, 0
            self.generation, self.minimum = {}, {}

    def believed(self, paper: Paper, clock: Clock, stolen: set[int]) -> None:
        """The device believes a channel; say whether it may."""
        document = paper.content
        if document is None or len(paper.signers & self.keys()) < self.site.threshold:
            raise Broken("not signed by enough of the keys that count")
        said = [
            *self._of_this_device(document),
            *self._in_time(document, clock),
            *self._no_step_back(paper, document),
        ]
        if ONLINE_OF_ROOT[self.version] not in stolen:
            said += self._of_the_site(paper)
        if said:
            raise Broken(said[0])
        self._use(paper)

    def _of_this_device(self, document: Channel) -> Iterator[str]:
        if (document.site, document.ring) != (OWN.site, OWN.ring):
            yield "of another site or ring"
        if OWN.device_class not in document.device_classes or document.root_version > self.version:
            yield "of another class, or under a root not yet seen"

    def _in_time(self, document: Channel, clock: Clock) -> Iterator[str]:
        if clock.synchronised and clock.now >= document.expires:
            yield "expired by the clock"
        if clock.synchronised and clock.now >= self.site.roots[self.version - 1].expires:
            yield "under a root that has expired"
        if self.floor >= document.expires:
            yield "expired before something older was issued"

    def _no_step_back(self, paper: Paper, document: Channel) -> Iterator[str]:
        again = self.used is not None and paper.served.data == self.used.served.data
        if document.sequence < self.sequence or (document.sequence == self.sequence and not again):
            yield "older than what was used"
        for one in document.models:
            low = max(self.minimum.get(one.model, 0), one.minimum_counter)
            if one.counter < low or one.generation < self.generation.get(one.model, 0):
                yield "below the minimum, or of an older controller"

    def _of_the_site(self, paper: Paper) -> Iterator[str]:
        if paper.index < 0:
            yield "the site never published this"
        elif paper.index < self.honest:
            yield "an older document than one that was used"

    def _use(self, paper: Paper) -> None:
        document = paper.content
        assert document is not None
        self.used, self.sequence = paper, document.sequence
        self.honest = max(self.honest, paper.index)
        self.floor = max(self.floor, document.issued)
        for one in document.models:
            self.generation[one.model] = one.generation
            low = self.minimum.get(one.model, 0)
            self.minimum[one.model] = max(low, one.minimum_counter)


Beside = Callable[["Trace", list[Signed], Paper, Clock, Judgement], None]


class Trace:
    """The life of one device under attack."""

    def __init__(self, site: Site, seed: int, beside: Beside | None = None) -> None:
        self.site, self.seed, self.beside = site, seed, beside
        self.chance = random.Random(seed)
        self.disk = FakeDisk(self.chance)
        self.truth = Truth(site)
        self.now = 0  # number of the newest honest document
        self.stolen: set[int] = set()
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        self.tried: set[str] = set()

    def run(self) -> Counter[str]:
        """Live it; raises ``Broken`` with everything that happened."""
        try:
            self._device().enrol(self.site.signed_roots[0])
            self.now = self.chance.randrange(0, 8)
            for _step in range(self.chance.randrange(*STEPS)):
                self._pass_time()
                self._poll()
            self._recover()
        except (Broken, RegistryError) as error:
            raise Broken(
                f"seed {self.seed}, site {self.site.seed}: {error}; {'; '.join(self.log)}"
            ) from None
        self.counts["traces"] += 1
        return self.counts

    def _device(self) -> Trust:
        return Trust(Keeper(self.disk), OWN, verify)

    # -- what happens -----------------------------------------------------------------------

    def _pass_time(self) -> None:
        """Some documents later, mostly few, sometimes after long sleep; keys may be stolen."""
        ahead = self.chance.choice((0, 0, 1, 1, 1, 2, 3, PER_ROOT, 2 * PER_ROOT + 1))
        self.now = min(LAST - 1, self.now + ahead)
        if self.chance.random() < 0.15:
            version = self.site.version_at(self.now)
            self.stolen.add(ONLINE_OF_ROOT[self.chance.randrange(1, version + 1)])

    def _clock(self) -> Clock:
        now = self.site.time_at(self.now) + self.chance.randrange(60, EVERY)
        if self.beside is not None:  # TUF has no floor of the time, and always knows it
            return Clock(now + self.chance.choice((0, 0, 0, 4 * DAY, 9 * DAY)), synchronised=True)
        kind = self.chance.randrange(10)
        if kind < 5:
            return Clock(now, synchronised=True)
        wrong = self.chance.choice((0.0, now - 400 * DAY, now + 6 * DAY, now + 4000 * DAY))
        return Clock(wrong, synchronised=kind < 8)

    def _serve(self) -> Paper:
        """What the gateway serves; only what there is by now."""
        site, now, chance = self.site, self.now, self.chance
        kind = chance.randrange(10)
        if kind < 4:
            return site.honest[now]
        if kind < 6:
            return site.honest[chance.randrange(0, now + 1)]
        if kind < 8 and self.stolen:
            papers = site.stolen if self.beside is None else site.tame
            return chance.choice(papers[chance.choice(sorted(self.stolen))])
        if kind < 9 and self.beside is None:
            return chance.choice(site.others[chance.randrange(0, now + 1)])
        number = ONLINE_OF_ROOT[site.version_at(now)]
        return chance.choice(site.partial[number])

    def _chain(self) -> list[Signed]:
        """The roots that are served: those that follow, fewer, or forged ones."""
        site, chance = self.site, self.chance
        newest = site.version_at(self.now)
        good = site.signed_roots[self.truth.version : newest]
        kind = chance.randrange(10)
        if kind < 6:
            return good
        if kind < 7:
            return good[: chance.randrange(len(good) + 1)]
        if kind < 8:
            return chance.sample(site.signed_roots[:newest], chance.randrange(newest + 1))
        cut = chance.randrange(len(good) + 1)
        wanted = self.truth.version + cut + 1
        if wanted not in site.forged_roots:
            return good
        name, forged = chance.choice(site.forged_roots[wanted])
        self.counts[name] += 1
        return [*good[:cut], forged, *good[cut:]]

    def _poll(self) -> None:
        paper, clock = self._serve(), self._clock()
        chain = self._chain()
        if self.beside is None and self.chance.random() < 0.25:
            self.disk.fail_at, self.disk.done = self.chance.randrange(0, 7), 0
        self._take(chain, paper, clock)

    def _take(self, chain: list[Signed], paper: Paper, clock: Clock) -> Judgement | None:
        """One poll of the device, held against the truth."""
        self.counts["polls"] += 1
        self.counts[f"served {paper.kind}"] += 1
        day = round((clock.now - world.NOW) / DAY, 1)
        self.log.append(
            f"{paper.kind} {paper.index} with {len(chain)} roots on day {day}"
            f"{'' if clock.synchronised else ' unsynchronised'}"
        )
        fair = self._is_fair(chain, paper, clock)
        try:
            verdict = self._device().take(chain, paper.served, clock)
        except PowerLoss:
            self.counts["power losses"] += 1
            self.log.append("power lost")
            self._look()
            return None
        self.disk.fail_at = None
        self._look()
        if verdict.channel is not None:
            self.counts["believed" if verdict.new else "believed again"] += 1
            self.truth.believed(paper, clock, self.stolen)
            kept = self._device().state()
            if (kept.sequence, kept) != (verdict.channel.sequence, verdict.state):
                raise Broken("used before it was on the disk")
            self.counts["fair"] += fair
        elif verdict.refusal is not None:
            self.counts[f"refused {verdict.refusal.kind}"] += 1
            if fair:
                raise Broken(f"what is honest was refused: {verdict.refusal.sentence}")
        if self.beside is not None:
            self.beside(self, chain, paper, clock, verdict)
        return verdict

    def _look(self) -> None:
        """Whatever happened, the device has a state, and its root is the site's."""
        found = self._device().state()
        self.truth.root(found.root.version, found.root_data)

    def _is_fair(self, chain: list[Signed], paper: Paper, clock: Clock) -> bool:
        """Whether the newest honest documents are served at the right time, and nobody stole."""
        issued, newest = self.site.time_at(self.now), self.site.version_at(self.now)
        return (
            paper is self.site.honest[self.now]
            and clock.synchronised
            and issued <= clock.now < issued + EVERY
            and chain == self.site.signed_roots[self.truth.version : newest]
            and not self.stolen
        )

    def _recover(self) -> None:
        """The attack ends; the site does what its documentation says, and the clock is mended."""
        after_theft = bool(self.stolen)
        self.now = LAST if after_theft else self.now + 1
        if ONLINE_OF_ROOT[5] in self.stolen:
            return  # its rotation would be the sixth root; the others show the same
        chain = self.site.signed_roots[self.truth.version : self.site.version_at(self.now)]
        clock = Clock(self.site.time_at(self.now) + 60, synchronised=True)
        verdict = self._take(chain, self.site.honest[self.now], clock)
        if verdict is None or verdict.channel is None:
            raise Broken(f"locked out: {verdict.refusal if verdict else 'no power'}")
        self.counts["recovered after theft" if after_theft else "recovered"] += 1


def campaign(
    traces: int, seed: int, beside: Callable[[Site], Beside] | None = None, enough: int = 5
) -> dict[str, Any]:
    """Live many lives, one site for so many of them, until enough promises were broken."""
    with contextlib.ExitStack() as patched:
        for module, name, remembering in REMEMBERED:
            patched.enter_context(mock.patch.object(module, name, remembering))
        return _campaign(traces, seed, beside, enough)


def _remembering(module: ModuleType, name: str) -> tuple[ModuleType, str, Any]:
    """A function of a module that is asked once for the same bytes; what it refuses, each time."""
    return module, name, functools.lru_cache(maxsize=4096)(getattr(module, name))


REMEMBERED = [
    _remembering(documents, "check_key"),
    _remembering(state, "_parse"),
    *(_remembering(rules, f"parse_{name}") for name in ("root", "channel", "signatures")),
]


def _campaign(
    traces: int, seed: int, beside: Callable[[Site], Beside] | None, enough: int
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    broken: list[str] = []
    done = 0
    while done < traces and len(broken) < enough:
        number = seed * 1_000_003 + done
        site = Site(number, threshold=1 + done // PER_SITE % 2)
        judge = beside(site) if beside is not None else None
        for index in range(min(PER_SITE, traces - done)):
            try:
                counts += Trace(site, number + index, judge).run()
            except Broken as error:
                broken.append(str(error))
                if len(broken) >= enough:
                    break
        done += PER_SITE
    return {"counts": dict(counts), "broken": broken}


def compare_with_openssl(cases: int, seed: int) -> dict[str, int]:
    """Ask both verifiers about signatures that are right, bent, foreign, or no signatures."""
    chance = random.Random(seed)
    keys = [world.Key.make() for _number in range(4)]
    verdicts: Counter[str] = Counter()
    for number in range(cases):
        key, other = chance.sample(keys, 2)
        payload = chance.randbytes(chance.randrange(0, 400))
        signature = bytearray(key.sign(payload))
        kind = number % 8
        if kind in (2, 3):
            signature[chance.randrange(len(signature))] ^= 1 << chance.randrange(8)
        elif kind == 4:
            signature = bytearray(other.sign(payload))
        elif kind == 5:
            signature = signature[: chance.randrange(len(signature))]
        elif kind == 6:
            signature += chance.randbytes(chance.randrange(1, 5))
        elif kind == 7:
            payload += b"\n"
        here = world.verify(key.public, payload, bytes(signature))
        there = by_openssl(key.public, payload, bytes(signature))
        verdicts["believed" if here else "refused"] += 1
        verdicts["differ"] += here != there
    return {"cases": cases, **verdicts}


def _worker(work: tuple[int, int, bool]) -> dict[str, Any]:
    traces, seed, with_tuf = work
    if not with_tuf:
        return campaign(traces, seed)
    from tests.benchmarks.channel_tuf import Oracle

    return campaign(traces, seed, Oracle)


def spread(traces: int, seed: int, workers: int, with_tuf: bool = False) -> dict[str, Any]:
    """Share the traces among processes."""
    started = time.monotonic()
    parts = max(1, min(workers * 8, traces // PER_SITE))
    work = [
        (traces // parts + (1 if number < traces % parts else 0), seed + number, with_tuf)
        for number in range(parts)
    ]
    counts: Counter[str] = Counter()
    broken: list[str] = []
    with multiprocessing.Pool(workers) as pool:
        for found in pool.imap_unordered(_worker, work):
            counts.update(found["counts"])
            broken += found["broken"]
    seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 1),
        "traces_a_second": round(counts["traces"] / seconds),
        "counts": dict(sorted(counts.items())),
        "broken": broken[:5],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--tuf", type=int, default=10_000)
    parser.add_argument("--openssl", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"seed": options.seed, "workers": options.workers}
    if options.openssl:
        report["openssl"] = compare_with_openssl(options.openssl, options.seed)
    if options.traces:
        report["traces"] = spread(options.traces, options.seed, options.workers)
    if options.tuf:
        report["tuf"] = spread(options.tuf, options.seed + 5000, options.workers, with_tuf=True)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    report["cpu_seconds"] = round(sum(one.ru_utime + one.ru_stime for one in used), 1)
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")
    broken = [one for part in ("traces", "tuf") for one in report.get(part, {}).get("broken", [])]
    return 1 if broken or report.get("openssl", {}).get("differ") else 0


if __name__ == "__main__":
    raise SystemExit(main())
