# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a certificate lasts, by the OpenSSL that hosts have."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host.certificate import (
    days_left,
    end_of,
)


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    path = tmp_path / "host.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 100"
    made = ["-subj", "/CN=x", "-keyout", str(tmp_path / "key"), "-out", str(path)]
    subprocess.run([*command.split(), *made], check=True, capture_output=True)
    return str(path)


def test_the_days_are_counted(certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert days_left(certificate) == pytest.approx(100, abs=0.1)
    assert days_left(certificate, time.time() + 110 * 86400) == pytest.approx(-10, abs=0.1)


def test_what_is_no_certificate_has_no_end(tmp_path: Path) -> None:
    (tmp_path / "host.crt").write_text("damaged")
    assert days_left(str(tmp_path / "host.crt")) is None
    assert days_left(str(tmp_path / "none.crt")) is None


def test_the_end_of_a_text_is_that_of_its_file(certificate: str) -> None:
    end = end_of(Path(certificate).read_text())
    assert end is not None
    assert end - time.time() == pytest.approx(100 * 86400, abs=0.1 * 86400)
    assert end_of("damaged") is None
