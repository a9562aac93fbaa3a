# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys releases are verified with: a key that is listed as revoked is not trusted again."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.release_keys import release_keys

ONE = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
OTHER = ONE.replace("MFkw", "MHYw")


def test_the_one_key_follows_those_of_the_list() -> None:
    assert release_keys([], ONE) == [{"public_key": ONE.strip()}]
    assert release_keys([{"public_key": OTHER}], ONE) == [
        {"public_key": OTHER},
        {"public_key": ONE.strip()},
    ]


@pytest.mark.parametrize("written", [ONE, ONE.strip(), ONE.replace("\n", "\r\n"), f"  {ONE}\n"])
def test_a_key_that_is_listed_as_revoked_stays_so(written: str) -> None:
    listed = [{"public_key": written, "revoked": True}]
    assert release_keys(listed, ONE) == listed


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_no_key_adds_none(nothing: str) -> None:
    assert release_keys([], nothing) == []
    assert release_keys([{"public_key": OTHER}], nothing) == [{"public_key": OTHER}]


@pytest.mark.parametrize("key", [{"revoked": True}, ONE])
def test_a_list_that_holds_no_keys_is_refused(key: object) -> None:
    with pytest.raises(AnsibleFilterError, match="wanted public_key for each of them"):
        release_keys([key], ONE)  # type: ignore[list-item]
