# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS is judged as libpq and botocore judge it, in every version of Python alike."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.endpoint import (
    Dialled,
    Endpoint,
    dial,
)

from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._trust.companies import Holder, authority, leaf

STORE = Contract("object_store", "s3.example.com:443", ("endpoint",))
ROOT = authority("Root")
ISSUING = authority("Issuing", ROOT)
OLD = authority("Old company CA", identifier=None, usage=False)
OTHER = authority("Another root")
LAX = authority("No usage", usage=False)


def served(issuer: Holder) -> Holder:
    return leaf(issuer, ["s3.example.com"])


def dialled(folder: Path, shown: list[Holder], trusted: list[Holder]) -> Dialled:
    """The verdict about a server that shows these certificates."""
    chain, key, ca_file = folder / "chain.pem", folder / "key.pem", folder / "ca.pem"
    chain.write_text("".join(holder.pem for holder in shown))
    key.write_text(shown[0].key)
    ca_file.write_text("".join(holder.pem for holder in trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError), context.wrap_socket(theirs, server_side=True) as tls:
            tls.recv(1)

    server = threading.Thread(target=serve)
    server.start()
    endpoint = Endpoint("s3.example.com", 443, str(ca_file))
    seen = dial(STORE, endpoint, lambda _endpoint: ours)
    server.join(timeout=PATIENCE)
    return seen


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [
        ([served(ROOT)], [ROOT]),
        ([served(ISSUING), ISSUING], [ROOT]),
        ([served(ISSUING)], [ISSUING, ROOT]),
        ([served(OLD)], [OLD]),
        ([served(LAX)], [LAX]),
    ],
    ids=["root", "chain", "both in the file", "no key identifiers", "no usage"],
)
def test_what_the_clients_accept_passes(
    tmp_path: Path, shown: list[Holder], trusted: list[Holder]
) -> None:
    seen = dialled(tmp_path, shown, trusted)
    assert seen.finding is None
    assert seen.certificate is not None


@pytest.mark.parametrize("shown", [[served(ISSUING)], [served(ISSUING), ISSUING]])
@pytest.mark.parametrize("beside", [[], [OTHER]])
def test_a_file_that_lacks_the_root_is_told_as_such(
    tmp_path: Path, shown: list[Holder], beside: list[Holder]
) -> None:
    finding = dialled(tmp_path, shown, [ISSUING, *beside]).finding
    assert finding is not None
    assert finding.found.startswith("a certificate whose authority has no root above it in ")
    assert finding.remedy.endswith("to the PEM file in object_store_ca_file")


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [([served(OTHER)], [ROOT]), ([served(ISSUING)], [ROOT]), ([served(ROOT)], [OTHER])],
)
def test_an_authority_that_did_not_sign_is_told(
    tmp_path: Path, shown: list[Holder], trusted: list[Holder]
) -> None:
    finding = dialled(tmp_path, shown, trusted).finding
    assert finding is not None
    assert finding.found.startswith("a certificate that cannot be verified")
    assert "object_store_ca_file" in finding.remedy
