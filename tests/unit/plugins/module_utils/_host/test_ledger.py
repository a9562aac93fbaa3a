# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger knows what is ours, for whom, and what may go."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import (
    Ledger,
    dump,
    inside,
    load,
    missing_parents,
)

TWO_OWNERS = (
    Ledger()
    .claim("monitoring", "package", "nginx")
    .claim("gateway", "package", "nginx")
    .claim("gateway", "directory", "/etc/mlops/nginx", whole=True)
)


def test_a_thing_wanted_by_two_roles_goes_with_the_last() -> None:
    going, shared = TWO_OWNERS.split("gateway")
    assert [thing.name for thing in going] == ["/etc/mlops/nginx"]
    assert [thing.name for thing in shared] == ["nginx"]

    left = TWO_OWNERS.release("gateway", shared).drop(*(thing.key for thing in going))
    going, shared = left.split("monitoring")
    assert [thing.name for thing in going] == ["nginx"]
    assert not shared
    assert left.drop(*(thing.key for thing in going)).empty


def test_who_wants_all_of_some_things_wants_each_of_them() -> None:
    ledger = Ledger().claim("first", "file", "/a").claim("second", "file", "/a")
    ledger = ledger.claim("first", "user", "u")
    assert ledger.owners_of_all([("file", "/a")]) == ["first", "second"]
    assert ledger.owners_of_all([("file", "/a"), ("user", "u")]) == ["first"]
    # What is not ours is nobody's, and hinders nobody.
    assert ledger.owners_of_all([("file", "/a"), ("package", "p")]) == ["first", "second"]
    assert ledger.owners_of_all([("package", "p")]) is None


def test_claiming_again_changes_nothing() -> None:
    assert TWO_OWNERS.claim("gateway", "package", "nginx") == TWO_OWNERS


def test_claiming_keeps_what_was_noted_before() -> None:
    ledger = TWO_OWNERS.claim("gateway", "directory", "/etc/mlops/nginx")
    thing = ledger.get("directory", "/etc/mlops/nginx")
    assert thing is not None
    assert thing.data == {"whole": True}


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="castle is not a kind of thing"):
        Ledger().claim("gateway", "castle", "x")


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/etc/mlops/nginx", True),
        ("/etc/mlops/nginx/sites.d/a.conf", True),
        ("/etc/mlops/nginx.conf", False),
        ("/etc/mlops", True),
        ("/etc/mlops/other", False),
        ("/var/lib/prometheus/data", True),
        ("/etc/default/x", True),
        ("/etc/systemd/system/a.service.d/mlops.conf", True),
    ],
)
def test_what_is_covered(path: str, ours: bool) -> None:
    ledger = (
        TWO_OWNERS.claim("gateway", "directory", "/etc/mlops")
        .claim("monitoring", "trace", "/var/lib/prometheus")
        .claim("monitoring", "file", "/etc/default/x")
        .claim("monitoring", "unit", "a.service", path="/etc/systemd/system/a.service.d/mlops.conf")
    )
    assert ledger.covers(path) is ours


def test_the_file_gives_back_the_same_ledger() -> None:
    text = dump(TWO_OWNERS)
    assert load(text, "x") == TWO_OWNERS
    assert dump(load(text, "x")) == text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "things": [{}]}']
)
def test_a_damaged_file_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=r"/l is damaged .* restore the file from a backup"):
        load(text, "/l")


def test_a_ledger_of_a_later_version_is_refused() -> None:
    with pytest.raises(HostError, match="/l has version 9, this collection reads version 1"):
        load('{"version": 9, "things": []}', "/l")


@pytest.mark.parametrize(
    ("path", "ancestor", "answer"),
    [("/a/b", "/a", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False)],
)
def test_inside(path: str, ancestor: str, answer: bool) -> None:
    assert inside(path, ancestor) is answer


def test_missing_parents_are_named_outermost_first() -> None:
    assert missing_parents("/etc/mlops/a/b.conf", {"/etc"}) == ("/etc/mlops", "/etc/mlops/a")
    assert missing_parents("/etc/x", {"/etc"}) == ()


SITE = {"id": "a" * 36, "name": "plant", "fingerprints": {"trust_ca_key": "0a1b2"}}


def test_the_site_of_a_host_is_written_before_anything_else_and_read_back() -> None:
    ledger = Ledger(site=SITE)
    assert ledger.bare
    assert not ledger.empty
    assert load(dump(ledger), "x") == ledger
    assert load(dump(Ledger()), "x").site is None  # as release 0.2.0 wrote it


def test_the_site_goes_with_the_last_thing() -> None:
    full = Ledger(site=SITE).claim("trust", "file", "/etc/x").claim("trust", "file", "/etc/y")
    left = full.drop(("file", "/etc/x"))
    assert left.after(full).site == SITE
    gone = left.drop(("file", "/etc/y"))
    assert gone.after(left).empty
    # An installation that was killed before its first thing keeps it.
    assert Ledger(site=SITE).after(Ledger()).site == SITE
    assert Ledger(site=SITE).after(Ledger(site=SITE)).site == SITE


A, B = "site-a-0001", "site-b-0002"


@pytest.mark.parametrize(
    ("carried", "site", "said"),
    [
        (None, "", ""),
        (None, A, ""),
        ({"id": A, "name": "works"}, A, ""),
        ({"id": A, "name": "works"}, None, ""),
        ({"id": A, "name": "works"}, B, "belongs to the site works (site-a-0001), not to that of"),
        ({"id": A}, B, "belongs to the site of no name (site-a-0001)"),
        ({"id": A, "name": "works"}, "", "does not know which site it is for; nothing was changed"),
        ({"id": A, "name": "works"}, "", "set mlops_site_id: site-a-0001"),
    ],
)
def test_a_host_of_another_site_is_refused_with_the_way_out(
    carried: dict[str, str] | None, site: str | None, said: str
) -> None:
    refusal = Ledger(site=carried).refusal_of(site)
    assert said in refusal
    assert bool(refusal) == bool(said)
