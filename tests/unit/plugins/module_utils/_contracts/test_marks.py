# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mark is known again by identity and thing, and a name alone proves nothing."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.marks import (
    Site,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.judge import (
    DatabaseError,
    site_of,
)

LAB = Site("lab", "5f1e0a7c93d24b66")
NAMED = Site("lab")
OTHER = Site("lab", "0123456789abcdef")


@pytest.mark.parametrize("name", ["lab", "Z\xfcrich (Nord)", "back\\slash", "a (0123456789) as b"])
def test_a_site_knows_its_own_mark_in_any_encoding(name: str) -> None:
    site = Site(name, LAB.identity)
    mark = site.mark("mlflow")
    assert mark.isascii()
    assert site.proves("mlflow", mark)
    assert Site("renamed", LAB.identity).proves("mlflow", mark)
    assert not site.proves("mlflow_auth", mark)
    assert not Site(name, OTHER.identity).owns("mlflow", mark)


@pytest.mark.parametrize(
    ("site", "mark", "owns", "whose"),
    [
        (LAB, NAMED.mark("mlflow"), False, "was made by a site of this name, whose identity is"),
        (Site("lab", LAB.identity, True), NAMED.mark("mlflow"), True, ""),
        (NAMED, NAMED.mark("mlflow"), True, ""),
        (NAMED, LAB.mark("mlflow"), False, "belongs to another site of the name lab (5f1e0a7c"),
        (LAB, OTHER.mark("mlflow"), False, "belongs to another site of the name lab (01234567"),
        (LAB, Site("berlin").mark("mlflow"), False, "belongs to site berlin"),
        (LAB, LAB.mark("other"), False, "bears a mark that this site put on other"),
        (LAB, "MLflow of the data team", False, "was not made by this site"),
        (LAB, "", False, "was not made by this site"),
        (LAB, f"{LAB.mark('mlflow')} Really.", False, "was not made by this site"),
    ],
)
def test_what_a_comment_says(site: Site, mark: str, owns: bool, whose: str) -> None:
    assert site.owns("mlflow", mark) is owns
    assert owns or site.whose(mark).startswith(whose)


def test_a_name_that_was_written_in_letters_of_its_own_is_known_again() -> None:
    before = "Made by mlops.onprem for site Z\xfcrich; removed with it."
    assert Site("Z\xfcrich").owns("mlflow", before)
    assert Site("Z\xfcrich").mark("mlflow") != before


@pytest.mark.parametrize(
    ("mark", "identity"),
    [
        (OTHER.mark("mlflow"), OTHER.identity),
        (LAB.mark("mlflow"), ""),
        (NAMED.mark("mlflow"), ""),
        (Site("berlin", OTHER.identity).mark("mlflow"), ""),
        ("", ""),
    ],
)
def test_only_another_identity_of_the_same_name_can_be_one_that_was_lost(
    mark: str, identity: str
) -> None:
    assert LAB.namesake(mark) == identity


@pytest.mark.parametrize("identity", ["short", "with space in it", "x" * 65, "semi;colon-"])
def test_what_is_no_identity_is_refused(identity: str) -> None:
    with pytest.raises(DatabaseError, match=r"metadata_db_site_id: .* is not an identity"):
        site_of("lab", identity, False)
