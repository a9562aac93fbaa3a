# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hundred devices of the benchmark of fleets, and one with the agent as it is.

nginx has the configuration of the roles, TLS is mutual and real.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import Clock, Own
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import (
    Folder,
    Keeper,
    Trust,
    by_openssl,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device import polling
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.agent import (
    Agent,
    Local,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    FleetSettings,
    expiry_of,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.fleet import (
    Gateway as Entrance,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.orders import (
    Answer,
    Order,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError

from tests.benchmarks import channel_world as world
from tests.benchmarks import fleet
from tests.integration import fleet_gateway
from tests.unit.plugins.module_utils._trust.companies import CLIENT, Holder, authority, leaf


@pytest.fixture(scope="module", autouse=True)
def nginx() -> None:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The benchmark with a hundred devices."""
    return fleet.measure(tmp_path_factory.mktemp("fleet"), 100, processes=1, scale=0.02)


def test_a_good_release_reaches_everybody_who_is_there(report: dict[str, Any]) -> None:
    assert fleet.problems(report) == []
    assert (report["good"]["serving"], report["offline"]) == (98, 2)
    assert report["good"]["deferred"] == 2
    assert report["good"]["contacts_per_device"] <= 3.0


def test_a_bad_one_is_stopped_in_the_first_ring_and_undone(report: dict[str, Any]) -> None:
    bad = report["bad"]
    assert list(bad["verdicts"].items()) == [("ring_canary", "FAIL")]
    assert (bad["serving"], bad["share_exposed"]) == (0, 0.02)


def test_every_document_that_was_handed_out_stands_in_the_log(report: dict[str, Any]) -> None:
    assert report["handed_out"] == report["handed_out_by_devices"] > 400


class Device:
    """Rollouts of a device without a model server."""

    def __init__(self) -> None:
        self.phase = "none"

    def do(self, order: Order) -> Answer:
        if order.step != "look":
            self.phase = {"stage": "staged", "activate": "activated", "commit": "committed"}[
                order.step
            ]
        return Answer("edge1", order.step, True, self.phase, order.digest)

    def forget(self) -> None:
        return None

    def locked(self) -> str:
        return ""

    def probe(self, _model: str, _digest: str, _number: int) -> int:
        return 0


def written(place: Path, holder: Holder) -> None:
    """The certificate of a device, as a renewal puts it."""
    for name, text in (("host.crt", holder.pem), ("host.key", holder.key)):
        fresh = place / f".{name}"
        fresh.write_text(text)
        fresh.replace(place / name)


def test_the_agent_itself_against_the_real_gateway(tmp_path: Path) -> None:
    """Also with a certificate that is renewed, one that has expired and a gateway that is gone."""
    key, online = world.Key.make(), world.Key.make()
    root = world.signed(world.root(1, [key], [online]).to_bytes(), [key])
    place, state = tmp_path / "device", tmp_path / "state"
    place.mkdir()
    state.mkdir()
    device = Device()
    with fleet_gateway.running(tmp_path / "gateway", authority("Site")) as gateway:
        settings = FleetSettings(
            f"https://localhost:{gateway.port}",
            "edge1",
            world.SITE,
            world.RING,
            str(place / "ca.crt"),
            str(place / "host.crt"),
            str(place / "host.key"),
            str(place / "root.json"),
            str(state),
        )
        (place / "ca.crt").write_text(gateway.ca.pem)
        written(place, leaf(gateway.ca, ["edge1"], purposes=[CLIENT], end=10))
        own = Own(world.SITE, world.RING, world.CLASS)
        trust = Trust(Keeper(Folder(state)), own, by_openssl)
        trust.enrol(root)
        local = Local(
            lambda: Clock(world.NOW, True),
            lambda: "",
            lambda: expiry_of(settings.certificate_file, polling.run),
        )
        entrance = Entrance(settings)
        agent = Agent("edge1", world.RING, entrance.contact, trust, device, local, state)

        def told() -> dict[str, Any]:
            found: dict[str, Any] = json.loads((gateway.written / "state/edge1.json").read_bytes())
            return found

        agent.poll()
        assert told()["models"] == {}
        assert abs(told()["certificate_expires"] - time.time() - 10 * 86400) < 3600
        for number, step in enumerate(("activate", "commit"), start=1):
            channel = world.channel(number, world.target(step=step, deadline=60.0))
            signed = world.signed(channel.to_bytes(), [online])
            gateway.publish(f"channel/{world.RING}.json.sig", signed.signatures)
            gateway.publish(f"channel/{world.RING}.json", signed.data)
            agent.poll()
        assert told()["models"]["defects"]["answer"]["phase"] == "committed"
        assert told()["sequence"] == 2
        written(place, leaf(gateway.ca, ["edge1"], purposes=[CLIENT], end=20))
        agent.poll()
        assert abs(told()["certificate_expires"] - time.time() - 20 * 86400) < 3600
        written(place, leaf(gateway.ca, ["edge1"], purposes=[CLIENT], begin=-2, end=-1))
        with pytest.raises(RegistryError, match="does not accept this device's certificate"):
            agent.poll()
        written(place, leaf(authority("Strangers"), ["edge1"], purposes=[CLIENT]))
        with pytest.raises(RegistryError, match="does not accept this device's certificate"):
            agent.poll()
        (place / "ca.crt").write_text(authority("Another").pem)
        with pytest.raises(RegistryError, match="is not accepted"):
            agent.poll()
        (place / "ca.crt").write_text(gateway.ca.pem)
        written(place, leaf(gateway.ca, ["edge1"], purposes=[CLIENT]))
        agent.poll()
    with pytest.raises(Interrupted):
        agent.poll()
