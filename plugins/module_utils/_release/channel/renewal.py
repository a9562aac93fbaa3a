# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-fleet-renew`` of the control host: it signs the same orders anew.

A channel that has used up half of its time is published again with a new date and number; what it
orders stays. No person and no controller has to be there. How long each channel and the root
document still hold is written down for Prometheus, also where renewing failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import RegistryError
from .documents import Channel, Root, parse_root
from .publish import Publisher, put

HELP = {
    "mlops_rollout_channel_expires_seconds": "when a channel expires, in seconds since the epoch",
    "mlops_rollout_channel_issued_seconds": "when it was signed last",
    "mlops_rollout_root_expires_seconds": "when the newest root document expires",
    "mlops_rollout_channel_renewal_failed": "1 where channels could not be signed anew",
}


@contextlib.contextmanager
def alone(directory: str | os.PathLike[str]) -> Iterator[None]:
    """One publisher at a time: rollouts of two models share channels and the sequence."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def page(channels: Mapping[str, Channel], root: Root | None, failed: bool) -> str:
    """What Prometheus is told."""
    rows: dict[str, list[str]] = {name: [] for name in HELP}
    for ring, channel in sorted(channels.items()):
        rows["mlops_rollout_channel_expires_seconds"].append(f'{{ring="{ring}"}} {channel.expires}')
        rows["mlops_rollout_channel_issued_seconds"].append(f'{{ring="{ring}"}} {channel.issued}')
    if root is not None:
        rows["mlops_rollout_root_expires_seconds"].append(f" {root.expires}")
    rows["mlops_rollout_channel_renewal_failed"].append(f" {int(failed)}")
    lines = []
    for name, samples in rows.items():
        if samples:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
            lines += [name + sample for sample in samples]
    return "\n".join([*lines, ""])


def site_of(fleet: Path) -> str:
    """The site that the root documents on this host are of; nothing before there are any."""
    first = fleet / "root" / "1.json"
    return parse_root(first.read_bytes(), str(first)).site if first.exists() else ""


def newest(publisher: Publisher) -> Root | None:
    """The newest root document that is published."""
    roots = publisher.roots()
    return parse_root(roots[-1].data) if roots else None


def renew(publisher: Publisher, metrics: Path) -> list[str]:
    """Sign anew what is due; tell Prometheus, also where that did not work."""
    failed = True
    try:
        done = publisher.renew()
        failed = False
    finally:
        with contextlib.suppress(RegistryError, OSError):
            put(metrics, page(publisher.channels(), newest(publisher), failed).encode(), 0o644)
    return done


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mlops-fleet-renew",
        description="Sign channels anew that have used up half of their time.",
    )
    made.add_argument("--fleet", type=Path, required=True, help="what the gateway serves")
    made.add_argument("--keys", type=Path, required=True, help="the online key and the sequence")
    made.add_argument("--metrics", type=Path, required=True, help="page for Prometheus")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; say what was signed, or why nothing could be."""
    options = parser().parse_args(arguments)
    try:
        publisher = Publisher(site_of(options.fleet), options.fleet, options.keys, time.time())
        with alone(options.keys):
            done = renew(publisher, options.metrics)
    except (RegistryError, OSError) as error:
        sys.stderr.write(f"Channels cannot be signed anew: {error}\n")
        return 1
    if done:
        sys.stdout.write(f"Signed anew: {', '.join(done)}.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
