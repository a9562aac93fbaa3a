# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the way to a server ends is said in one precise finding."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Certificate,
    Dialled,
    Endpoint,
    dial,
    judge_certificate,
    judge_clock,
)

DATABASE = Contract("metadata_db", "db.example.com:5432", ("host", "port"))
STORE = Contract("object_store", "s3.example.com:443", ("endpoint",))
SERVER = Endpoint("db.example.com", 5432, "")


def refuse(error: OSError) -> Any:
    def connect(_endpoint: Endpoint) -> socket.socket:
        raise error

    return connect


@pytest.mark.parametrize(
    ("contract", "error", "sentence"),
    [
        (
            DATABASE,
            ConnectionRefusedError(111, "Connection refused"),
            "db.example.com:5432: port 5432 of db.example.com is closed (connection refused), "
            "wanted an open port at db.example.com:5432; "
            "start the server, or correct metadata_db_host and metadata_db_port",
        ),
        (
            DATABASE,
            socket.gaierror(-2, "Name or service not known"),
            "db.example.com:5432: no address for the name db.example.com, "
            "wanted an open port at db.example.com:5432; "
            "set metadata_db_host to a name that the controller can resolve",
        ),
        (
            DATABASE,
            TimeoutError("timed out"),
            "db.example.com:5432: no answer from db.example.com port 5432 in time, "
            "wanted an open port at db.example.com:5432; "
            "correct metadata_db_host and metadata_db_port, "
            "or let the controller through the firewall",
        ),
        (
            STORE,
            OSError(113, "No route to host"),
            "s3.example.com:443: db.example.com port 5432 cannot be reached: no route to host, "
            "wanted an open port at db.example.com:5432; "
            "correct object_store_endpoint, or mend the network",
        ),
    ],
)
def test_a_port_that_cannot_be_reached(contract: Contract, error: OSError, sentence: str) -> None:
    dialled = dial(contract, SERVER, refuse(error))
    assert dialled.certificate is None
    assert dialled.finding is not None
    assert (dialled.finding.severity, dialled.finding.sentence) == ("fail", sentence)


def test_what_is_said_before_tls_can_end_the_way() -> None:
    ours, theirs = socket.socketpair()
    wrong = STORE.failed("reachable", "something else", "a store", "correct it")
    with theirs:
        dialled = dial(STORE, SERVER, lambda _endpoint: ours, lambda *_arguments: wrong)
    assert dialled == Dialled(None, wrong)


def test_an_address_of_ip_version_6_is_written_in_brackets() -> None:
    assert Endpoint("fd00::1", 5432, "").address == "[fd00::1]:5432"


def test_a_ca_file_without_certificates(tmp_path: Path) -> None:
    file = tmp_path / "empty.crt"
    file.write_text("")
    ours, theirs = socket.socketpair()
    with theirs:
        endpoint = Endpoint("db.example.com", 5432, str(file))
        dialled = dial(DATABASE, endpoint, lambda _endpoint: ours)
    assert dialled.finding is not None
    assert dialled.finding.id == "metadata_db.tls"
    assert dialled.finding.remedy == "set metadata_db_ca_file to that file"


@pytest.mark.parametrize(
    ("days", "severity"), [(90, "pass"), (14, "pass"), (13, "warn"), (0, "warn")]
)
def test_a_certificate_that_ends_soon_is_told_in_time(days: int, severity: str) -> None:
    certificate = Certificate("TLSv1.3", valid_until=1000 + days * 86400)
    finding = judge_certificate(DATABASE, SERVER, certificate, now=1000)
    assert finding.severity == severity
    assert finding.found == f"TLSv1.3, certificate verified, valid for {days} more days"


@pytest.mark.parametrize(
    ("skew", "severity", "found"),
    [
        (0.2, "pass", "less than 5 s from the controller's clock"),
        (-20.0, "warn", "a clock 20 s behind the controller's"),
        (600.0, "fail", "a clock 10 minutes ahead of the controller's"),
        (-600.0, "fail", "a clock 10 minutes behind the controller's"),
    ],
)
def test_clocks_are_compared(skew: float, severity: str, found: str) -> None:
    finding = judge_clock(DATABASE, skew, warn_seconds=5, fail_seconds=60)
    assert (finding.severity, finding.found) == (severity, found)


def test_no_common_tls_version_is_not_called_untrusted() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        # Alert 70: protocol_version.
        theirs.sendall(b"\x15\x03\x01\x00\x02\x02\x46")
        dialled = dial(STORE, SERVER, lambda _endpoint: ours)
    assert dialled.finding is not None
    assert dialled.finding.wanted == "TLS 1.2 or newer"
    assert dialled.finding.remedy == "let the server offer TLS 1.2 or newer on this port"
    assert ssl.HAS_TLSv1_2
