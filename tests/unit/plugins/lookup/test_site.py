"""The lookup reads hosts as Ansible knows them: inventory first, and the play before it."""

from __future__ import annotations

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


def test_what_is_wrong_is_said_in_a_sentence(ask: Asking) -> None:
    with pytest.raises(AnsibleLookupError, match="the site computes no other_thing"):
        ask("ctl1", "other_thing")
