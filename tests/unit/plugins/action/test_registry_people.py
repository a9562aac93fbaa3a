# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invitations lie on the controller before an account is made, and go with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.onprem.plugins.action.registry_people import ActionModule

PEOPLE = [
    {
        "name": "anna",
        "mail": "",
        "rights": "viewer",
        "renewed": 0,
        "secret": "x",
        "teams": ["vision"],
    },
    {"name": "ben", "mail": "", "rights": "scientist", "renewed": 1, "secret": "y", "teams": []},
]


class Module:
    """What the host answers, and what was on the controller as it was asked."""

    def __init__(self, place: Path, **answer: Any) -> None:
        nothing: dict[str, Any] = {
            name: [] for name in ("steps", "made", "renewed", "removed", "strangers", "invited")
        }
        self.answer = {**nothing, "changed": False, **answer}
        self.place = place
        self.asked: list[tuple[bool, list[str]]] = []

    def __call__(self, module_args: dict[str, Any], **_more: Any) -> dict[str, Any]:
        there = sorted(path.name for path in self.place.glob("*"))
        self.asked.append((bool(module_args.get("look")), there))
        return {**self.answer, "invocation": {"module_args": module_args}}


def run(module: Module, check: bool = False, **more: Any) -> dict[str, Any]:
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(
        args={
            "people": PEOPLE,
            "passwords": {"anna": "of anna", "ben": "of ben"},
            "invitations": str(module.place),
            "url": "https://ctl1/",
            **more,
        },
        check_mode=check,
        async_val=0,
        diff=False,
    )
    action._execute_module = module
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    return ActionModule.run(action, None, {})


def test_the_invitation_is_there_before_the_account_is(tmp_path: Path) -> None:
    module = Module(tmp_path / "in", steps=["add"], made=["anna"], renewed=["ben"])
    result = run(module)
    files = ["anna.invitation.txt", "ben.invitation.txt"]
    assert module.asked == [(True, []), (False, files)]
    assert result["invited"] == [str(tmp_path / "in" / name) for name in files]
    for name in files:
        assert (tmp_path / "in" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "in").stat().st_mode & 0o077 == 0
    text = (tmp_path / "in" / files[0]).read_text(encoding="utf-8")
    assert "of anna" in text
    assert "of ben" not in text
    assert "invocation" not in result


def test_where_nothing_is_to_do_the_host_is_asked_once(tmp_path: Path) -> None:
    module = Module(tmp_path / "in")
    assert run(module)["changed"] is False
    assert module.asked == [(True, [])]
    assert not module.place.exists()


def test_check_mode_names_the_files_and_writes_none(tmp_path: Path) -> None:
    module = Module(tmp_path / "in", steps=["add"], made=["anna"], changed=True)
    assert run(module, check=True)["invited"] == [str(tmp_path / "in" / "anna.invitation.txt")]
    assert not module.place.exists()


def test_the_invitation_of_who_left_goes(tmp_path: Path) -> None:
    for name in ("cem.invitation.txt", "notes.txt"):
        (tmp_path / name).write_text("")
    run(Module(tmp_path, steps=["remove"], removed=["cem"]))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_no_invitation_is_written_where_an_account_is_in_the_way(tmp_path: Path) -> None:
    module = Module(tmp_path / "in", steps=["add"], made=["anna"], strangers=["ben"])
    run(module)
    assert not module.place.exists()
    assert [look for look, _there in module.asked] == [True, False]  # which refuses


def test_where_it_cannot_be_written_nobody_is_given_an_account(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    module = Module(tmp_path / "file" / "in", steps=["add"], made=["anna"])
    with pytest.raises(AnsibleActionFail, match="Nobody was given an account yet; set mlops_state"):
        run(module)
    assert [look for look, _there in module.asked] == [True]
