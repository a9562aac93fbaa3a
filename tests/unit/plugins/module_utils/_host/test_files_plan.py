# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_files does, and what it refuses, from what is there and what is wanted."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import files_apply
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.files import (
    Directory,
    File,
    User,
    Wanted,
    wanted_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.files_plan import (
    Account,
    Before,
    Group,
    MakeDirectory,
    Place,
    Seen,
    plan,
    plan_and_owners,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.steps import Run, Step, report
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book

ROOTS = {path: Seen("directory", leads=True) for path in ("/", "/etc", "/var", "/var/lib")}
MLOPS = {**ROOTS, "/etc/mlops": Seen("directory", leads=True)}
USERS = {"root": Account(0, "/root", "/bin/bash", "root"), "mlops-x": Account(990, "/h", "/s", "")}
GROUPS = {"root": Group(0), "mlops-x": Group(990), "company": Group(1000)}
A = "/etc/mlops/a"
B = "/etc/mlops/b"
OURS = Ledger().claim("first", "directory", "/etc/mlops")


def before(**paths: Seen) -> Before:
    return Before(
        USERS, GROUPS, {**MLOPS, **{"/" + k.replace("__", "/"): v for k, v in paths.items()}}
    )


def at_a(seen: Seen) -> Before:
    return Before(USERS, GROUPS, {**MLOPS, A: seen})


def said(steps: list[Step]) -> list[str]:
    return [step.said for step in steps if step.said]


def text(content: bytes = b"t", mode: int = 0o644, **more: Any) -> Seen:
    return Seen("file", content=content, mode=mode, **more)


FILE_OURS = OURS.claim("first", "file", A)
WHOLE = Ledger().claim("first", "directory", "/etc/mlops", whole=True)


@pytest.mark.parametrize(
    ("there", "want", "ledger", "expected"),
    [
        (None, File(A, b"t"), OURS, [f"{A}: created"]),
        (None, File(A, link="b"), OURS, [f"{A}: created"]),
        (text(), File(A, b"t"), FILE_OURS, []),
        (text(), File(A, b"t"), OURS, []),  # not ours, but as wanted
        (text(b"old"), File(A, b"t"), FILE_OURS, [f"{A}: content"]),
        (text(b"old"), File(A, b"t"), WHOLE, [f"{A}: content"]),  # inside what goes as a whole
        (text(b"old"), File(A, b"t", adopt=True), OURS, [f"{A}: content"]),
        (text(mode=0o600), File(A, b"t"), FILE_OURS, [f"{A}: mode 0600 to 0644"]),
        (text(uid=7), File(A, b"t"), FILE_OURS, [f"{A}: owner"]),
        (text(mode=0o600, uid=7), File(A, b"t"), FILE_OURS, [f"{A}: owner, mode 0600 to 0644"]),
        (Seen("link", mode=0o777, content=b"b"), File(A, link="b"), FILE_OURS, []),
        (Seen("link", content=b"c"), File(A, link="b"), FILE_OURS, [f"{A}: content"]),
        (Seen("link", content=b"c"), File(A, b"t"), FILE_OURS, [f"{A}: content"]),
        (text(), File(A, link="b"), FILE_OURS, [f"{A}: content"]),
    ],
)
def test_what_is_done_to_a_file(
    there: Seen | None, want: File, ledger: Ledger, expected: list[str]
) -> None:
    host = at_a(there) if there else before()
    steps = plan(host, Wanted(files=(want,)), ledger, "first")
    assert said(steps) == expected


STRANGER = "is there already with other content and was not written by the platform"


@pytest.mark.parametrize(
    ("there", "want", "ledger", "sentence"),
    [
        (text(b"old"), File(A, b"t"), OURS, f"^{A} {STRANGER}; move it away"),
        (text(b"old"), File(A, b"t"), Ledger(), STRANGER),
        (text(b"t"), File(A, link="t"), OURS, STRANGER),
        (Seen("link", content=b"t"), File(A, b"t"), OURS, STRANGER),
        (text(mode=0o600), File(A, b"t"), OURS, r"was there before .* \(mode 0600 to 0644\)"),
        (
            text(uid=7),
            File(A, b"t"),
            OURS,
            r"was there before the platform and differs .* \(owner\)",
        ),
        (Seen("directory"), File(A, b"t"), WHOLE, f"^{A} shall be a file, but is something else"),
        (
            Seen("directory"),
            File(A, link="b"),
            WHOLE,
            f"^{A} shall be a link, but is something else",
        ),
        (Seen("other"), File(A, b"t", adopt=True), WHOLE, "shall be a file, but is something else"),
        (None, File(A, owner="nobody-such"), OURS, "to the user nobody-such, which does not exist"),
        (
            None,
            File(A, group="nobody-such"),
            OURS,
            "to the group nobody-such, which does not exist",
        ),
    ],
)
def test_what_is_refused_of_a_file(
    there: Seen | None, want: File, ledger: Ledger, sentence: str
) -> None:
    host = at_a(there) if there else before()
    with pytest.raises(HostError, match=sentence):
        plan(host, Wanted(files=(want,)), ledger, "first")


def test_one_stranger_stops_everything_before_the_first_step() -> None:
    wanted = Wanted(("new",), files=(File("/etc/mlops/b", b"t"), File(A, b"t")))
    with pytest.raises(HostError, match=STRANGER):
        plan(at_a(text(b"theirs")), wanted, OURS, "first")


def test_a_second_role_shares_what_is_ours_and_changes_nothing() -> None:
    steps = plan(at_a(text()), Wanted(("mlops-x",), files=(File(A, b"t"),)), FILE_OURS, "second")
    assert [step.act for step in steps] == [None]
    assert {thing.owners for thing in steps[-1].ledger} == {("first", "second")}
    assert not steps[-1].ledger.has("group", "mlops-x")  # nobody of ours made it


def test_who_wants_all_of_a_call_is_told_also_where_nothing_is_to_do() -> None:
    """What a caller may pass over for another role: only what that role has claimed entirely."""
    host, wanted = at_a(text()), Wanted(files=(File(A, content=b"t"), File(B, content=b"t")))
    host = replace(host, paths={**host.paths, B: text()})
    both = OURS.claim("first", "file", A).claim("first", "file", B)
    half = both.claim("second", "directory", "/etc/mlops").claim("second", "file", A)
    whole = half.claim("second", "file", B)
    assert plan_and_owners(host, wanted, both, "first") == ([], ["first"])
    assert plan_and_owners(host, wanted, half, "first") == ([], ["first"])
    assert plan_and_owners(host, wanted, whole, "first") == ([], ["first", "second"])
    steps, owners = plan_and_owners(host, wanted, half, "second")
    assert owners == ["first", "second"]
    assert [step.ledger.get("file", B).owners for step in steps] == [("first", "second")]  # type: ignore[union-attr]


def test_a_host_as_wanted_takes_no_step() -> None:
    wanted = Wanted(directories=(Directory("/etc/mlops"),), files=(File(A, b"t"),))
    ledger = FILE_OURS.claim("first", "directory", "/etc/mlops", whole=True)
    assert plan(at_a(text()), wanted, ledger, "first") == []


def test_guests_of_a_directory_that_stands_are_noted_and_nothing_else_is_done() -> None:
    wanted = Wanted(directories=(Directory("/etc/mlops", guests=True),), files=(File(A, b"t"),))
    ledger = FILE_OURS.claim("first", "directory", "/etc/mlops", whole=True)
    (step,) = plan(at_a(text()), wanted, ledger, "first")
    noted = step.ledger.get("directory", "/etc/mlops")
    assert step.act is None
    assert noted is not None
    assert noted.data == {"whole": True, "guests": True}
    assert plan(at_a(text()), wanted, step.ledger, "first") == []


def test_a_stranger_that_is_as_wanted_is_never_recorded() -> None:
    assert plan(at_a(text()), Wanted(files=(File(A, b"t"),)), OURS, "first") == []


def test_everything_is_recorded_before_it_is_made() -> None:
    wanted = Wanted(
        ("shared",),
        (User("mlops-y", "/var/lib/mlops/y", ("shared", "company")),),
        (Directory("/var/lib/mlops/y", "mlops-y", "mlops-y", 0o750),),
        (File("/var/lib/mlops/y/sub/a", b"t", owner="mlops-y"),),
    )
    steps = plan(Before(USERS, GROUPS, ROOTS), wanted, Ledger(), "first")
    assert said(steps) == [
        "group shared: created",
        "group mlops-y: created",
        "user mlops-y: created",
        "/var/lib/mlops/y: directory created",
        "/var/lib/mlops/y/sub/a: created",
    ]
    made = []
    for step in steps:
        if isinstance(step.act, Run):
            made = [step.act.argv[0].removesuffix("add"), step.act.argv[-1]]
        elif isinstance(step.act, MakeDirectory):
            made = ["directory", step.act.path]
        elif isinstance(step.act, Place):
            made = ["file", step.act.file.path]
        assert step.ledger.has(*made), made
    last = steps[-1].ledger
    assert not last.has("group", "company")
    assert [one.name for one in last if one.data.get("whole")] == ["/var/lib/mlops/y"]
    assert last.has("directory", "/var/lib/mlops")
    assert last.has("directory", "/var/lib/mlops/y/sub")


def test_the_words_of_a_new_user() -> None:
    user = User("mlops-y", "/h", ("company",), "/bin/sh", "A user")
    steps = plan(before(), Wanted(users=(user,)), OURS, "first")
    words = (
        "useradd --system --no-create-home --home-dir /h --shell /bin/sh --gid mlops-y --comment"
    )
    assert steps[-1].act == Run(
        (*words.split(), "A user", "--groups", "company", "mlops-y"), "create the user mlops-y"
    )


USER_OURS = OURS.claim("first", "user", "mlops-x")
BY_PACKAGE = OURS.claim("first", "user", "mlops-x", by="package")


@pytest.mark.parametrize(
    ("user", "ledger", "options"),
    [
        (User("mlops-x", "/h", (), "/s"), USER_OURS, None),
        (User("mlops-x", "/new", (), "/s"), USER_OURS, "--home /new"),
        (User("mlops-x", "/h", (), "/t", "C"), USER_OURS, "--shell /t --comment C"),
        (User("mlops-x", "/h", ("company",), "/s"), USER_OURS, "--append --groups company"),
        (User("mlops-x", "/new", (), "/t"), BY_PACKAGE, None),
        (User("mlops-x", "/new", ("company",)), BY_PACKAGE, "--append --groups company"),
    ],
)
def test_what_is_changed_of_a_user(user: User, ledger: Ledger, options: str | None) -> None:
    steps = plan(before(), Wanted(users=(user,)), ledger, "first")
    runs = [step.act.argv for step in steps if isinstance(step.act, Run)]
    assert runs == ([] if options is None else [("usermod", *options.split(), "mlops-x")])


def test_a_user_leaves_a_group_that_an_earlier_version_asked_for() -> None:
    user = User("mlops-x", "/h", (), "/s", left_groups=("company", "nowhere"))
    inside = replace(
        before(),
        groups={"mlops-x": Group(6), "company": Group(7, frozenset({"mlops-x", "other"}))},
    )
    steps = plan(inside, Wanted(users=(user,)), USER_OURS, "first")
    assert [step.act for step in steps if isinstance(step.act, Run)] == [
        Run(
            ("gpasswd", "--delete", "mlops-x", "company"),
            "take mlops-x out of the group company",
        )
    ]
    left = replace(inside, groups={**inside.groups, "company": Group(7, frozenset({"other"}))})
    assert not any(step.act for step in plan(left, Wanted(users=(user,)), USER_OURS, "first"))


def test_a_user_of_somebody_else_is_refused_even_if_it_is_as_wanted() -> None:
    with pytest.raises(HostError, match="mlops-x exists on this host and was not created by the"):
        plan(before(), Wanted(users=(User("mlops-x", "/h", (), "/s"),)), OURS, "first")


@pytest.mark.parametrize(
    ("there", "ledger", "expected"),
    [
        (None, OURS, [f"{A}: directory created"]),
        (Seen("directory"), OURS, []),
        (Seen("directory", mode=0o700), WHOLE, [f"{A}: mode 0700 to 0755"]),
    ],
)
def test_what_is_done_to_a_directory(
    there: Seen | None, ledger: Ledger, expected: list[str]
) -> None:
    host = at_a(there) if there else before()
    assert said(plan(host, Wanted(directories=(Directory(A),)), ledger, "first")) == expected


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (Seen("directory", mode=0o700), r"was there before the platform .* \(mode 0700 to 0755\)"),
        (Seen("directory", uid=7), r"was there before the platform and differs .* \(owner\)"),
        (text(), f"^{A} shall be a directory, but is something else"),
        (Seen("link", leads=True), f"^{A} shall be a directory, but is something else"),
    ],
)
def test_what_is_refused_of_a_directory(there: Seen, sentence: str) -> None:
    with pytest.raises(HostError, match=sentence):
        plan(at_a(there), Wanted(directories=(Directory(A),)), OURS, "first")


def test_a_file_on_the_way_to_a_path_is_refused() -> None:
    with pytest.raises(HostError, match=f"^{A} shall be a directory, but is something else"):
        plan(at_a(text()), Wanted(files=(File(A + "/b/c", b"t"),)), OURS, "first")


def test_an_account_that_a_trial_lacks_may_come_from_an_earlier_task() -> None:
    wanted = Wanted(directories=(Directory(A, "later", "later"),))
    assert said(plan(before(), wanted, OURS, "first", trial=True)) == [f"{A}: directory created"]
    with pytest.raises(HostError, match="which does not exist on this host; list it under users"):
        plan(before(), wanted, OURS, "first")


def test_an_adopted_file_is_kept_to_be_put_back_once() -> None:
    wanted = Wanted(files=(File(A, b"t", adopt=True),))
    (step,) = plan(at_a(text(b"old", 0o600, uid=5, gid=6)), wanted, OURS, "first")
    thing = step.ledger.get("file", A)
    assert thing is not None
    original = {"content": "b2xk", "mode": "0600", "uid": 5, "gid": 6}
    assert thing.data == {"original": original}
    wanted = Wanted(files=(File(A, b"u", adopt=True),))
    (again,) = plan(at_a(text()), wanted, step.ledger, "first")
    assert again.ledger == step.ledger


@pytest.mark.parametrize(
    ("there", "ledger", "expected", "recorded"),
    [
        (text(), FILE_OURS, [f"{A}: removed"], False),
        (text(), OURS, [], False),  # somebody else's
        (None, FILE_OURS, [], False),
        (None, OURS, [], False),
    ],
)
def test_what_is_removed_under_absent(
    there: Seen | None, ledger: Ledger, expected: list[str], recorded: bool
) -> None:
    host = at_a(there) if there else before()
    steps = plan(host, Wanted(absent=(A,)), ledger, "first")
    assert said(steps) == expected
    assert (steps[-1].ledger if steps else ledger).has("file", A) is recorded


def test_a_removed_file_is_forgotten_only_after_it_is_gone() -> None:
    removal, note = plan(at_a(text()), Wanted(absent=(A,)), FILE_OURS, "first")
    assert removal.ledger.has("file", A)
    assert note.act is None
    assert not note.ledger.has("file", A)


def test_a_directory_of_ours_under_absent_is_refused() -> None:
    with pytest.raises(HostError, match="under absent is a directory"):
        plan(at_a(Seen("directory")), Wanted(absent=(A,)), WHOLE, "first")


@pytest.mark.parametrize(
    ("want", "shown"),
    [
        (File(A, b"new"), ("old", "new")),
        (File(A, b"new", sensitive=True), ("", "content changed\n")),
        (File(A, b"\0"), ("3 bytes\n", "1 bytes\n")),
        (File(A, b"x" * 100_001), ("3 bytes\n", "100001 bytes\n")),
    ],
)
def test_the_diff_shows_no_secret_and_no_heap_of_bytes(want: File, shown: tuple[str, str]) -> None:
    answer = report(plan(at_a(text(b"old")), Wanted(files=(want,)), FILE_OURS, "first"))
    assert answer["changed"] is True
    assert [(row["before"], row["after"]) for row in answer["diff"]] == [shown]


# The hands, in a directory of our own


def own(row: dict[str, Any]) -> dict[str, Any]:
    names = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
    return {"validate": None, **names, **row}


def apply(folder: Path, **params: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        name: [] for name in ("groups", "users", "directories", "files", "absent")
    }
    wanted = wanted_of({**empty, **params})
    with Book(check=False, folder=str(folder / "state")) as book:
        steps = plan(files_apply.read(wanted), wanted, book.ledger, "first")
        files_apply.apply(steps, book)
        return report(steps)


@pytest.mark.skipif(os.getuid() != 0, reason="the ledger belongs to root")
def test_the_steps_make_the_host_as_wanted_and_the_second_run_finds_nothing(tmp_path: Path) -> None:
    row = own({"path": f"{tmp_path}/d/e/a", "content": "t", "mode": "0640"})
    asked: dict[str, Any] = {
        "directories": [own({"path": f"{tmp_path}/d", "mode": "0750"})],
        "files": [row, own({"path": f"{tmp_path}/d/l", "link": "e/a"})],
    }
    first = apply(tmp_path, **asked)
    assert len(first["changes"]) == 3
    assert (tmp_path / "d/l").read_text() == "t"
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in ("d", "d/e", "d/e/a")] == [
        0o750,
        0o755,
        0o640,
    ]
    assert apply(tmp_path, **asked) == {"changed": False, "changes": [], "diff": []}
    gone = apply(tmp_path, absent=[f"{tmp_path}/d/l", f"{tmp_path}/d/e/a"])
    assert len(gone["changes"]) == 2
    assert not (tmp_path / "d/l").is_symlink()


@pytest.mark.skipif(os.getuid() != 0, reason="the ledger belongs to root")
def test_a_content_that_its_check_refuses_replaces_nothing(tmp_path: Path) -> None:
    path = f"{tmp_path}/a"
    apply(tmp_path, files=[own({"path": path, "content": "good", "validate": "grep -q good %s"})])
    bad = own({"path": path, "content": "bad", "validate": "sh -c 'echo no: %s; exit 1' %s"})
    with pytest.raises(HostError, match=f"{path} was not replaced, .* content: no: {path}$"):
        apply(tmp_path, files=[bad])
    assert {one.name for one in tmp_path.iterdir()} == {"a", "state"}
    assert Path(path).read_text() == "good"
    with pytest.raises(HostError, match="sh does not accept the new content"):
        apply(tmp_path, files=[{**bad, "sensitive": True}])
