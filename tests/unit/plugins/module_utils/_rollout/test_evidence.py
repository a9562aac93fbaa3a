# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page of metrics says of a release, and what came between two looks."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.evidence import (
    read_metrics,
    since,
)
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import Seen

DIGEST = "sha256:abc"
PAGE = """\
# HELP mlops_model_info 1 for each model that answers now, with the digest of its release.
# TYPE mlops_model_info gauge
mlops_model_info{digest="sha256:abc",model_name="m",model_version="2",run_id="r"} 1.0
mlops_model_info{digest="sha256:abc",model_name="other",model_version="9",run_id="r"} 1.0
mlops_model_requests_total{model_name="m",model_version="2",outcome="ok"} 9.0
mlops_model_requests_total{model_name="m",model_version="2",outcome="error"} 1.0
mlops_model_requests_total{model_name="m",model_version="2",outcome="invalid"} 3.0
mlops_model_requests_total{model_name="other",model_version="9",outcome="ok"} 70.0
mlops_model_request_seconds_bucket{le="0.01",model_name="m",model_version="2"} 4.0
mlops_model_request_seconds_bucket{le="0.025",model_name="m",model_version="2"} 4.0
mlops_model_request_seconds_bucket{le="+Inf",model_name="m",model_version="2"} 9.0
mlops_model_request_seconds_count{model_name="m",model_version="2"} 9.0
mlops_model_predictions_total{bucket="0",model_name="m",model_version="2"} 5.0
mlops_model_predictions_total{bucket="a\\"b,c",model_name="m",model_version="2"} 4.0
mlops_model_requests_total{model_name="m",model_version="2",outcome="ok"} NaN
mlops_model_requests_total{model_name="m",model_version="2",outcome="ok" nonsense
"""
SEEN = Seen(
    "edge1",
    DIGEST,
    True,
    10,
    1,
    {"0.01": 4, "0.025": 0, "+Inf": 5},
    {"0": 5, 'a"b,c': 4},
    7.0,
    3,
)


def test_a_page_is_read_as_counters_of_one_release() -> None:
    assert read_metrics(PAGE, "edge1", "m", DIGEST, 7.0) == SEEN


@pytest.mark.parametrize(
    ("page", "answered"),
    [
        ("", False),
        (PAGE.replace("sha256:abc", "sha256:old"), False),
        ("\n".join(line for line in PAGE.splitlines() if "_info" in line), None),
        (PAGE.replace('"ok"} 9.0', '"ok"} 0.0'), False),
    ],
)
def test_only_who_answered_well_from_the_release_is_said_to_answer(
    page: str, answered: bool | None
) -> None:
    assert read_metrics(page, "edge1", "m", DIGEST, 0).answered is answered


def test_the_difference_of_two_looks() -> None:
    later = dataclasses.replace(
        SEEN,
        requests=25,
        errors=2,
        latency={"0.01": 10, "0.025": 1, "+Inf": 12},
        predictions={"0": 9, 'a"b,c': 4, "1": 2},
        at=9.0,
        invalid=4,
    )
    assert since(SEEN, later) == Seen(
        "edge1",
        DIGEST,
        True,
        15,
        1,
        {"0.01": 6, "0.025": 1, "+Inf": 7},
        {"0": 4, 'a"b,c': 0, "1": 2},
        9.0,
        1,
    )


def test_who_was_asked_nothing_since_is_not_known_to_answer() -> None:
    assert since(SEEN, dataclasses.replace(SEEN, at=9.0)).answered is None


@pytest.mark.parametrize(
    "now",
    [
        dataclasses.replace(SEEN, requests=2, errors=0, latency={"0.01": 2}, predictions={"0": 2}),
        dataclasses.replace(SEEN, predictions={"0": 9}),
        dataclasses.replace(SEEN, requests=99, invalid=0),
        dataclasses.replace(SEEN, digest="sha256:other", requests=99),
    ],
)
def test_counters_that_began_anew_are_all_since_then(now: Seen) -> None:
    assert since(SEEN, now) == now
