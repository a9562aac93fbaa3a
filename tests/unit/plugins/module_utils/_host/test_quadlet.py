# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers as units: where they lie, and which podman makes units of them."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host.quadlet import (
    podman_problem,
    quadlet_of,
)


def test_the_text_lies_where_podman_looks() -> None:
    found = quadlet_of({"name": "mlops-workload-web-0.service", "text": "[Container]"})
    assert found.texts == {"/etc/containers/systemd/mlops-workload-web-0.container": "[Container]"}
    assert found.unit == "mlops-workload-web-0.service"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "podman is not installed"),
        ("podman version 4.3.1", "podman is 4.3, and quadlets need 4.4 or later"),
        ("podman version 4.4.0", ""),
        ("podman version 5.4.2\n", ""),
    ],
)
def test_a_host_without_quadlets_is_refused_in_a_sentence(version: str, said: str) -> None:
    told = podman_problem(version, "gpu1")
    assert (said in told) if said else told == ""
