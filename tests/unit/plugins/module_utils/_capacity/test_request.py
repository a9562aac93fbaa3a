# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the planner, as far as it hangs on the rest of the inventory."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._capacity.request import (
    Written,
    read_request,
)

GPU = {"gpu": {"share": 0.2}}
WORK = [
    {"name": kind, "kind": kind, **GPU}
    for kind in ("serving", "service", "training", "batch", "user")
]


@pytest.mark.parametrize(
    ("groups", "owners"),
    [
        ({"gpu": ["g1"]}, [""] * 5),
        ({"gpu": ["g1"], "scheduler": []}, [""] * 5),
        ({"gpu": ["g1"], "scheduler": ["c1"]}, ["serving"] * 2 + ["scheduler"] * 3),
    ],
)
def test_gpus_have_owners_where_there_is_a_scheduler(
    groups: dict[str, list[str]], owners: list[str]
) -> None:
    found = read_request(Written(WORK, groups=groups), ["g1", "c1"], {})
    assert found.problems == ()
    assert [spec.gpu.owner for spec in found.specs] == owners
