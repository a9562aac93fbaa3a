# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts by name become files of one directory, in their order, and nowhere else."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.files_below import files_below


def test_each_text_is_a_file_with_what_all_of_them_have() -> None:
    texts = {"b": "second\n", "a-1": "first\n"}
    assert files_below(texts, "/etc/rules", suffix=".yml", entry={"mode": "0640"}) == [
        {"path": "/etc/rules/b.yml", "content": "second\n", "mode": "0640"},
        {"path": "/etc/rules/a-1.yml", "content": "first\n", "mode": "0640"},
    ]
    assert files_below({"page.html": ""}, "/srv") == [{"path": "/srv/page.html", "content": ""}]
    assert files_below({}, "/srv", entry={"mode": "0600"}) == []


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "/etc/passwd", "a b", "a\n"])
def test_a_name_that_would_lie_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="wanted the name of a file without a directory"):
        files_below({name: "x"}, "/srv")
