# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Withdrawn certificates: which are meant, and what cannot be meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.mlops.onprem.plugins.filter.nginx_revoked import nginx_revoked


def refused(entry: dict[str, Any], serial: str, subject: str) -> bool:
    (text,) = nginx_revoked([entry])
    assert text.startswith('"~')
    # PCRE's \z is Python's \Z; nginx takes two backslashes in quotes for one, as it does one.
    return bool(re.search(text[2:-1].replace("\\z", "\\Z"), f"{serial} {subject}"))


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("CN=edge7", True),
        ("CN=edge7,O=Example", True),
        ("O=Example,CN=edge7", True),
        ("CN=edge70", False),
        ("CN=line1-edge7", False),
        ("CN=edge7.plant", False),
        ("O=CN=edge7x", False),
        ("", False),
    ],
)
def test_a_name_means_every_certificate_of_that_name(subject: str, meant: bool) -> None:
    assert refused({"name": "edge7"}, "4A0F", subject) is meant


def test_a_dot_is_a_dot() -> None:
    assert refused({"name": "a.b"}, "1", "CN=a.b")
    assert not refused({"name": "a.b"}, "1", "CN=axb")


@pytest.mark.parametrize("serial", ["4A0F", "4a:0f", "serial=4A0F", "0x4a0f", "004A0F"])
def test_a_serial_means_one_certificate_however_it_is_written(serial: str) -> None:
    assert refused({"serial": serial}, "4A0F", "CN=any")
    assert refused({"serial": serial}, "004A0F", "CN=any")
    assert not refused({"serial": serial}, "4A0F00", "CN=any")
    assert not refused({"serial": serial}, "14A0F", "CN=4A0F")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("edge7", "has to be a list"),
        (["edge7"], "wanted either a name or a serial"),
        ([{"name": "edge7", "serial": "01"}], "wanted either a name or a serial"),
        ([{}], "wanted either a name or a serial"),
        ([{"name": 'x" 0; } map'}], "wanted the name of a host"),
        ([{"name": "a\nb"}], "wanted the name of a host"),
        ([{"serial": "xyz"}], "wanted hexadecimal digits"),
        ([{"serial": "123"}], "wanted hexadecimal digits"),
    ],
)
def test_what_means_nothing_is_refused(entries: Any, said: str) -> None:
    with pytest.raises(AnsibleError, match=said):
        nginx_revoked(entries)
