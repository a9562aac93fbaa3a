# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries to Prometheus and what their answers mean."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.metrics import (
    Expectation,
    expectations,
    missing,
    parse_vector,
)

WANTED = Expectation("requests", "q", 76.0)


def vector(*samples: tuple[str, str]) -> dict[str, Any]:
    result = [{"metric": {"host": host}, "value": [1.0, value]} for host, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_the_queries_name_model_version_and_digest() -> None:
    model, requests = expectations('de"mo', "3", "sha256:a", 76)
    assert model.query == (
        'mlops_model_info{model_name="de\\"mo",model_version="3",digest="sha256:a"}'
    )
    assert requests.query == (
        'mlops_model_requests_total{model_name="de\\"mo",model_version="3",outcome="ok"}'
    )
    assert requests.minimum == 76


def test_samples_are_read_by_label() -> None:
    found = parse_vector(vector(("edge1", "3"), ("edge2", "4"), ("edge1", "5")), "host")
    assert found == {"edge1": 5.0, "edge2": 4.0}
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [1, "17.5"]}}
    assert parse_vector(scalar, "host") == {"": 17.5}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "Prometheus did not answer the query: no reason given."),
        ({"status": "error", "error": "bad query"}, "did not answer the query: bad query."),
        ({"status": "success", "data": {"resultType": "matrix"}}, "something else than a list"),
    ],
)
def test_an_answer_that_is_none_is_said(value: Any, sentence: str) -> None:
    with pytest.raises(CheckError) as refusal:
        parse_vector(value, "host")
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "measured", "sentence"),
    [
        ({"e": 76.0}, {"e": 11.0}, None),
        ({}, {}, "Prometheus has no requests metric of e"),
        (
            {"e": 76.0},
            {"e": 9.0},
            "Prometheus has not measured e since the requests were sent (requests metric)",
        ),
        (
            {"e": 75.0},
            {"e": 11.0},
            "Prometheus counts 75 for the requests metric of e, wanted 76 or more",
        ),
    ],
)
def test_a_metric_must_be_there_and_new_and_enough(
    values: dict[str, float], measured: dict[str, float], sentence: str | None
) -> None:
    found = missing(["e"], WANTED, values, measured, since=10.0)
    assert found == ({} if sentence is None else {"e": sentence})
