# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of a probe: where the way ends nobody looks further, and findings are no failure."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts import probe
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.deadline import (
    Deadline,
    Expired,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Certificate,
    Dialled,
    Endpoint,
)

STORE = Contract("object_store", "s3:443", ("endpoint",))
ENDPOINT = Endpoint("s3", 443, "")
CLOSED = STORE.failed("reachable", "a closed port", "an open port", "start the server")


class Ended(Exception):
    """The module has said its last word."""


class Module:
    def __init__(self, strict: bool, check_mode: bool) -> None:
        self.params = {"strict": strict, "timeout": 1}
        self.check_mode = check_mode
        self.result: dict[str, Any] = {}

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise Ended

    def fail_json(self, **result: Any) -> None:
        self.exit_json(failed=True, **result)


def run(
    monkeypatch: pytest.MonkeyPatch,
    dialled: Dialled,
    look: probe.Look,
    strict: bool = False,
    check_mode: bool = False,
) -> dict[str, Any]:
    monkeypatch.setattr(probe, "dial", lambda *_arguments, **_more: dialled)
    module = Module(strict, check_mode)
    with pytest.raises(Ended):
        probe.run(module, STORE, ENDPOINT, look, {"vendor": ""})
    return module.result


def never(_certificate: Certificate) -> Any:
    raise AssertionError("looked where the way does not lead")


def good(_certificate: Certificate) -> Any:
    return [STORE.passed("objects", "all", "all")], {"vendor": "ceph"}


def bad(_certificate: Certificate) -> Any:
    return [STORE.failed("objects", "nothing", "all", "mend it")], {"vendor": "ceph"}


CERTIFICATE = Certificate("TLSv1.3", 4e9)
OPEN = Dialled(CERTIFICATE, None)


def test_where_the_way_ends_nobody_looks_further(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Dialled(None, CLOSED), never)
    assert result == {"changed": False, "findings": [CLOSED.as_dict()], "vendor": ""}


def test_what_was_found_follows_the_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, OPEN, good, strict=True)
    assert [finding["id"] for finding in result["findings"]] == [
        "object_store.reachable",
        "object_store.tls",
        "object_store.objects",
    ]
    assert (result["vendor"], "failed" in result) == ("ceph", False)


@pytest.mark.parametrize(
    ("strict", "check_mode", "failed"),
    [(False, False, False), (True, False, True), (True, True, False)],
)
def test_a_finding_fails_the_module_only_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, strict: bool, check_mode: bool, failed: bool
) -> None:
    result = run(monkeypatch, OPEN, bad, strict, check_mode)
    assert result.get("failed", False) is failed
    assert result["findings"][-1]["severity"] == "fail"
    if failed:
        assert result["msg"] == "s3:443: nothing, wanted all; mend it"


def test_a_look_that_takes_too_long_is_a_finding_and_one_in_time_is_handed_on() -> None:
    def slow(_certificate: Certificate) -> Any:
        raise Expired

    def look(what: probe.Look) -> Any:
        return probe.in_time(what, STORE, Deadline(30), "dba")(CERTIFICATE)

    (late,), facts = look(slow)
    assert (late.found, late.wanted) == (
        "no end of the probe within 30 s",
        "answers to a login as dba",
    )
    assert facts == {}
    assert look(good) == good(CERTIFICATE)
