# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The address of a host is the most particular one that is given."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.filter.host_address import host_address


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"inventory_hostname": "ctl1"}, "ctl1"),
        ({"inventory_hostname": "ctl1", "ansible_host": "192.0.2.1"}, "192.0.2.1"),
        (
            {"inventory_hostname": "c", "ansible_host": "192.0.2.1", "mlops_address": "ctl.lan"},
            "ctl.lan",
        ),
        ({"inventory_hostname": "ctl1", "mlops_address": ""}, "ctl1"),
    ],
)
def test_the_most_particular_address_wins(variables: dict[str, Any], address: str) -> None:
    assert host_address(variables) == address


@pytest.mark.parametrize("given", ["ctl1", None, {}])
def test_other_things_than_a_host_are_refused(given: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="variables"):
        host_address(given)
