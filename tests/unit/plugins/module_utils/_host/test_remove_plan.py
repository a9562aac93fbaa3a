# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_remove takes away what is the role's alone, and nothing else."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import left, remove_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.packages import Installed
from ansible_collections.mlops.onprem.plugins.module_utils._host.remove_plan import (
    Account,
    Before,
    Directory,
    Packages,
    Removal,
    RemoveFile,
    Restore,
    Units,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book
from ansible_collections.mlops.onprem.plugins.module_utils._host.used import Use

DATA = "/var/lib/mlops/a"
UNIT = {"path": "/etc/systemd/system/a.service", "unit": "a.service", "dropin": False}
BEFORE = Before(
    installed={name: Installed(name, ()) for name in ("p", "q")},
    known=frozenset({"p", "q"}),
    users={"a": (990, 991)},
    groups={"a": 991},
)


def everything(role: str = "first") -> Ledger:
    return (
        Ledger()
        .claim(role, "group", "a")
        .claim(role, "user", "a")
        .claim(role, "directory", "/var/lib/mlops")
        .claim(role, "directory", DATA, whole=True)
        .claim(role, "trace", "/var/lib/p", packages=["p"])
        .claim(role, "package", "p")
        .claim(role, "file", "/etc/mlops/f")
        .claim(role, "app", "/opt/mlops/a", paths=["/opt/mlops/a", "/opt/mlops/.builds/a"])
        .claim(role, "unit", "a.service", **UNIT)
    )


def said(steps: list[Removal]) -> list[str]:
    return [one for step in steps for one in step.said]


def kept(steps: list[Removal]) -> list[str]:
    return [one for step in steps for one in step.kept]


def after(steps: list[Removal], ledger: Ledger, role: str = "first") -> Ledger:
    for step in steps:
        ledger = step.after(ledger, role)
    return ledger


def test_services_go_first_and_their_users_last_and_the_ledger_is_empty_then() -> None:
    steps = plan(BEFORE, everything(), "first")
    assert said(steps) == [
        "unit a.service",
        "app /opt/mlops/a",
        "file /etc/mlops/f",
        "package p",
        "trace /var/lib/p",
        f"directory {DATA}",
        "directory /var/lib/mlops",
        "user a",
        "group a",
    ]
    assert kept(steps) == []
    assert after(steps, everything()).empty


def test_directories_go_from_the_inside_out() -> None:
    steps = plan(BEFORE, everything(), "first")
    paths = [step.act.path for step in steps if isinstance(step.act, Directory)]
    assert paths == ["/var/lib/p", DATA, "/var/lib/mlops"]


def test_what_another_role_wants_stays_and_is_only_its_from_then_on() -> None:
    ledger = everything()
    for thing in everything():
        ledger = ledger.claim("second", thing.kind, thing.name)
    steps = plan(BEFORE, ledger, "first")
    assert said(steps) == []
    assert [step.act for step in steps] == [None]
    rest = after(steps, ledger)
    assert {thing.owners for thing in rest} == {("second",)}
    assert len(list(rest)) == len(list(ledger))


@pytest.mark.parametrize("ledger", [Ledger(), everything("second")])
def test_a_role_that_made_nothing_removes_nothing(ledger: Ledger) -> None:
    assert plan(BEFORE, ledger, "first") == []


def test_what_is_kept_stays_recorded_with_its_owners_and_the_way_to_it() -> None:
    host = Before(
        BEFORE.installed, BEFORE.known, BEFORE.users, BEFORE.groups, frozenset({990}), frozenset()
    )
    steps = plan(host, everything(), "first", [DATA + "/models"])
    directories = {step.act.path: step.act for step in steps if isinstance(step.act, Directory)}
    assert directories[DATA].holds_kept
    assert DATA + "/models" in directories[DATA].protected
    assert kept(steps) == ["user a: owns what is kept", "group a: owns what is kept"]


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        (DATA, f"directory {DATA}: asked for"),
        ("/etc/mlops", "file /etc/mlops/f: asked for"),
        ("/opt/mlops", "app /opt/mlops/a: asked for"),
        ("/var/lib/p", "trace /var/lib/p: asked for"),
    ],
)
def test_what_is_asked_to_stay_is_told_and_recorded(keep: str, sentence: str) -> None:
    steps = plan(BEFORE, everything(), "first", [keep])
    assert sentence in kept(steps)
    thing = sentence.partition(":")[0]
    assert thing not in said(steps)
    assert after(steps, everything()).has(*thing.split(" ", 1))


def test_what_lies_in_our_directory_but_belongs_to_another_role_is_protected() -> None:
    ledger = everything().claim("second", "file", DATA + "/theirs")
    steps = plan(BEFORE, ledger, "first")
    (directory,) = [s.act for s in steps if isinstance(s.act, Directory) and s.act.path == DATA]
    assert directory.protected == {DATA + "/theirs"}


NEEDS = {
    "p": Installed("p", ()),
    "q": Installed("q", ()),
    "company": Installed("company", (("p",),)),
}


def packages_of(steps: list[Removal]) -> Packages:
    (act,) = [step.act for step in steps if isinstance(step.act, Packages)]
    return act


def test_a_package_that_the_company_needs_stays_for_good() -> None:
    ledger = Ledger().claim("first", "package", "p").claim("first", "package", "q")
    steps = plan(Before(NEEDS, frozenset({"p", "q"})), ledger, "first")
    assert packages_of(steps) == Packages(going=("q",), orphans=("p",))
    assert said(steps) == ["package q"]
    assert kept(steps) == ["package p: company needs it"]
    assert after(steps, ledger).empty


def test_a_package_that_one_of_another_role_needs_is_handed_to_that_role() -> None:
    ledger = Ledger().claim("first", "package", "p").claim("second", "package", "company")
    steps = plan(Before(NEEDS, frozenset({"p"})), ledger, "first")
    assert packages_of(steps) == Packages(going=(), orphans=())
    thing = after(steps, ledger).get("package", "p")
    assert thing is not None
    assert thing.owners == ("second",)


def test_a_package_that_somebody_purged_is_forgotten() -> None:
    ledger = Ledger().claim("first", "package", "p")
    steps = plan(Before(), ledger, "first")
    assert packages_of(steps) == Packages((), ())
    assert after(steps, ledger).empty


@pytest.mark.parametrize(
    ("was", "acts"),
    [
        ({"enabled": True, "active": False}, [Restore("p.service", True, False)]),
        ({"enabled": True, "active": True}, [Restore("p.service", True, True)]),
        ({"enabled": False, "active": False}, [None]),
        ({}, [None]),  # by release 0.2.0, which kept no record
    ],
)
def test_a_unit_that_rested_is_what_it_was_if_its_package_stays(
    was: dict[str, bool], acts: list[Restore | None]
) -> None:
    ledger = Ledger().claim("first", "package", "p")
    ledger = ledger.claim("first", "rested", "p.service", package="p", before=was, done=True)
    steps = plan(Before(NEEDS, frozenset({"p"})), ledger, "first")
    assert [step.act for step in steps if ("rested", "p.service") in step.forget] == acts
    assert not after(steps, ledger).has("rested", "p.service")


def test_a_unit_that_rested_is_forgotten_with_its_package() -> None:
    was = {"enabled": True, "active": True}
    ledger = Ledger().claim("first", "package", "p")
    ledger = ledger.claim("first", "rested", "p.service", package="p", before=was, done=True)
    steps = plan(BEFORE, ledger, "first")
    assert said(steps) == ["package p"]
    assert not [step for step in steps if isinstance(step.act, Restore)]
    assert after(steps, ledger).empty


def in_use(**packages: str) -> Before:
    installed = {"p": Installed("p", (("q",),)), "q": Installed("q", ())}
    users = {"a": (990, 991)}
    return Before(installed, frozenset("pq"), users, {"a": 991}, use=Use(packages))


def brought() -> Ledger:
    return (
        Ledger()
        .claim("first", "package", "p", auto=True)
        .claim("first", "package", "q", auto=True)
        .claim("first", "trace", "/etc/p", packages=["p", "q"])
        .claim("first", "user", "a", by="package", packages=["p", "q"])
        .claim("first", "group", "a", by="package", packages=["p", "q"])
    )


def test_a_package_that_others_use_stays_with_all_that_it_needs_and_has_made() -> None:
    steps = plan(in_use(p="somebody has a site in it"), brought(), "first")
    assert said(steps) == []
    assert kept(steps) == [
        "package p: somebody has a site in it",
        "packages q: those need them",
        "user a: its package stays",
        "group a: its package stays",
    ]
    assert packages_of(steps) == Packages((), (), wanted=("p",))
    assert not [step for step in steps if isinstance(step.act, Directory)]


def test_what_others_use_is_told_again_and_goes_when_they_have_left() -> None:
    host = in_use(p="somebody has a site in it")
    ledger = after(plan(host, brought(), "first"), brought())
    again = plan(host, ledger, "first")
    assert said(again) == []
    assert kept(again) == kept(plan(host, brought(), "first"))
    assert after(again, ledger) == ledger
    last = plan(in_use(), ledger, "first")
    assert said(last) == ["package p", "package q", "trace /etc/p", "user a", "group a"]
    assert after(last, ledger).empty


def test_a_mark_that_we_make_for_others_is_no_sign_later() -> None:
    ledger = after(plan(in_use(p="why"), brought(), "first"), brought())
    assert [ledger.things["package", name].data["auto"] for name in "pq"] == [False, True]


def test_the_mark_of_an_administrator_holds_at_every_removal() -> None:
    installed = {"p": Installed("p", ())}
    use = Use({"p": "an administrator has installed it, too"}, manual=frozenset({"p"}))
    host = Before(installed, frozenset("p"), use=use)
    steps = plan(host, brought(), "first")
    assert packages_of(steps).wanted == ()
    ledger = after(steps, brought())
    assert ledger.things["package", "p"].data["auto"] is True


def test_what_only_the_used_package_needs_stays_and_the_rest_goes() -> None:
    steps = plan(in_use(q="somebody has changed it"), brought(), "first")
    assert packages_of(steps).going == ("p",)
    assert kept(steps)[0] == "package q: somebody has changed it"


def test_accounts_of_release_0_2_0_stay_if_any_package_does() -> None:
    ledger = Ledger().claim("first", "package", "p").claim("first", "user", "a", by="package")
    assert "user a: its package stays" in kept(plan(in_use(p="why"), ledger, "first"))
    assert "user a" in said(plan(in_use(), ledger, "first"))


def test_a_unit_that_rested_works_again_where_others_use_its_package() -> None:
    was = {"enabled": True, "active": False}
    ledger = brought().claim("first", "rested", "q.service", package="q", before=was, done=True)
    steps = plan(in_use(p="why"), ledger, "first")
    assert Restore("q.service", True, False) in [step.act for step in steps]
    assert "rest of q.service" in said(steps)


def test_a_file_of_somebody_else_stays_with_the_directories_around_it() -> None:
    note = DATA + "/NOTE"
    host = Before(users={"a": (990, 991)}, groups={"a": 991}, use=Use(strangers={DATA: (note,)}))
    steps = plan(host, everything(), "first")
    directories = {step.act.path: step.act for step in steps if isinstance(step.act, Directory)}
    assert note in directories[DATA].protected
    assert directories[DATA].why == f"{note} did not come with the platform"
    assert directories["/var/lib/mlops"].why == "something in it is kept"


def test_an_adopted_file_is_put_back() -> None:
    original: dict[str, str | int] = {"content": "b2xk", "mode": "0600", "uid": 0, "gid": 0}
    ledger = Ledger().claim("first", "file", "/etc/issue.net", original=original)
    (step,) = plan(BEFORE, ledger, "first")
    assert step.act == RemoveFile("/etc/issue.net", original)


def test_accounts_that_are_gone_are_forgotten_without_a_word() -> None:
    ledger = Ledger().claim("first", "user", "x").claim("first", "group", "x")
    steps = plan(BEFORE, ledger, "first")
    assert [(step.act, step.said) for step in steps] == [(None, ()), (None, ())]
    assert after(steps, ledger).empty


def test_the_units_of_a_service_are_stopped_together_and_the_slice_after_them() -> None:
    path = "/etc/systemd/system/mlops.slice"
    ledger = everything().claim("first", "unit", "mlops.slice", path=path)
    act = plan(BEFORE, ledger, "first")[0].act
    assert act == Units(("a.service",), (str(UNIT["path"]), path), ("mlops.slice",))


# The hands, in a directory of our own


def parts() -> tuple[Ledger, Before]:
    """A role with two services, whose packages came with what they need."""
    ledger = Ledger()
    for name, package in (("mlops-one", "one"), ("mlops-two", "two")):
        path = f"/etc/systemd/system/{name}.service"
        ledger = ledger.claim("r", "unit", f"{name}.service", path=path, unit=f"{name}.service")
        ledger = ledger.claim("r", "user", name).claim("r", "group", name)
        ledger = ledger.claim("r", "package", package)
        ledger = ledger.claim("r", "rested", f"{package}.service", package=package, before={})
        ledger = ledger.claim("r", "trace", f"/var/lib/{package}", packages=[package])
    for name in ("of-one", "below-one", "of-both"):
        ledger = ledger.claim("r", "package", name)
    ledger = ledger.claim("r", "trace", "/var/lib/both", packages=["one", "two"])
    ledger = ledger.claim("r", "user", "made", by="package", packages=["one", "of-one"])
    ledger = ledger.claim("r", "unit", "mlops.slice", path="/etc/systemd/system/mlops.slice")
    ledger = ledger.claim("r", "file", "/etc/mlops/r").claim("r", "directory", "/etc/mlops")
    needs = {
        "one": (("of-one",), ("of-both",), ("libc",)),
        "two": (("of-both",),),
        "of-one": (("below-one", "anything"),),
    }
    names = ("one", "two", "of-one", "below-one", "of-both", "libc")
    installed = {name: Installed(name, needs.get(name, ())) for name in names}
    return ledger, Before(
        installed=installed,
        known=frozenset(names),
        users={"mlops-one": (990, 991), "made": (992, 993)},
        groups={"mlops-one": 991},
    )


def test_part_of_a_role_goes_with_what_only_it_needs() -> None:
    ledger, before = parts()
    steps = plan(before, ledger, "r", only=["mlops-one", "one"])
    assert said(steps) == [
        "unit mlops-one.service",
        "package one",
        "package of-one",
        "package below-one",
        "trace /var/lib/one",
        "user mlops-one",
        "user made",
        "group mlops-one",
    ]
    assert kept(steps) == []
    assert packages_of(steps).going == ("one", "of-one", "below-one")
    left = after(steps, ledger, "r")
    assert {thing.key for thing in left} == {
        ("unit", "mlops-two.service"),
        ("unit", "mlops.slice"),
        ("user", "mlops-two"),
        ("group", "mlops-two"),
        ("package", "two"),
        ("package", "of-both"),
        ("rested", "two.service"),
        ("trace", "/var/lib/two"),
        ("trace", "/var/lib/both"),
        ("file", "/etc/mlops/r"),
        ("directory", "/etc/mlops"),
    }
    # A second time there is nothing, and the rest goes as it always did.
    assert said(plan(before, left, "r", only=["mlops-one", "one"])) == []
    assert after(plan(before, left, "r"), left, "r").bare


def test_part_of_a_role_that_others_use_is_kept_and_told() -> None:
    ledger, before = parts()
    used = Before(**{**vars(before), "use": Use({"one": "one.service runs for others"})})
    steps = plan(used, ledger, "r", only=["mlops-one", "one"])
    assert kept(steps)[0] == "package one: one.service runs for others"
    assert ("package", "one") in {thing.key for thing in after(steps, ledger, "r")}
    assert ("unit", "mlops-one.service") not in {thing.key for thing in after(steps, ledger, "r")}


def test_part_of_a_role_that_another_role_wants_too_is_only_let_go() -> None:
    ledger, before = parts()
    shared = ledger.claim("other", "package", "one").claim("other", "package", "of-one")
    steps = plan(before, shared, "r", only=["mlops-one", "one"])
    assert "package one" not in said(steps)
    left = after(steps, shared, "r")
    assert left.get("package", "one") is not None
    assert left.things["package", "one"].owners == ("other",)


@pytest.fixture
def remove(tmp_path: Path) -> Callable[..., list[Removal]]:
    if os.getuid() != 0:
        pytest.skip("the ledger belongs to root")

    def remove(ledger: Ledger, *keep: str) -> list[Removal]:
        with Book(check=False, folder=str(tmp_path / "state")) as book:
            book.ledger = ledger
            before = remove_apply.read(ledger, "first", keep)
            return remove_apply.apply(plan(before, ledger, "first", keep), book, "first")

    return remove


def test_a_directory_goes_with_everything_but_what_is_not_ours(
    tmp_path: Path, remove: Callable[..., list[Removal]]
) -> None:
    whole, plain = tmp_path / "whole", tmp_path / "plain"
    for path in (whole / "mine", whole / "theirs", plain):
        path.mkdir(parents=True)
    (plain / "company").write_text("theirs")
    ledger = (
        Ledger()
        .claim("first", "directory", str(whole), whole=True)
        .claim("first", "directory", str(plain))
        .claim("second", "directory", str(whole / "theirs"))
    )
    assert said(remove(ledger)) == []  # neither directory is gone, so neither is told
    assert not (whole / "mine").exists()
    assert (whole / "theirs").exists()
    assert (plain / "company").exists()


def test_what_is_kept_survives_and_the_rest_around_it_goes(
    tmp_path: Path, remove: Callable[..., list[Removal]]
) -> None:
    whole = tmp_path / "whole"
    (whole / "models").mkdir(parents=True)
    (whole / "cache").mkdir()
    ledger = Ledger().claim("first", "directory", str(whole), whole=True)
    steps = remove(ledger, str(whole / "models"))
    assert kept(steps) == [f"directory {whole}: something in it is kept"]
    assert after(steps, ledger) == ledger
    assert [one.name for one in whole.iterdir()] == ["models"]
    assert said(remove(ledger)) == [f"directory {whole}"]
    assert not whole.exists()


def test_a_note_in_our_directory_is_kept_and_told_each_time(
    tmp_path: Path, remove: Callable[..., list[Removal]]
) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for path in (inner / "ours", inner / "NOTE"):
        path.write_text("x")
    ledger = (
        Ledger()
        .claim("first", "directory", str(outer), whole=True)
        .claim("first", "directory", str(inner), whole=True)
        .claim("first", "file", str(inner / "ours"))
    )
    for _time in (1, 2):
        steps = remove(ledger)
        assert kept(steps) == [
            f"directory {inner}: {inner}/NOTE did not come with the platform",
            f"directory {outer}: something in it is kept",
        ]
        ledger = after(steps, ledger)
        assert [one.name for one in inner.iterdir()] == ["NOTE"]
        assert ledger.names("directory") == {str(outer), str(inner)}
    (inner / "NOTE").unlink()
    assert said(remove(ledger)) == [f"directory {inner}", f"directory {outer}"]
    assert not outer.exists()


def test_a_file_goes_with_what_a_killed_run_left_beside_it(
    tmp_path: Path, remove: Callable[..., list[Removal]]
) -> None:
    for name in ("f", ".mlops-new-f"):
        (tmp_path / name).write_text("x")
    ledger = Ledger().claim("first", "file", str(tmp_path / "f"))
    assert said(remove(ledger)) == [f"file {tmp_path}/f"]
    assert list(tmp_path.iterdir()) == []
    assert said(remove(ledger)) == [f"file {tmp_path}/f"]  # gone already, and nothing breaks


def test_an_account_names_its_command() -> None:
    (step,) = plan(BEFORE, Ledger().claim("first", "user", "a"), "first")
    assert step.act == Account("user", "a")


def test_an_account_that_went_with_its_package_is_gone() -> None:
    """The scripts of munge take its user along when the package is purged."""
    for kind in ("user", "group"):
        # Ends without an error.
        remove_apply._account(Account(kind, "mlops-nobody-has-this"), Ledger())


def test_what_people_keep_gets_their_own_group_before_ours_goes(
    tmp_path: Path, remove: Callable[..., list[Removal]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is of a role that was removed before, and the last user of the group goes."""
    logs, ours = tmp_path / "logs", 54321
    theirs = pwd.getpwnam("nobody")
    (logs / "train.1.result").mkdir(parents=True)
    owners = {
        logs / "train.1.log": theirs.pw_uid,
        logs / "train.1.result" / "accuracy": theirs.pw_uid,
        logs / "of-somebody-who-left": 54322,
    }
    for path, uid in owners.items():
        path.write_text("x")
        os.chown(path, uid, ours)
    (logs / "link").symlink_to("/etc/hostname")
    os.chown(logs / "link", theirs.pw_uid, ours, follow_symlinks=False)
    (logs / "shared").write_text("x")
    os.chown(logs / "shared", theirs.pw_uid, 7)
    os.chown(logs / "train.1.result", theirs.pw_uid, ours)
    os.chown(logs, 0, ours)
    logs.chmod(0o3777)
    target = Path("/etc/hostname").stat()
    ledger = (
        Ledger()
        .claim("jobs", "directory", str(logs), whole=True)
        .claim("first", "group", "mlops-of-the-test")
    )
    there = [True]
    known = grp.getgrnam

    def named(name: str) -> grp.struct_group:
        if name == "mlops-of-the-test" and there[0]:
            return grp.struct_group((name, "x", ours, []))
        return known(name)

    def groupdel(argv: list[str], doing: str) -> None:
        assert argv[0] == "groupdel", doing
        assert not [path for path in [logs, *logs.rglob("*")] if path.lstat().st_gid == ours]
        there[0] = False

    monkeypatch.setattr(grp, "getgrnam", named)
    monkeypatch.setattr(remove_apply, "must", groupdel)
    assert said(remove(ledger)) == ["group mlops-of-the-test"]
    groups = {path.name: path.lstat().st_gid for path in [logs, *logs.rglob("*")]}
    own = theirs.pw_gid
    assert groups == {
        "logs": 0,
        "train.1.log": own,
        "train.1.result": own,
        "accuracy": own,
        "link": own,
        "shared": 7,
        "of-somebody-who-left": 0,
    }
    assert logs.stat().st_mode & 0o7777 == 0o1777
    assert Path("/etc/hostname").stat().st_gid == target.st_gid


def test_directories_of_roles_that_stay_are_not_looked_through(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, 54323, 54323)
    ledger = Ledger().claim("second", "directory", str(place), whole=True)
    ledger = ledger.claim("second", "directory", str(tmp_path / "gone"), whole=True)
    assert left.kept(ledger, "group", 54321) == []
    assert left.kept(ledger, "group", 54323) == [str(place)]
    assert left.hand_on([str(place)], "user", 54323) == 1
    assert (place.stat().st_uid, place.stat().st_gid) == (0, 54323)


def test_the_group_that_userdel_takes_along_is_given_on_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    logs, name, ours = tmp_path / "logs", "mlops-of-the-test", 54321
    logs.mkdir()
    os.chown(logs, 0, ours)
    seen: list[int] = []
    entry = pwd.struct_passwd((name, "x", ours, ours, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: grp.struct_group((name, "x", ours, [])))
    monkeypatch.setattr(remove_apply, "must", lambda _argv, _doing: seen.append(logs.stat().st_gid))
    ledger = Ledger().claim("jobs", "directory", str(logs), whole=True)
    remove_apply._account(Account("user", name), ledger)
    assert seen == [0]
