# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of the model registry's server that do not need MLflow."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml

from tests.patience import PATIENCE

ROLE = Path(__file__).resolve().parents[3] / "roles/model_registry"


def module(name: str) -> ModuleType:
    spec = util.spec_from_file_location(f"model_registry_{name}", ROLE / f"files/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


admission = module("admission")


class Pool:
    """Connections that come back, and callers who give up as MLflow does."""

    def __init__(self, connections: int, patience: float = PATIENCE) -> None:
        self.free = threading.Semaphore(connections)
        self.patience = patience

    @contextlib.contextmanager
    def session(self, read_only: bool = True) -> Iterator[bool]:
        if not self.free.acquire(timeout=self.patience):
            raise TimeoutError
        try:
            yield read_only
        finally:
            self.free.release()


def nested(session: object, depth: int, together: threading.Barrier | None = None) -> int:
    """What a batch does: one session in the other, all of which begin at the same time."""
    with session(read_only=False) as read_only:  # type: ignore[operator]
        assert read_only is False
        if together is not None:
            together.wait(PATIENCE)
        return 1 + (nested(session, depth - 1) if depth > 1 else 0)


def at_once(session: object, callers: int, wait_for: int) -> list[int]:
    together = threading.Barrier(wait_for)
    with ThreadPoolExecutor(callers) as threads:
        asked = [threads.submit(nested, session, 4, together) for _caller in range(callers)]
        return [each.result() for each in asked]


@pytest.mark.parametrize(
    ("connections", "writing", "reading"), [(4, 1, 0), (6, 1, 0), (7, 1, 2), (10, 2, 2), (13, 3, 2)]
)
def test_the_pool_serves_all_that_are_admitted(
    connections: int, writing: int, reading: int
) -> None:
    assert admission.turns(connections) == (writing, reading)
    # What those who read may hold while those who write want theirs.
    pool = Pool(connections - reading)
    session = admission.Admission(admission.turns(connections)).wrap(pool.session)
    assert at_once(session, 3 * writing, writing) == [4] * 3 * writing


def test_who_reads_does_not_wait_for_those_who_write() -> None:
    session = admission.Admission(admission.Turns(1, 1)).wrap(Pool(10).session)
    with ThreadPoolExecutor(1) as threads, session(read_only=False):
        assert threads.submit(lambda: session().__enter__()).result(timeout=PATIENCE) is True


def test_as_many_as_there_are_connections_would_wait_for_each_other() -> None:
    session = admission.Admission(admission.Turns(4, 0)).wrap(Pool(4, 0.5).session)
    with pytest.raises(TimeoutError):
        at_once(session, 4, 4)


def test_a_failed_request_gives_its_turn_back() -> None:
    session = admission.Admission(admission.Turns(1, 0)).wrap(Pool(4).session)
    for _attempt in range(3):
        with pytest.raises(ValueError, match="wrong"), session():
            raise ValueError("wrong")
    assert nested(session, 4) == 4


def test_the_role_computes_with_the_same_numbers() -> None:
    words = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    names = ("pool", "readers", "writers")
    for asked in range(2, 30):
        known: dict[str, object] = {"model_registry_connections_per_pool": asked}
        for name in names:
            text = words[f"__model_registry_{name}"].replace(" | max", " | list | max")
            known[f"__model_registry_{name}"] = jinja2.Template(text).render(known)
        pool, readers, writers = (int(str(known[f"__model_registry_{name}"])) for name in names)
        assert admission.turns(pool) == (writers, readers)


guard = module("guard")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Application:
    """Knows one password. Says how often it was asked."""

    asked = 0

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.asked += 1
        known = dict(scope.get("headers", ())).get(b"authorization") == b"right"
        await send({"type": "http.response.start", "status": 200 if known else 401, "headers": []})


class Door:
    """The guard before an application, and one request after the other."""

    def __init__(self, tries: int, known: Path) -> None:
        self.clock, self.application = Clock(), Application()
        self.guard = guard.Guard(self.application, guard.Tries(tries, known, b"k", self.clock))
        self.headers: dict[bytes, bytes] = {}

    def ask(self, password: str, address: str = "a") -> int:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"x-real-ip", address.encode())]
        if password:
            headers.append((b"authorization", password.encode()))
        asyncio.run(self.guard({"type": "http", "headers": headers}, None, send))
        self.headers = dict(sent[0]["headers"])
        return int(sent[0]["status"])


def test_wrong_passwords_run_out_and_come_back(tmp_path: Path) -> None:
    door = Door(3, tmp_path)
    assert [door.ask(f"wrong {number}") for number in range(5)] == [401, 401, 401, 429, 429]
    assert door.application.asked == 3
    assert door.headers[b"retry-after"] == b"6"
    door.clock.now = 4.0
    assert (door.ask("wrong"), door.headers[b"retry-after"]) == (429, b"2")
    door.clock.now = 6.0
    assert [door.ask("wrong"), door.ask("wrong")] == [401, 429]
    door.clock.now = 600.0
    assert [door.ask("wrong") for _time in range(4)] == [401, 401, 401, 429]


def test_who_was_right_before_is_not_held_up_by_others_at_the_same_address(tmp_path: Path) -> None:
    door = Door(2, tmp_path)
    assert [door.ask("right") for _time in range(10)] == [200] * 10
    assert [door.ask(f"wrong {number}") for number in range(4)] == [401, 401, 429, 429]
    assert door.ask("right") == 200
    assert door.ask("right", address="b") == 200
    assert door.ask("wrong", address="b") == 401


def test_who_shows_no_password_costs_nothing(tmp_path: Path) -> None:
    door = Door(1, tmp_path)
    assert [door.ask("") for _time in range(5)] == [401] * 5
    assert door.ask("right") == 200


def test_tries_at_the_same_time_are_counted_before_they_are_answered(tmp_path: Path) -> None:
    tries = guard.Tries(2, tmp_path, b"k", Clock())
    taken = [tries.take(b"a", tries.fingerprint(b"a", b"%d" % number)) for number in range(4)]
    assert taken == [0, 0, 6, 6]


def test_what_one_worker_has_seen_to_be_right_the_other_knows(tmp_path: Path) -> None:
    first, second = Door(1, tmp_path / "known"), Door(1, tmp_path / "known")
    assert first.ask("right") == 200
    assert [second.ask("wrong 1"), second.ask("wrong 2"), second.ask("right")] == [401, 429, 200]
    (kept,) = (tmp_path / "known").iterdir()
    assert "right" not in kept.name
    assert kept.read_bytes() == b""


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guard, "REMEMBERED", 3)
    tries = guard.Tries(1, tmp_path, b"k", Clock())
    for number in range(9):
        address = b"%d" % number
        seen = tries.fingerprint(address, b"x")
        tries.take(address, seen)
        tries.right(address, seen)
    assert len(tries._left) == 3
    assert len(list(tmp_path.iterdir())) <= 3


def test_a_password_that_was_changed_is_a_guess_again(tmp_path: Path) -> None:
    tries = guard.Tries(1, tmp_path, b"k", Clock())
    seen = tries.fingerprint(b"a", b"old")
    tries.right(b"a", seen)
    assert tries.take(b"a", seen) == 0
    tries.wrong(seen)
    assert [tries.take(b"a", seen), tries.take(b"a", seen)] == [0, 6]


rights = module("rights")


class Accounts:
    """As much of MLflow's accounts as two workers share: who there is, with which roles."""

    def __init__(self) -> None:
        self.passwords = {"anna": "a", "ben": "b"}
        self.roles = {"anna": ["mlops-people", "mlops-viewer"], "ben": ["mlops-scientist"]}


class Worker:
    """MLflow's module of accounts in one worker."""

    def __init__(self, accounts: Accounts, home: Path, cached: bool = True) -> None:
        self.store = self
        self._accounts = accounts
        self._USER_AUTH_CACHE: dict[tuple[str, str], str] | None = {} if cached else None
        self._USER_AUTH_CACHE_LOCK = threading.Lock()
        self.checks = 0
        rights.apply(self, home)

    def get_user(self, username: str) -> Any:
        return SimpleNamespace(id=username)

    def list_user_roles(self, number: str) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._accounts.roles.get(number, [])]

    def _can_create_in_workspace(self, username: str) -> bool:
        return username != "banned"

    def _authenticate_cached(self, username: str, password: str) -> str | None:
        cache = self._USER_AUTH_CACHE
        if cache is not None and (username, password) in cache:
            return cache[username, password]
        self.checks += 1
        if self._accounts.passwords.get(username) != password:
            return None
        if cache is not None:
            cache[username, password] = username
        return username

    def _invalidate_user_auth_cache(self, username: str) -> None:
        for key in [key for key in self._USER_AUTH_CACHE or () if key[0] == username]:
            del (self._USER_AUTH_CACHE or {})[key]


def test_viewers_create_nothing_and_others_do_as_before(tmp_path: Path) -> None:
    worker = Worker(Accounts(), tmp_path)
    told = {name: worker._can_create_in_workspace(name) for name in ("anna", "ben", "by hand")}
    assert told == {"anna": False, "ben": True, "by hand": True}
    assert worker._can_create_in_workspace("banned") is False


def test_who_is_removed_by_one_worker_is_refused_by_the_other_at_once(tmp_path: Path) -> None:
    accounts = Accounts()
    one, two = Worker(accounts, tmp_path), Worker(accounts, tmp_path)
    for worker in (one, two):
        assert worker._authenticate_cached("anna", "a") == "anna"
        assert worker._authenticate_cached("anna", "a") == "anna"
        assert worker.checks == 1
    del accounts.passwords["anna"]
    assert two._authenticate_cached("anna", "a") == "anna"  # nobody has told it
    one._invalidate_user_auth_cache("anna")
    assert one._authenticate_cached("anna", "a") is None
    assert two._authenticate_cached("anna", "a") is None
    assert two._authenticate_cached("ben", "b") == "ben"


def test_what_changes_while_a_password_is_checked_is_not_remembered(tmp_path: Path) -> None:
    accounts = Accounts()
    one, two = Worker(accounts, tmp_path), Worker(accounts, tmp_path)

    class Removing(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            found = super().get(name, default)
            self.pop(name, None)
            one._invalidate_user_auth_cache(name)
            return found

    accounts.passwords = Removing(accounts.passwords)
    assert two._authenticate_cached("anna", "a") == "anna"  # was right as it was looked at
    assert two._authenticate_cached("anna", "a") is None


def test_without_a_memory_there_is_nothing_to_forget(tmp_path: Path) -> None:
    worker = Worker(Accounts(), tmp_path, cached=False)
    assert worker._authenticate_cached("anna", "a") == "anna"
    assert list(tmp_path.iterdir()) == []
