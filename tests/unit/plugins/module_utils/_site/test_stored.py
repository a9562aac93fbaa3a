# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of runs, the deleted ones among them, against what the object store holds."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.filter.stored import stored

from tests.unit.plugins.module_utils._site.test_site import asked

DAILY = 102.4  # a tenth of a GiB


def told(daily: float = DAILY, kept: int = 0, deleted: int = 0) -> dict[str, float]:
    said = {
        "ctl1": {
            "model_registry_artifacts_mib_per_day": daily,
            "model_registry_runs_kept_days": kept,
            "model_registry_deleted_days": deleted,
        }
    }
    found: dict[str, float] = asked("object_store_runs", said, "store1")
    return found


@pytest.mark.parametrize(
    ("runs", "room", "severity", "said"),
    [
        (told(0), 5, "pass", "unknown, as model_registry_artifacts_mib_per_day is not set; files"),
        (told(0), 5, "pass", "files of deleted runs stay for ever"),
        (told(0, deleted=30), 5, "pass", "stay for 30 more days"),
        (told(kept=90, deleted=30), 12, "pass", ": 12.0 GiB, 3.0 of them of deleted runs"),
        (told(kept=90, deleted=30), 11.9, "fail", "deleted after 90 days and whose files stay for"),
        (told(kept=90, deleted=30), 0, "pass", "12.0 GiB"),
        (told(kept=65), 40, "pass", "stay for ever: 36.5 GiB more each year, 30.0 of the first"),
        (told(kept=65), 20, "warn", "so that it is full after 200 days"),
        (
            told(deleted=30),
            20,
            "warn",
            "that nobody is said to delete: 36.5 GiB more each year, so",
        ),
        (told(), 0, "pass", "36.5 GiB more each year"),
    ],
)
def test_deleted_runs_count_until_their_files_go(
    runs: dict[str, float], room: float, severity: str, said: str
) -> None:
    found = stored(runs, room)
    assert (found["id"], found["severity"]) == ("object_store.artifacts", severity)
    assert said in found["found"]
    if room:
        assert (
            f"{room:.1f} GiB, which is what the disks of the object store hold" in found["wanted"]
        )
    else:
        assert "nothing is known here" in found["wanted"]


def test_a_quota_is_the_limit_where_there_is_one() -> None:
    runs = told(kept=90, deleted=30)
    found = stored(runs, 500, {"model_registry": 10, "workloads": 900})
    assert found["severity"] == "fail"
    assert "at most 10.0 GiB, which is the quota of model_registry" in found["wanted"]
    assert stored(runs, 1, {"model_registry": 13})["severity"] == "pass"
    assert stored(runs, 1, {"model_registry": 0})["severity"] == "fail"
