# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that left a host take what was theirs with them, and nothing of anybody else's."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book
from ansible_collections.mlops.onprem.plugins.modules import workload_retire

PREFIX = "workload_unit_"


class Module:
    """The part of AnsibleModule that the work asks for."""

    def __init__(self, check: bool, keep: list[str]) -> None:
        self.params = {"prefix": PREFIX, "keep": keep}
        self.check_mode = check
        self.warnings: list[str] = []

    def warn(self, said: str) -> None:
        self.warnings.append(said)


class Hosted:
    """A host whose ledger and files lie in a directory of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = str(folder / "state")
        self.shared = self.file("shared")
        ledger = Ledger().claim("workloads", "file", str(self.file("role")))
        for owner in ("chat_0", "chat_1", "rank_0"):
            ledger = ledger.claim(PREFIX + owner, "file", str(self.file(owner)))
            ledger = ledger.claim(PREFIX + owner, "file", str(self.shared))
        with Book(check=False, folder=self.state) as book:
            book.write(ledger)

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.write_text(name, encoding="utf-8")
        return path

    def there(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()}

    def owners(self) -> set[str]:
        return {owner for thing in Book.peek(self.state) for owner in thing.owners}

    def retire(self, *keep: str, check: bool = False) -> tuple[dict[str, Any], list[str]]:
        module = Module(check, [PREFIX + one for one in keep])
        told = workload_retire.work(module)
        return told, module.warnings


EVERYTHING = {"role", "shared", "chat_0", "chat_1", "rank_0"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosted:
    if os.getuid() != 0:
        pytest.skip("the ledger belongs to root")
    found = Hosted(tmp_path)
    monkeypatch.setattr(workload_retire, "Book", functools.partial(Book, folder=found.state))
    return found


def test_what_stays_is_left_alone(host: Hosted) -> None:
    told, warnings = host.retire("chat_0", "chat_1", "rank_0")
    assert (told["changed"], told["owners"], warnings) == (False, [], [])
    assert host.there() == EVERYTHING


def test_a_replica_that_left_takes_its_own_and_not_what_others_have(host: Hosted) -> None:
    told, warnings = host.retire("chat_0", "rank_0")
    assert told["owners"] == [PREFIX + "chat_1"]
    assert told["changed"]
    assert any(str(host.folder / "chat_1") in said for said in told["removed"])
    assert host.there() == EVERYTHING - {"chat_1"}
    assert PREFIX + "chat_1" not in host.owners()
    assert warnings == []
    assert host.retire("chat_0", "rank_0")[0]["changed"] is False


def test_the_last_one_takes_what_they_shared_and_the_role_stays(host: Hosted) -> None:
    told, _warnings = host.retire()
    assert len(told["owners"]) == 3
    assert host.there() == {"role"}
    assert host.owners() == {"workloads"}


def test_check_mode_says_the_same_and_removes_nothing(host: Hosted) -> None:
    told, _warnings = host.retire("chat_0", "rank_0", check=True)
    assert told["changed"]
    assert host.there() == EVERYTHING
    assert PREFIX + "chat_1" in host.owners()
    assert host.retire("chat_0", "rank_0")[0]["removed"] == told["removed"]
