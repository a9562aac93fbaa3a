# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration alone: made and signed by the step, rolled out ring by ring, and taken back.

The step runs as the playbook runs it, against Debian's registry and with real keys; the devices are
those of test_rollout_pull, with real agents, steps and signatures. Model servers are doubles.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.action import rollout_turn
from ansible_collections.mlops.onprem.plugins.module_utils._release import oci, release
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import RegistryClient
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import KeyRing
from ansible_collections.mlops.onprem.plugins.module_utils._release.resolve import resolve
from ansible_collections.mlops.onprem.plugins.module_utils._release.signature import Claims
from ansible_collections.mlops.onprem.plugins.module_utils._release.statement import Evaluation
from ansible_collections.mlops.onprem.plugins.modules import rollout
from ansible_collections.mlops.onprem.plugins.plugin_utils import step
from mlops_pipeline import signing

from tests.integration import fleet_gateway
from tests.integration.conftest import RunModule, free_port
from tests.integration.registry_server import RegistryServer, running
from tests.integration.test_rollout_pull import GOLDEN, RINGS, Site
from tests.unit.plugins.module_utils._release.conftest import MODEL, SITE
from tests.unit.plugins.module_utils._trust.companies import authority

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "model.onnx": b"onnx" * 1000,
    "config.json": json.dumps({"tolerance": 1e-4, "classes": ["a", "b"]}).encode(),
    "golden.json": GOLDEN,
}
JUDGED = Evaluation(
    "", "0f1e2d", "", "", "", {}, {"accuracy": 0.95}, 1e-3, "2026-01-31T12:00:00Z", ""
)


def key_in(place: Path) -> Path:
    """A private key on P-256."""
    command = "openssl ecparam -name prime256v1 -genkey -noout -out"
    subprocess.run([*command.split(), place], check=True, capture_output=True)
    return place


@dataclass
class Desk:
    """A registry, a key, and what a person asks for."""

    place: Path
    server: RegistryServer
    signer: signing.PemSigner = field(init=False)

    def __post_init__(self) -> None:
        self.key = key_in(self.place / "sign.key")
        self.signer = signing.PemSigner(self.key.read_text())

    @property
    def client(self) -> RegistryClient:
        return self.server.client(f"models/{MODEL}")

    def base(self, version: str, evaluated: bool = True, counter: int = 1) -> str:
        """Publish a version of the model, as the step publish does."""
        blobs = {
            name: oci.Descriptor.of(release.media_type(name), data) for name, data in FILES.items()
        }
        for name, data in FILES.items():
            self.client.push_blob(blobs[name], io.BytesIO(data))
        self.client.push_blob(oci.EMPTY_CONFIG, io.BytesIO(oci.EMPTY))
        made = release.build_manifest(blobs, MODEL, version, "run", "2026-01-01T00:00:00Z")
        digest = self.client.push_manifest(made.to_bytes())
        files = {name: blob.digest for name, blob in blobs.items()}
        named = signing.attest(self.client, digest, files, self.signer, JUDGED) if evaluated else ""
        claims = Claims(SITE, MODEL, version, "onnx", 0, "", named)
        signing.sign_release(self.client, digest, self.signer, claims, now=counter)
        self.client.push_manifest(made.to_bytes(), f"v{version}")
        return digest

    def configure(self, change: Any, check: bool = False, **more: Any) -> dict[str, Any]:
        """The step, as the role runs it on the controller."""
        config = {
            "model_name": MODEL,
            "site": SITE,
            "base": {"version": "7"},
            "change": change,
            "registry": {
                "url": f"http://127.0.0.1:{self.server.port}",
                "repository": "models",
                "user": "push",
            },
            "release_keys": [{"public_key": self.signer.public_key}],
            **more,
        }
        return step.run(
            {
                "step": "configure",
                "python": sys.executable,
                "folder": str(ROOT / "pipeline"),
                "config": config,
                "secrets": {
                    "PIPELINE_REGISTRY_PASSWORD": "p",
                    "PIPELINE_SIGNING_KEY": "" if "signing" in more else self.key.read_text(),
                },
                "timeout": 300,
                "check": check,
            }
        )

    def refused(self, change: Any, **more: Any) -> str:
        before = sorted(path for path in self.server.data.rglob("*") if path.is_file())
        said = self.configure(change, **more)
        assert not said["ok"], said
        assert before == sorted(path for path in self.server.data.rglob("*") if path.is_file())
        return str(said["error"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with running(tmp_path_factory.mktemp("registry"), free_port()) as found:
        yield found


@pytest.fixture
def desk(server: RegistryServer, tmp_path: Path) -> Desk:
    place = tmp_path / "desk"
    place.mkdir()
    found = Desk(place, server)
    # Tests share the registry, and each begins with version 7 anew.
    tags = server.data / "docker/registry/v2/repositories/models" / MODEL / "_manifests/tags"
    for tag in tags.glob("v*"):
        subprocess.run(["rm", "-r", tag], check=True)
    return found


def test_a_configuration_is_a_release_with_the_same_model(desk: Desk) -> None:
    base = desk.base("7")
    asked = {"serving": {"threads": 2}, "tolerance": 5e-4}
    seen = desk.configure(asked, check=True)
    assert (seen["changed"], seen["model_version"]) == (True, "7-config.1")
    assert desk.client.manifest("v7-config.1") is None
    made = desk.configure(asked)
    assert (made["changed"], made["model_version"]) == (True, "7-config.1")
    assert made["base"] == {"digest": base, "version": "7"}
    assert (
        made["changes"]
        == [
            {"key": "serving.threads", "before": "null", "after": "2"},
            {"key": "tolerance", "before": "0.0001", "after": "0.0005"},
        ]
        == seen["changes"]
    )
    found = resolve(
        "models", desk.server.client, KeyRing.of(desk.signer.public_key), SITE, MODEL, "7-config.1"
    )
    assert found.release.digest == made["digest"]
    files = {name: blob.digest for name, blob in found.release.files.items()}
    old = {name: oci.digest_of(data) for name, data in FILES.items()}
    assert {name for name in files if files[name] != old[name]} == {"config.json"}
    assert made["fetched"] == found.release.files["config.json"].size < 200
    told = json.loads(desk.client.small_blob(found.release.files["config.json"]))
    assert told == {"classes": ["a", "b"], "serving": {"threads": 2}, "tolerance": 5e-4}
    claims = found.verdict.claims
    assert claims is not None
    assert claims.counter > 1
    # What was judged of the model goes with it, and names the new files.
    ring = KeyRing.of(desk.signer.public_key)
    said = signing.attested(desk.client, made["digest"], files, ring, claims.statement)
    assert said.evaluation.metrics == {"accuracy": 0.95}


def test_the_same_command_finds_what_it_made_and_another_one_goes_on_from_it(desk: Desk) -> None:
    desk.base("7", evaluated=False)
    first = desk.configure({"serving": {"threads": 2}})
    again = desk.configure({"serving": {"threads": 2}})
    assert (again["changed"], again["digest"]) == (False, first["digest"])
    # Of what was rolled out: the version of the model stays, and keys that are not named do.
    on: dict[str, Any] = {"base": {"digest": first["digest"]}}
    second = desk.configure({"serving": {"truth_requests": 100}}, **on)
    assert second["model_version"] == "7-config.2"
    assert [one["key"] for one in second["changes"]] == ["serving.truth_requests"]
    nothing = desk.configure({"serving": {"threads": 2}}, **on)
    assert (nothing["changed"], nothing["changes"]) == (False, [])
    assert nothing["digest"] == first["digest"]
    # Back to the first one is a release of its own: devices take no older one.
    third = desk.configure({"serving": {"threads": 2}})
    assert third["model_version"] == "7-config.3"
    bare = desk.configure({"serving": None}, base={"digest": third["digest"]})
    assert bare["model_version"] == "7-config.4"
    assert bare["changes"] == [{"key": "serving.threads", "before": "2", "after": "null"}]


def test_what_is_no_configuration_of_this_model_is_refused_and_nothing_is_pushed(
    desk: Desk,
) -> None:
    desk.base("7")
    for change, sentence in (
        ({}, "rollout_config: wanted a mapping"),
        ("[1]", "rollout_config: wanted a mapping"),
        ("threads=2", "is not JSON"),
        ({"classes": ["x"]}, "rollout_config.classes: this belongs to the model"),
        ({"serving": 3}, "rollout_config.serving: found '3', wanted a mapping"),
        ({"serving": {"threds": 2}}, "rollout_config.serving.threds is not known; known are thr"),
        ({"serving": {"threads": 65}}, "rollout_config.serving.threads is '65', wanted a whole"),
        ({"serving": {"threads": "2"}}, "rollout_config.serving.threads is '2', wanted a whole"),
        (
            {"serving": {"drift_window_seconds": True}},
            "drift_window_seconds is 'True', wanted a nu",
        ),
        (
            {"tolerance": 0.01},
            "rollout_config.tolerance: found '0.01', wanted a number from 0 to 0.001",
        ),
        ({"tolerance": None}, "rollout_config.tolerance: found 'None'"),
        (
            {"prediction_edges": [2, 1]},
            "rollout_config.prediction_edges must be finite numbers, ea",
        ),
        ({"prediction_edges": [1, 2]}, "waive it with a reason (rollout_gates.waive.shift)"),
    ):
        assert sentence in desk.refused(change), (change, desk.refused(change))
    planned = {"planned": {"memory_mib": 64, "request_max_mib": 8}}
    said = desk.refused({"serving": {"truth_requests": 1_000_000}}, **planned)
    assert "the model would need 300.4 MiB at least, and 64 MiB are planned for it" in said
    said = desk.refused({"serving": {"request_max_mib": 16}}, **planned)
    assert "found 16, and devices take requests of 8 MiB at most" in said
    assert desk.configure({"prediction_edges": [1, 2]}, waived=["shift"])["ok"]
    assert "set rollout_version or rollout_digest" in desk.refused({"tolerance": 0}, base={})
    assert "Found no version 8" in desk.refused({"tolerance": 0}, base={"version": "8"})


def test_a_command_signs_it_and_one_with_another_key_is_refused(desk: Desk) -> None:
    desk.base("7")
    command = ["openssl", "dgst", "-sha256", "-sign", str(desk.key)]
    made = desk.configure({"tolerance": 0}, signing={"kind": "command", "command": command})
    assert made["ok"], made
    ring = KeyRing.of(desk.signer.public_key)
    found = resolve("models", desk.server.client, ring, SITE, MODEL, digest=made["digest"])
    assert found.verdict.key_id == desk.signer.key_id
    other = key_in(desk.place / "other.key")
    signs = {"kind": "command", "command": [*command[:-1], str(other)]}
    said = desk.configure({"tolerance": 1e-5}, signing=signs)
    assert not said["ok"]
    assert "key" in said["error"]
    assert desk.client.manifest("v7-config.2") is None
    # A base that somebody else has signed is none.
    theirs = signing.PemSigner(other.read_text()).public_key
    sentence = desk.refused({"tolerance": 1e-5}, release_keys=[{"public_key": theirs}])
    assert "which release_keys does not list" in sentence


@pytest.fixture
def fleet(
    desk: Desk, tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    try:
        fleet_gateway.program()
    except fleet_gateway.NoNginx as reason:
        pytest.skip(str(reason))
    with fleet_gateway.running(tmp_path / "gateway", authority("Site")) as gateway:
        ring = KeyRing.of(desk.signer.public_key)
        found = Site(tmp_path, gateway, run_module, RINGS, (), ring, desk.server.client)
        monkeypatch.setattr(rollout, "time", SimpleNamespace(time=found.now))
        monkeypatch.setattr(rollout_turn, "time", SimpleNamespace(sleep=found.wait))
        found.wait(0)
        yield found


def configurations(site: Site) -> list[dict[str, Any]]:
    """What the release that is current on each device says of serving."""
    return [
        json.loads(
            (phone.bench.store.root / f"models/{MODEL}/current/config.json").read_text()
        ).get("serving", {})
        for phone in site.phones.values()
    ]


def test_a_configuration_goes_through_the_rings_and_a_bad_one_comes_back(
    desk: Desk, fleet: Site
) -> None:
    base = desk.base("7")
    assert fleet.turn((base, 1))["outcome"] == "COMPLETED"

    def roll_out(change: dict[str, Any], bad: bool = False) -> dict[str, Any]:
        brought = fleet.run(
            "rollout", {"ask": "status", "model": MODEL, "directory": str(fleet.journals)}
        )["release"]
        made = desk.configure(change, base={"digest": brought})
        assert made["ok"], made
        ring = KeyRing.of(desk.signer.public_key)
        found = resolve("models", desk.server.client, ring, SITE, MODEL, digest=made["digest"])
        if bad:
            fleet.bad.add(made["digest"])
        target = {
            **{name: made[name] for name in ("digest", "model_version", "size", "changes")},
            "counter": found.counter,
            "base": made["base"]["version"],
            "base_digest": made["base"]["digest"],
            "fetched": made["fetched"],
        }
        done = fleet.turn((made["digest"], found.counter), about=target)
        done["made"] = made
        return done

    done = roll_out({"serving": {"threads": 2}})
    assert (done["outcome"], done["exit_code"]) == ("COMPLETED", 0), done["report"]
    assert configurations(fleet) == [{"threads": 2}] * 3
    assert done["report"]["from"] == base
    assert done["report"]["base"] == "7"
    page = Path(done["page"]).read_text()
    assert "<code>serving.threads</code></td><td><code>null</code></td><td><code>2</code>" in page
    # Only what differs was fetched: the model lies there already.
    for ring in done["report"]["rings"]:
        for host in ring["hosts"]:
            assert host["moved"] == done["made"]["fetched"]

    bad = roll_out({"serving": {"threads": 3, "truth_requests": 5}}, bad=True)
    assert (bad["outcome"], bad["exit_code"]) == ("ROLLED_BACK", 10), bad["report"]
    assert configurations(fleet) == [{"threads": 2}] * 3
    assert fleet.served() == {done["made"]["digest"]}
    assert [one["key"] for one in bad["report"]["changes"]] == [
        "serving.threads",
        "serving.truth_requests",
    ]
