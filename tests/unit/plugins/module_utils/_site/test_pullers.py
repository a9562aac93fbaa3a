# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of hosts at the artifact registry: which there are, and who pulls with which."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.errors import SiteError

from tests.unit.plugins.module_utils._site.test_site import Said, asked

USER, PASSWORD = "artifact_registry_pull_user", "artifact_registry_pull_password"
OWN = {host: {USER: host, PASSWORD: f"of {host}"} for host in ("edge1", "edge2")}
SECRET = f"<{PASSWORD}>"


def accounts(said: Said) -> dict[str, str]:
    found: dict[str, str] = asked("artifact_registry_pull_accounts", said, "ctl1")
    return found


def pulls_as(said: Said, host: str) -> tuple[str, str]:
    told = asked("model_serving_registry", said, host)
    return told["user"], told["password"]


def test_hosts_that_share_the_account_have_none_of_their_own() -> None:
    assert accounts({}) == {}
    assert pulls_as({}, "edge1") == ("pull", SECRET)
    everybody = {USER: "device", PASSWORD: "given"}
    for said in ({"ctl1": everybody}, dict.fromkeys(("ctl1", "edge1", "edge2"), everybody)):
        assert accounts(said) == {}
        assert pulls_as(said, "edge1") == ("device", "given")


def test_a_host_with_an_account_of_its_own_pulls_with_it() -> None:
    said = {"edge1": OWN["edge1"]}
    assert accounts(said) == {"edge1": "of edge1"}
    assert pulls_as(said, "edge1") == ("edge1", "of edge1")
    assert pulls_as(said, "edge2") == ("pull", SECRET)


def test_a_withdrawn_name_takes_one_account_and_no_other() -> None:
    assert sorted(accounts(OWN)) == ["edge1", "edge2"]
    revoked = {"common_nginx_revoked": [{"name": "edge2"}, {"serial": "01"}]}
    assert sorted(accounts({**OWN, "ctl1": revoked})) == ["edge1"]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"edge1": {USER: "edge1"}}, "edge1 has the account 'edge1' .* no password of its own"),
        ({"edge1": {USER: "push", PASSWORD: "x"}}, "'push' .* which is that of the site"),
        ({**OWN, "edge2": {USER: "edge1", PASSWORD: "x"}}, "'edge1' .* which is that of edge1"),
    ],
)
def test_an_account_that_is_not_the_hosts_own_is_refused(said: Said, sentence: str) -> None:
    with pytest.raises(SiteError, match=sentence):
        accounts(said)
