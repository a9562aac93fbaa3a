# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the faults of the campaign, and that the campaign sees what it is there to see."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.soak import device_faults
from tests.soak.device_faults import Campaign, campaign


def test_a_sample_of_faults_leaves_one_whole_release_or_the_other() -> None:
    with campaign(seed=7, size=20_000) as made:
        made.faults(40)
    assert made.wrong == []
    assert sum(made.told[kind] for kind in device_faults.KINDS) >= 40
    assert min(made.told["killed"], made.told["answers"], made.told["looks"]) > 0


def spoil_the_disk(made: Campaign) -> None:
    place = made.root / "releases" / made.current().partition(":")[2]
    (place / "model.onnx").write_bytes(b"evil")


def disarm(made: Campaign) -> None:
    (made.root / "models" / device_faults.MODEL / "armed").unlink()


@pytest.mark.parametrize(
    ("mischief", "sentence"),
    [(spoil_the_disk, "has another digest"), (disarm, "has no deadline")],
    ids=["a file is changed", "a deadline is lost"],
)
def test_the_campaign_sees_what_is_wrong(
    mischief: Callable[[Campaign], None], sentence: str
) -> None:
    with campaign(seed=1, size=5_000) as made:
        order = {
            "rollout": "r1",
            "generation": 1,
            "model": device_faults.MODEL,
            "digest": made.shelf.releases[0].digest,
            "deadline": 600.0,
        }
        for step in ("stage", "activate"):
            answer = made.run(step, order)
            assert answer is not None
            assert answer["failure"] == ""
        made.judge(order, "")
        assert made.wrong == []
        mischief(made)
        made.judge(order, "")
    assert any(sentence in one for one in made.wrong)
