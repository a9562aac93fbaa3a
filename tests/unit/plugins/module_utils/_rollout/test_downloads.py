# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What devices fetch, against what is declared of their links."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.filter.downloads import downloads
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.downloads import seconds_of

NIGHTS = ["Mon-Fri 22:00-04:00 UTC", "Sat 12:00-13:00 UTC"]
MODELS = [
    {"name": "a", "hosts": ["edge1", "edge2"], "release_max_mib": 100},
    {"name": "b", "hosts": ["edge2"], "release_max_mib": 400},
]


def test_seconds_are_bits_over_bits_a_second() -> None:
    assert seconds_of(1, 8.388608) == pytest.approx(1)
    assert seconds_of(100, 10) == pytest.approx(83.88608)


@pytest.mark.parametrize(
    ("mib", "mbit", "seconds", "severity", "said"),
    [
        (100, 10, 84, "pass", "100 MiB of releases (104,857,600 bytes) over 10 Mbit/s: 84 s"),
        (100, 10, 83, "fail", "over 10 Mbit/s: 84 s"),
        (100, 0, 1, "pass", "how long that takes is unknown, as model_serving_link_mbit is not"),
        (1, 0.13, 9999, "fail", "gives up what comes with less than 0.13 Mbit/s"),
        (1, 0.132, 9999, "pass", "over 0.132 Mbit/s: 64 s"),
    ],
)
def test_a_device_has_to_fetch_all_its_models_in_time(
    mib: float, mbit: float, seconds: float, severity: str, said: str
) -> None:
    found = downloads(mib, mbit, seconds)
    assert (found["id"], found["severity"]) == ("model_serving.download", severity)
    assert said in found["found"]
    assert f"within {seconds:,} s" in found["wanted"]
    if severity == "fail":
        assert "model_serving_link_mbit" in found["remedy"]


@pytest.mark.parametrize(
    ("mbit", "window", "severity", "said"),
    [
        (
            0,
            [],
            "pass",
            "2 models for 2 devices, at most 600 MiB in all (629,145,600 bytes); how",
        ),
        (0, NIGHTS, "pass", "unknown, as rollout_bandwidth_mbit sets no limit"),
        (1, [], "pass", "over 1 Mbit/s: 5,033 s"),
        (1, NIGHTS, "pass", "over 1 Mbit/s: 5,033 s"),  # six hours are the longest
        (1, NIGHTS[1:], "warn", "5,033 s, so that a rollout to all takes more than one opening"),
        (1, ["whenever"], "fail", "rollout_window is 'whenever'"),
    ],
)
def test_the_fleet_shares_what_rollouts_may_take(
    mbit: float, window: list[str], severity: str, said: str
) -> None:
    found = downloads(MODELS, mbit, window=window)
    assert (found["id"], found["severity"]) == ("rollout.download", severity)
    assert said in found["found"]
    assert found["remedy"]


def test_a_site_without_models_of_its_own_fetches_nothing_that_is_known() -> None:
    assert "0 models for 0 devices, at most 0 MiB" in downloads([], 5)["found"]
