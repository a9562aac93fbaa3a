# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every probe: reach the endpoint, verify TLS, look, report what was found."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Callable

from .._findings.finding import FAIL, Finding
from .contract import Contract, sentences_of_failures
from .deadline import Deadline, Expired
from .endpoint import Certificate, Endpoint, Greet, dial, judge_certificate

OPTIONS: dict[str, Any] = {"strict": {"type": "bool", "default": False}}
SPAN: dict[str, Any] = {"deadline": {"type": "int", "default": 30}}

Look = Callable[[Certificate], tuple[list[Finding], dict[str, Any]]]
"""What a protocol adds once TLS is verified: its findings, and facts for the result."""


def run(
    module: Any,
    contract: Contract,
    endpoint: Endpoint,
    look: Look,
    nothing: dict[str, Any],
    greet: Greet | None = None,
    deadline: Deadline | None = None,
) -> None:
    """Probe and end the module. ``nothing`` is the facts of an endpoint that was not reached.

    One cause gives one finding: where the way ends, nobody looks further.
    """
    timeout = module.params["timeout"]
    try:
        with deadline.limit() if deadline else contextlib.nullcontext():
            findings, certificate = reach(contract, endpoint, timeout, greet)
    except Expired:
        findings, certificate = [_too_late(contract, endpoint, deadline)], None
    facts: dict[str, Any] = {}
    if certificate:
        more, facts = look(certificate)
        findings += more
    report(module, findings, {**nothing, **facts})


def reach(
    contract: Contract, endpoint: Endpoint, timeout: int, greet: Greet | None = None
) -> tuple[list[Finding], Certificate | None]:
    """Findings about the way to the endpoint, and its certificate if the way is open."""

    def connect(to: Endpoint) -> socket.socket:
        return socket.create_connection((to.host, to.port), timeout=timeout)

    dialled = dial(contract, endpoint, connect, greet)
    if dialled.finding or not dialled.certificate:
        return [dialled.finding] if dialled.finding else [], None
    return [
        contract.passed("reachable", "an open port", f"an open port at {endpoint.address}"),
        judge_certificate(contract, endpoint, dialled.certificate, time.time()),
    ], dialled.certificate


def in_time(look: Look, contract: Contract, deadline: Deadline, user: str) -> Look:
    """The same look, which ends with a finding where the server answers too slowly."""

    def limited(certificate: Certificate) -> tuple[list[Finding], dict[str, Any]]:
        try:
            with deadline.limit():
                return look(certificate)
        except Expired:
            late = contract.failed(
                "login",
                f"no end of the probe within {deadline.seconds:g} s",
                f"answers to a login as {user}",
                "see the server's log and load, and proxies between",
            )
            return [late], {}

    return limited


def in_the_way(
    contract: Contract, endpoint: Endpoint, timeout: int, greet: Greet | None = None
) -> Finding | None:
    """What is wrong with the way to the endpoint, if anything is."""
    findings, _certificate = reach(contract, endpoint, timeout, greet)
    return next((finding for finding in findings if finding.severity == FAIL), None)


def _too_late(contract: Contract, endpoint: Endpoint, deadline: Deadline | None) -> Finding:
    seconds = deadline.seconds if deadline else 0
    return contract.failed(
        "reachable",
        f"no connection to {endpoint.address} within the {seconds:g} s of the probe",
        f"an open port at {endpoint.address} that speaks TLS",
        f"correct {contract.address_variables}, or let the controller through the firewall",
    )


def report(module: Any, findings: list[Finding], facts: dict[str, Any]) -> None:
    """End the module: a finding is a failure only where that was asked for."""
    failures = sentences_of_failures(findings)
    result = dict(changed=False, findings=[finding.as_dict() for finding in findings], **facts)
    if failures and module.params["strict"] and not module.check_mode:
        module.fail_json(msg=" ".join(failures), **result)
    module.exit_json(**result)
