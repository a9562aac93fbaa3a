# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels are signed anew without a person, and Prometheus is told how long they hold."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel import publish, renewal
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    parse_channel,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import STALE
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from tests.benchmarks import channel_world as world
from tests.benchmarks.channel_world import NOW, WEEK

from .test_channel_publish import Control, Phone


@pytest.fixture
def control(tmp_path: Path) -> Control:
    made = Control(tmp_path)
    made.root()
    made.tell()
    return made


def told(page: Path) -> dict[str, float]:
    rows = [line.rpartition(" ") for line in page.read_text().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _space, value in rows}


RING = f'{{ring="{world.RING}"}}'
EXPIRES = "mlops_rollout_channel_expires_seconds" + RING


def test_the_same_orders_are_signed_anew_and_prometheus_hears_when_they_expire(
    control: Control, tmp_path: Path
) -> None:
    page = tmp_path / "channels.prom"
    assert renewal.renew(control.publisher(), page) == []
    assert told(page)[EXPIRES] == NOW + WEEK
    before = parse_channel(control.served().data)
    control.now += WEEK / 2
    assert renewal.renew(control.publisher(), page) == [world.RING]
    after = parse_channel(control.served().data)
    assert (after.models, after.next_poll) == (before.models, before.next_poll)
    said = told(page)
    assert said[EXPIRES] == int(control.now) + WEEK
    assert said["mlops_rollout_channel_issued_seconds" + RING] == int(control.now)
    assert said["mlops_rollout_root_expires_seconds"] > control.now
    assert said["mlops_rollout_channel_renewal_failed"] == 0


def test_where_nothing_can_be_signed_the_old_dates_are_told(
    control: Control, tmp_path: Path
) -> None:
    page = tmp_path / "channels.prom"
    control.now += WEEK
    for path in control.own.glob("*.key"):
        path.unlink()
    with pytest.raises(RegistryError, match="online keys"):
        renewal.renew(control.publisher(), page)
    assert told(page)[EXPIRES] == NOW + WEEK
    assert told(page)["mlops_rollout_channel_renewal_failed"] == 1


def test_an_expired_channel_takes_nothing_from_a_device_and_a_fresh_one_heals_it(
    control: Control, tmp_path: Path
) -> None:
    phone = Phone(tmp_path / "device", control)
    assert phone.poll().refusal is None
    control.now += WEEK + 1
    stale = phone.poll()
    assert stale.refusal is not None
    assert stale.refusal.kind == STALE
    assert stale.channel is None
    renewal.renew(control.publisher(), tmp_path / "channels.prom")
    assert phone.poll().refusal is None


def test_the_command_signs_with_the_key_of_the_host(
    control: Control,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [f"--fleet={control.fleet}", f"--keys={control.own}"]
    arguments.append(f"--metrics={tmp_path / 'channels.prom'}")
    # It verifies with openssl, as devices do; these keys are real ones.
    monkeypatch.setattr(time, "time", lambda: control.now + 4 * 86400)
    assert renewal.main(arguments) == 0
    assert capsys.readouterr().out == f"Signed anew: {world.RING}.\n"
    assert renewal.main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert renewal.main(["--fleet=/nonexistent", *arguments[1:]]) == 1
    assert "/nonexistent/root is not there" in capsys.readouterr().err


def test_what_root_makes_belongs_to_whom_its_directory_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _handle, uid, gid: given.append(("file", uid, gid)))
    own = tmp_path.stat()
    publish.put(tmp_path / "one", b"x", 0o600)
    assert given == [("file", own.st_uid, own.st_gid)]

    control = Control(tmp_path / "site")
    (control.own / "0123.key").write_bytes(b"x")
    place = control.own.stat()
    real = Path.lstat

    def of_somebody_else(path: Path) -> Any:
        found = list(real(path))
        found[4] = 12345
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", of_somebody_else)
    handed: dict[str, tuple[int, int]] = {}

    def chown(path: Path, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        handed[Path(path).name] = (uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    control.publisher().hand_over()
    assert handed["0123.key"] == (place.st_uid, place.st_gid)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    handed.clear()
    control.publisher().hand_over()
    assert handed == {}
