# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts say which site they are, and a living site is not given other keys by accident."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.identity import (
    Carried,
    Decision,
    Kept,
    Remembered,
    check_authority,
    check_secrets,
    decide,
    fingerprint,
    read_carried,
    read_remembered,
)

A, B, NEW = "a" * 36, "b" * 36, "n" * 36
NOTHING = Carried()
IN_A, IN_B = Carried(A, "plant", roles=("trust",)), Carried(B, "office", roles=("trust",))
BEFORE = Carried(roles=("gateway", "trust"))  # made by release 0.2.0


def decided(carried: dict[str, Carried], **more: Any) -> Decision:
    given: dict[str, Any] = {"elsewhere": {}, "remembered": Remembered(), "wanted": ""}
    return decide(carried, **{**given, **more}, make=lambda: NEW)


def failed(decision: Decision) -> str:
    (finding,) = decision.findings
    assert (finding.id, finding.severity) == ("site.identity", "fail")
    return finding.sentence


@pytest.mark.parametrize(
    ("carried", "identity", "adopts"),
    [
        ({"ctl1": NOTHING, "edge1": NOTHING}, NEW, False),
        ({"ctl1": IN_A, "edge1": IN_A}, A, False),
        ({"ctl1": NOTHING, "edge1": IN_A}, A, False),  # killed after the first host, or a new one
        ({"ctl1": BEFORE, "edge1": BEFORE}, NEW, True),
        ({"ctl1": BEFORE, "edge1": NOTHING}, NEW, True),
        ({"ctl1": IN_A, "edge1": BEFORE}, A, True),  # killed while 0.2.0 was taken over
        ({"ctl1": Carried(A, adopts=True)}, A, True),
    ],
)
def test_hosts_say_which_site_they_are(
    carried: dict[str, Carried], identity: str, adopts: bool
) -> None:
    found = decided(carried)
    assert (found.identity, found.adopts) == (identity, adopts)
    assert [finding.severity for finding in found.findings] == ["pass"]


def test_hosts_of_two_sites_are_refused_with_both_groups() -> None:
    said = failed(decided({"ctl1": IN_A, "edge1": IN_A, "edge2": IN_B}))
    assert f"ctl1, edge1 to plant ({A[:8]}), and edge2 to office ({B[:8]})" in said
    assert "take edge2 out of this inventory" in said


def test_a_copied_folder_that_points_at_other_hosts_is_another_site() -> None:
    remembered = Remembered(A, False, {"ctl1": "10.0.0.1"})
    found = decided({"ctl1": NOTHING}, remembered=remembered)
    assert found.identity == NEW
    elsewhere = {"edge1": "10.9.0.2"}
    found = decided({"ctl1": NOTHING}, elsewhere=elsewhere, remembered=remembered)
    assert found.identity == NEW


def test_a_host_that_is_new_joins_the_site_of_those_not_looked_at() -> None:
    remembered = Remembered(A, True, {"ctl1": "10.0.0.1"})
    elsewhere = {"ctl1": "10.0.0.1"}
    found = decided({"edge9": NOTHING}, elsewhere=elsewhere, remembered=remembered, limited=True)
    assert (found.identity, found.adopts) == (A, True)


@pytest.mark.parametrize("carried", [NOTHING, BEFORE])
def test_a_part_of_an_unknown_site_is_given_no_identity(carried: Carried) -> None:
    said = failed(decided({"edge9": carried}, elsewhere={"ctl1": "10.0.0.1"}, limited=True))
    assert "run without --limit, or with a host of the site: --limit edge9,ctl1" in said


def test_a_device_that_does_not_answer_does_not_hinder_a_new_site() -> None:
    assert decided({"ctl1": NOTHING}, elsewhere={"edge1": "10.0.0.2"}).identity == NEW


def test_a_site_that_lost_its_hosts_can_be_named() -> None:
    assert decided({"ctl1": NOTHING}, wanted=A).identity == A
    assert "mlops_site_id is 'no'" in failed(decided({"ctl1": NOTHING}, wanted="no"))
    assert f"mlops_site_id says {B}" in failed(decided({"ctl1": IN_A}, wanted=B))


SECRETS = {"gateway_admin_password": "long-and-random-1", "trust_ca_key": "KEY", "x_s3_key": "K3"}
PRINTS = {name: fingerprint(A, name, value) for name, value in SECRETS.items()}
MADE = {"ctl1": Carried(A, "plant", roles=("gateway", "trust"), fingerprints=PRINTS), "e1": IN_A}


def said_of(
    carried: dict[str, Carried], have: dict[str, str], rekeyed: Any = False, own: bool = True
) -> list[str]:
    kept = Kept(have.get, "/inv/group_vars/all/secrets.yml", rekeyed)
    return [f"{row.severity} {row.sentence}" for row in check_secrets(A, carried, kept, own)]


def test_the_secrets_of_the_site_pass() -> None:
    (said,) = said_of(MADE, SECRETS)
    assert said.startswith("pass site: the 3 secrets at hand are those of the site")
    assert said_of({"ctl1": NOTHING}, {}) == []


def test_a_fresh_checkout_is_told_what_to_restore() -> None:
    (said,) = said_of(MADE, {})
    assert said.startswith("fail site: ctl1 belongs to plant, whose secrets are not here: gateway")
    assert "restore /inv/group_vars/all/secrets.yml" in said
    assert "-e mlops_rekey=true" in said


@pytest.mark.parametrize("name", SECRETS)
def test_one_secret_that_is_cut_off_or_shortened_is_named(name: str) -> None:
    (said,) = said_of(MADE, {key: value for key, value in SECRETS.items() if key != name})
    assert f"not here: {name} would be made anew" in said
    (said,) = said_of(MADE, {**SECRETS, name: SECRETS[name][:-1]})
    assert said.startswith(f"fail site: {name} is not what ctl1 of plant was made with")
    assert SECRETS[name] not in said


def test_a_controller_without_a_persons_password_does_not_make_another_one() -> None:
    """It would lock the person out; who left or has a new password now has none to keep."""
    before = {**PRINTS, "people_password_anna": "12345", "people_password_ben": "12345"}
    made = {"ctl1": Carried(A, "plant", roles=("gateway",), fingerprints=before)}
    kept = Kept(SECRETS.get, "secrets.yml")
    people = frozenset(["people_password_anna", "people_password1_ben"])
    (row,) = check_secrets(A, made, kept, True, people)
    assert row.severity == "fail"
    assert "not here: people_password_anna would be made anew" in row.found
    (row,) = check_secrets(A, made, kept, True, frozenset(["people_password1_ben"]))
    assert row.severity == "pass"


def test_what_is_changed_on_purpose_is_named() -> None:
    other = {**SECRETS, "gateway_admin_password": "another-one"}
    (said,) = said_of(MADE, other)
    assert """-e '{"mlops_rekey": ["gateway_admin_password"]}'""" in said
    assert said_of(MADE, other, frozenset(["gateway_admin_password"]))[0].startswith("pass")
    assert "is not what" in said_of(MADE, other, frozenset(["x_s3_key"]))[0]
    assert said_of(MADE, {}, True)[0].startswith("pass")


def test_a_site_of_before_fingerprints_misses_what_its_roles_need() -> None:
    (said,) = said_of({"ctl1": BEFORE}, {"trust_ca_key": "KEY"})
    assert "not here: gateway_admin_password, gateway_salt would be made anew" in said
    assert said_of({"ctl1": BEFORE}, {**SECRETS, "gateway_salt": "s"}) == []
    # The key of the company's authority was never ours.
    assert said_of({"e1": Carried(roles=("trust",))}, {}, own=False) == []


def authorities(
    carried: dict[str, Carried], have: dict[str, str], rekeyed: Any = False
) -> list[str]:
    kept = Kept(have.get, "secrets.yml", rekeyed)
    found = check_authority(carried, lambda text: text == f"of {have['trust_ca_key']}", kept)
    return [row.sentence for row in found]


def test_another_authority_than_that_of_the_hosts_is_refused() -> None:
    hosts = {
        "ctl1": Carried(roles=("trust",), authority="of KEY"),
        "edge1": Carried(roles=("trust",), authority="of OLD"),
        "mine": Carried(authority="not of the platform"),
    }
    (said,) = authorities(hosts, {"trust_ca_key": "KEY"})
    assert said.startswith("site: trust_ca_key is not the key of the authority that edge1 trusts")
    assert authorities(hosts, {"trust_ca_key": "KEY"}, frozenset(["trust_ca_key"])) == []
    (said,) = authorities(hosts, {"trust_ca_key": "NEW"})
    assert "ctl1, edge1 trust" in said


def test_fingerprints_are_short_and_salted() -> None:
    one = fingerprint(A, "p", "secret")
    assert len(one) == 5
    assert one == fingerprint(A, "p", "secret\n")  # as an editor leaves it
    assert len({one, fingerprint(B, "p", "secret"), fingerprint(A, "q", "secret")}) == 3


@pytest.mark.parametrize("damaged", [None, "x", [], {"site": 1}, {"site": {"fingerprints": 1}}])
def test_a_host_that_says_nonsense_says_nothing(damaged: Any) -> None:
    assert read_carried(damaged) == NOTHING
    assert read_remembered(damaged) == Remembered()
