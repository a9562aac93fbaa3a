"""The lookup reads hosts as Ansible knows them: inventory first, and the play before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.mlops.onprem.plugins.lookup.site import LookupModule
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOSTS = """\
metadata_db: {hosts: {ctl1: {}}}
object_store: {hosts: {store1: {ansible_host: 10.0.0.3, object_store_port: "{{ 8000 + 1 }}"}}}
control: {hosts: {ctl1: {ansible_host: 10.0.0.1}}, vars: {gateway_port: 8443}}
edge: {hosts: {edge1: {ansible_host: 10.0.0.2}}, vars: {model_serving_port: 9000}}
"""


class Asking:
    def __init__(self, folder: Path) -> None:
        (folder / "hosts.yml").write_text(HOSTS)
        self.loader = DataLoader()
        inventory = InventoryManager(loader=self.loader, sources=[str(folder / "hosts.yml")])
        self.manager = VariableManager(loader=self.loader, inventory=inventory)
        self.inventory = inventory
        self.hostvars = HostVars(inventory, self.manager, self.loader)

    def __call__(self, host: str, name: str, **play: Any) -> Any:
        variables = {
            **self.manager.get_vars(host=self.inventory.get_host(host)),
            "hostvars": self.hostvars,
            **play,
        }
        templar = Templar(loader=self.loader, variables=variables)
        (found,) = LookupModule(loader=self.loader, templar=templar).run([name], variables)
        return found


@pytest.fixture
def ask(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


@pytest.mark.parametrize("host", ["ctl1", "edge1", "store1"])
def test_a_port_in_group_vars_is_the_same_for_every_host(ask: Asking, host: str) -> None:
    assert ask(host, "monitoring_external_url") == "https://10.0.0.1:8443"
    urls = {probe["name"]: probe["url"] for probe in ask(host, "monitoring_probes")}
    assert urls["object_store"] == "https://10.0.0.3:8001"
    assert urls["model_serving"] == "https://10.0.0.2:9000/v2/health/live"


def test_what_the_play_says_goes_before_the_inventory(ask: Asking) -> None:
    assert ask("edge1", "monitoring_external_url", gateway_port=7443) == "https://10.0.0.1:7443"
    assert ask("ctl1", "monitoring_external_url", gateway_port=7443) == "https://10.0.0.1:7443"


def test_a_default_that_a_role_brings_into_the_play_is_not_what_the_play_says(ask: Asking) -> None:
    assert ask("edge1", "monitoring_external_url", gateway_port=443) == "https://10.0.0.1:8443"


def test_what_belongs_to_one_host_stays_with_it(ask: Asking) -> None:
    assert ask("ctl1", "monitoring_server") is True
    assert ask("edge1", "monitoring_server") is False


def test_what_a_run_leaves_beside_the_inventory_is_read_each_time(
    ask: Asking, tmp_path: Path
) -> None:
    assert ask("ctl1", "scheduler_hosts_known") == []
    for place, more in ((tmp_path / ".state", {}), (tmp_path / "own", {"mlops_state_dir": "own"})):
        place.mkdir()
        given = {name: str(place) for name in more}
        for hosts in (["edge1"], ["edge1", "store1"]):
            (place / "scheduler_hosts.json").write_text(json.dumps(hosts))
            assert ask("ctl1", "scheduler_hosts_known", **given) == hosts


def test_a_file_of_a_run_that_cannot_be_read_is_a_sentence(ask: Asking, tmp_path: Path) -> None:
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "workload_hosts.json").write_text("[")
    with pytest.raises(AnsibleLookupError, match=r"workload_hosts\.json, which a run"):
        ask("ctl1", "workload_group")


def test_what_this_run_has_judged_is_read_of_the_host_that_asks(ask: Asking) -> None:
    rows = [{"workload": "chat", "replica": 0}]
    facts = {"mlops_assessment": {"placement": {"edge1": rows}}}
    assert ask("edge1", "placed_here", ansible_facts=facts) == rows
    assert ask("ctl1", "placed_here", ansible_facts=facts) == []


def test_the_public_half_of_a_given_key_is_what_devices_believe(ask: Asking) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    told = ask("edge1", "model_serving_public_key", release_signing_key=private)
    assert told == public.decode()
    with pytest.raises(AnsibleLookupError, match="release_signing_key is not a private key in PEM"):
        ask("edge1", "model_serving_public_key", release_signing_key="no key")


def test_what_is_wrong_is_said_in_a_sentence(ask: Asking) -> None:
    with pytest.raises(AnsibleLookupError, match="the site computes no other_thing"):
        ask("ctl1", "other_thing")
