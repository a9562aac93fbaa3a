# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The expression matches one subject and no other."""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.nginx_subject import nginx_subject


def matches(name: str, subject: str) -> bool:
    """As nginx reads it: the quotes and one level of backslashes go first."""
    text = nginx_subject(name)
    assert text.startswith('"~')
    assert text.endswith('"')
    pattern = re.sub(r'\\([\\"])', r"\1", text[2:-1])
    return re.search(pattern.replace(r"\z", r"\Z"), subject) is not None


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("ctl1", "CN=ctl1"),
        ("a,b", "CN=a\\,b"),
        ("Werk 1", "CN=Werk 1"),
        ("a.b", "CN=a.b"),
        ('say "x"', 'CN=say \\"x\\"'),
        ("CN=prometheus,O=Firma \\+ Co", "CN=prometheus,O=Firma \\+ Co"),
    ],
)
def test_the_subject_itself_matches(name: str, subject: str) -> None:
    assert matches(name, subject)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("ctl1", "CN=intern-laptop,O=x\\,CN=ctl1"),
        ("ctl1", "CN=ctl1,O=x"),
        ("ctl1", "O=x,CN=ctl1"),
        ("ctl1", "CN=CTL1"),
        ("ctl1", "CN=ctl10"),
        ("ctl1", "CN=ctl1\n"),
        ("a.b", "CN=axb"),
        ("CN=prometheus,O=Firma", "CN=prometheus"),
    ],
)
def test_every_other_subject_does_not(name: str, subject: str) -> None:
    assert not matches(name, subject)


@pytest.mark.parametrize("name", ["", " ", None, ["ctl1"]])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(AnsibleFilterError, match="common_nginx_metrics_clients"):
        nginx_subject(name)  # type: ignore[arg-type]
