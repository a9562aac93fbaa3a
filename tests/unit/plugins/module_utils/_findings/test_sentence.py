# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others say is shown, and steers nothing."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import printable


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Zürich → ✓ «ok»\n\tindented", "Zürich → ✓ «ok»\n\tindented"),
        ("one\r\ntwo", "one\ntwo"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("back\x08", "back\\x08"),
        ("txt\u202egnp.exe", "txt\\u202egnp.exe"),
    ],
)
def test_what_steers_a_terminal_is_shown(said: str, shown: str) -> None:
    assert printable(said) == shown
