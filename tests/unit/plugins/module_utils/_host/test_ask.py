# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host modules would refuse is found at once, by their plans; nothing is changed."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.onprem.plugins.module_utils._assess import declared
from ansible_collections.mlops.onprem.plugins.module_utils._host import args, ask, system
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger

KEY = "k"


@pytest.fixture(autouse=True)
def _no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.Book, "peek", staticmethod(lambda *_folder: Ledger()))


def question(module: str, role: str = "r", **given: Any) -> ask.Question:
    checked = ArgumentSpecValidator(dict(args.MODULES[module])).validate({"role": role, **given})
    assert not checked.error_messages, checked.error_messages
    return ask.Question(role, module, checked.validated_parameters)


def file(path: Path, content: bytes) -> dict[str, str]:
    sent = base64.b64encode(ask.digest(content, KEY)).decode()
    return {"path": str(path), "payload": sent}


def said(*questions: ask.Question) -> list[str]:
    return [one.said for one in ask.ask(questions, KEY).refusals]


def test_only_the_host_of_this_site_says_what_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [question("host_remove"), question("host_files", absent=[str(tmp_path / "gone")])]
    whose: dict[str, Any] = {"id": "this-site"}
    monkeypatch.setattr(system.Book, "peek", staticmethod(lambda *_folder: Ledger(site=whose)))
    assert set(ask.ask(asked, KEY, "this-site").settled) == {0, 1}
    assert ask.ask(asked, KEY, "other-site").settled == {}
    assert ask.ask(asked, KEY, "").settled == {}


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_every_module_that_can_refuse_is_asked() -> None:
    assert set(ask._KINDS) == set(args.MODULES) - {"host_remove"} == set(declared.MODULES)


def test_all_that_is_in_the_way_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("the company's")
    (tmp_path / "notes").write_text("the company's")
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = listing(tmp_path)
    found = said(
        question(
            "host_files",
            directories=[
                {"path": f"{tmp_path}/taken/inner"},
                {"path": f"{tmp_path}/folder", "mode": "0755"},
                {"path": f"{tmp_path}/link"},
                {"path": f"{tmp_path}/new/inner"},
            ],
            files=[file(tmp_path / "notes", b"ours"), file(tmp_path / "new/inner/x", b"")],
        )
    )
    assert len(found) == 4
    assert f"{tmp_path}/taken shall be a directory" in found[0]
    assert f"{tmp_path}/folder was there before the platform" in found[1]
    assert "mode 0700 to 0755" in found[1]
    assert f"{tmp_path}/link shall be a directory" in found[2]
    assert f"{tmp_path}/notes is there already with other content" in found[3]
    assert listing(tmp_path) == before


def test_a_file_that_is_as_asked_is_no_refusal_though_only_its_digest_is_known(
    tmp_path: Path,
) -> None:
    (tmp_path / "same").write_bytes(b"content")
    (tmp_path / "same").chmod(0o644)
    user, group = tmp_path.owner(), tmp_path.group()
    row = {**file(tmp_path / "same", b"content"), "owner": user, "group": group}
    assert said(question("host_files", files=[row])) == []
    other = {**file(tmp_path / "same", b"other"), "owner": user, "group": group}
    assert len(said(question("host_files", files=[other]))) == 1


def test_what_an_earlier_role_makes_counts_as_there(tmp_path: Path) -> None:
    first = question("host_files", "first", directories=[{"path": f"{tmp_path}/a", "mode": "0700"}])
    second = question("host_files", "second", files=[file(tmp_path / "a/b", b"")])
    assert said(first, second) == []


def test_a_user_of_somebody_else_is_told_once_though_two_roles_want_it(tmp_path: Path) -> None:
    users = [{"name": "daemon", "home": str(tmp_path)}]
    questions = [question("host_files", role, users=users) for role in ("one", "two")]
    (refusal,) = ask.ask(questions, KEY).refusals
    assert refusal.role == "one"
    assert "The user daemon exists on this host" in refusal.said


def test_a_wrong_health_question_and_unit_are_told(tmp_path: Path) -> None:
    good: dict[str, Any] = {"name": "mlops-x", "command": ["/bin/true"], "user": "root"}
    assert said(question("host_service", **good)) == []
    found = said(
        question("host_service", **{**good, "command": ["true"]}),
        question("host_service", **good, health={"url": "http://a", "tcp": "a:1"}),
    )
    assert "absolute path" in found[0]
    assert "asks exactly one of" in found[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is asked whether it can write")
def test_what_even_root_cannot_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A read-only mount is tried on real hosts; here the kernel's files are one.
    assert "read-only" in system.shut("/sys/kernel") or system.shut("/sys/kernel") == ""
    monkeypatch.setattr(os, "access", lambda path, _mode: path != str(tmp_path))
    found = said(
        question(
            "host_files",
            directories=[{"path": f"{tmp_path}/a"}],
            files=[file(tmp_path / "b", b"")],
        )
    )
    assert [line.split(" ")[0] for line in found] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert all(f"chattr -i {tmp_path}" in line for line in found)


def test_an_environment_that_is_not_there_is_to_be_built_for_the_python_of_the_host() -> None:
    digests = {"any": "d" * 64, "3.1": "e" * 64}
    app = question("host_python_app", name="mlops_test_none", requirements="r.txt", digests=digests)
    (one,) = ask.ask([app], KEY).build
    assert (one["role"], one["digest"]) == ("r", "d" * 64)
    digests = {**digests, one["version"]: "f" * 64}
    app = question("host_python_app", name="mlops_test_none", requirements="r.txt", digests=digests)
    (other,) = ask.ask([app], KEY).build
    assert other == {**one, "digest": "f" * 64}
    assert one["version"].startswith("3.")
    missing = question(
        "host_python_app",
        name="mlops_test_none",
        requirements="r.txt",
        digests=digests,
        python="/nowhere/python3",
    )
    answer = ask.ask([missing], KEY)
    assert "/nowhere/python3 does not run on this host" in answer.refusals[0].said
    assert answer.build == ()
