# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of the model registry's server that do not need MLflow."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from types import ModuleType

import jinja2
import pytest
import yaml

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

    def __init__(self, connections: int) -> None:
        self.free = threading.Semaphore(connections)

    @contextlib.contextmanager
    def session(self, read_only: bool = True) -> Iterator[bool]:
        if not self.free.acquire(timeout=2):
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
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.2)
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
        assert threads.submit(lambda: session().__enter__()).result(timeout=2) is True


def test_as_many_as_there_are_connections_would_wait_for_each_other() -> None:
    session = admission.Admission(admission.Turns(4, 0)).wrap(Pool(4).session)
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
