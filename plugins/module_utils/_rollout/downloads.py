# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what devices are to fetch fits through what is declared of their links.

Sizes are the largest that are declared, ``release_max_mib``; nothing is measured here. What is not
declared is said to be unknown, and nothing follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._findings.sentence import amount, counted
from .window import Window

MIB = 1024 * 1024

Row = dict[str, str]


def seconds_of(mib: float, mbit: float) -> float:
    """Seconds for so many MiB at so many Mbit/s, which is more than 0."""
    return mib * MIB * 8 / (mbit * 1e6)


def of_device(mib: float, link_mbit: float, within: float, least: float) -> Row:
    """All releases of one device, as after it was replaced, over its own link.

    ``mib`` is the sum of its models' largest releases, ``link_mbit`` the speed of its link (0 is
    unknown), ``within`` the seconds that it may take, ``least`` the bytes a second below which a
    device gives up.
    """
    size = f"at most {amount(mib, 0)} MiB of releases ({mib * MIB:,.0f} bytes)"
    severity, remedy = "pass", "set model_serving_link_mbit to what the device's link carries"
    if link_mbit <= 0:
        found = f"{size}; how long that takes is unknown, as model_serving_link_mbit is not set"
    else:
        seconds = seconds_of(mib, link_mbit)
        found = f"{size} over {link_mbit:g} Mbit/s: {amount(seconds, 0)} s"
        if link_mbit * 1e6 / 8 < least:
            severity = "fail"
            found += (
                f", and a device gives up what comes with less than {least * 8 / 1e6:.2f} Mbit/s"
            )
            remedy = "give the device a faster link, or correct model_serving_link_mbit"
        elif seconds > within:
            severity = "fail"
            remedy = (
                "raise model_serving_download_seconds, lower release_max_mib of models or aim "
                "fewer of them at the device in mlops_models, or correct model_serving_link_mbit"
            )
    return {
        "id": "model_serving.download",
        "severity": severity,
        "found": found,
        "wanted": f"the releases of all its models within {amount(within, 0)} s",
        "remedy": remedy,
    }


def of_site(models: Sequence[Mapping[str, Any]], mbit: float, window: Window) -> Row:
    """A release of each model for each of its devices, over what they share.

    ``models`` have ``hosts`` and ``release_max_mib``; ``mbit`` is the cap of all downloads
    together, 0 for none. A rollout goes on in the next opening of the window, so what does not fit
    into one is told, not refused.
    """
    mib = sum(float(one["release_max_mib"]) * len(one["hosts"]) for one in models)
    hosts = {host for one in models for host in one["hosts"]}
    said = f"{counted(len(models), 'model')} for {counted(len(hosts), 'device')}, at most "
    said += f"{amount(mib, 0)} MiB in all ({mib * MIB:,.0f} bytes)"
    longest = max((span.minutes * 60 for span in window.spans), default=0)
    wanted = (
        f"a release of each model within {longest:,} s, the longest span of rollout_window"
        if longest
        else "what a release of each model takes, so that rollout_window can be chosen"
    )
    severity = "pass"
    if mbit <= 0:
        said += "; how long that takes is unknown, as rollout_bandwidth_mbit sets no limit"
    else:
        seconds = seconds_of(mib, mbit)
        said += f" over {mbit:g} Mbit/s: {amount(seconds, 0)} s"
        if longest and seconds > longest:
            severity = "warn"
            said += ", so that a rollout to all takes more than one opening of the window"
    return {
        "id": "rollout.download",
        "severity": severity,
        "found": said,
        "wanted": wanted,
        "remedy": "raise rollout_bandwidth_mbit, lengthen rollout_window, or lower release_max_mib",
    }
