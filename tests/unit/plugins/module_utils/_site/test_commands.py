# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told to type acts on the site of this run, and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.commands import commands

ROOT = "/srv/checkout"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/srv/checkout/inventories/lab", "make remove"),
        ("/srv/checkout/inventories/lab/", "make remove"),
        ("/srv/checkout/inventories/mine", "make remove INVENTORY=inventories/mine"),
        ("/srv/checkout/sites/mine/hosts.yml", "make remove INVENTORY=sites/mine/hosts.yml"),
        ("/etc/sites/mine", "make remove INVENTORY=/etc/sites/mine"),
        ("/srv/check", "make remove INVENTORY=/srv/check"),
        ("/etc/my site", "make remove INVENTORY='/etc/my site'"),
    ],
)  # fmt: skip
def test_in_a_checkout_make_is_told_the_inventory(source: str, told: str) -> None:
    assert commands([source], ROOT, True)["remove"] == told


def test_an_installed_collection_has_no_make() -> None:
    told = commands(["/etc/sites/mine"], ROOT, False)
    assert told["remove"] == "ansible-playbook -i /etc/sites/mine mlops.onprem.remove"
    assert told["check"] == "ansible-playbook -i /etc/sites/mine mlops.onprem.site --check --diff"


def test_several_inventories_are_all_named() -> None:
    told = commands(["/etc/a", "/etc/b"], ROOT, True)
    assert told["assess"] == "ansible-playbook -i /etc/a -i /etc/b mlops.onprem.assess"


def test_a_checkout_behind_a_link_is_the_same_checkout(tmp_path: Path) -> None:
    (tmp_path / "checkout/inventories/mine").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "checkout")
    told = commands([f"{tmp_path}/link/inventories/mine"], f"{tmp_path}/checkout", True)
    assert told["remove"] == "make remove INVENTORY=inventories/mine"
