#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a host's disk, memory and network are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_benchmark
short_description: Measure how fast a host's disk, memory and network are
version_added: 0.2.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Measures the latency of C(fdatasync), sequential writing and reading, and random reading below a
    directory; how fast memory is copied; and, between two hosts that are named, the network.
  - Loads the host while it runs, so nothing calls it unless asked.
  - Writes only into one file of a given size. The file has no name, so that its space is free again
    when the module ends, even if it is interrupted or killed.
  - Uses C(fio) for C(fdatasync) and for reading where it is installed, else its own measurement,
    and says which.
  - Needs nothing on the host but Python 3.9 or newer.
  - M(mlops.onprem.capacity_benchmark_compare) compares hosts of equal shape.
options:
  directory:
    description: Directory on the file system to be measured.
    type: path
    default: /var/lib
  measures:
    description: What is measured.
    type: list
    elements: str
    choices: [disk, memory, network]
    default: [disk, memory]
  file_mib:
    description:
      - Size of the file in MiB. Larger files get past the caches of disks and controllers.
    type: int
    default: 256
  margin_mib:
    description: Space in MiB that stays free. Nothing is written where less would remain.
    type: int
    default: 1024
  seconds:
    description: Seconds for each measurement. A slow disk gets up to three times as long.
    type: float
    default: 5
  use_fio:
    description: Use C(fio) where it is installed.
    type: bool
    default: true
  peers:
    description: IP addresses of the hosts that may take part. Any other is refused.
    type: list
    elements: str
    default: []
  peer:
    description: IP address of the other host. One of O(peers).
    type: str
  role:
    description: Whether this host waits for the other one and receives, or connects and sends.
    type: str
    choices: [serve, connect]
  address:
    description: IP address of this host on which it waits, with O(role=serve).
    type: str
  port:
    description: TCP port on which the receiving host waits.
    type: int
    default: 5299
  network_mib:
    description: Most MiB that are sent.
    type: int
    default: 1024
  wait:
    description: Seconds to wait for the other host.
    type: float
    default: 20
attributes:
  check_mode:
    support: full
    description: Measures nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
notes:
  - Both hosts of a pair have to run the task at the same time, so O(role) and O(peer) come from
    variables of the hosts, and the number of forks is at least two.
  - Both hosts of a pair need the same O(network_mib).
seealso:
  - module: mlops.onprem.capacity_benchmark_compare
  - module: mlops.onprem.capacity_facts
"""

EXAMPLES = r"""
- name: Measure disk and memory of all hosts
  mlops.onprem.capacity_benchmark:
    directory: /var/lib
  become: true
  register: measured

- name: Measure the network from gpu-2 to gpu-1
  mlops.onprem.capacity_benchmark:
    measures: [network]
    peers: [192.0.2.11, 192.0.2.12]
    role: "{{ 'serve' if inventory_hostname == 'gpu-1' else 'connect' }}"
    address: 192.0.2.11
    peer: "{{ '192.0.2.12' if inventory_hostname == 'gpu-1' else '192.0.2.11' }}"
  when: inventory_hostname in ['gpu-1', 'gpu-2']
"""

RETURN = r"""
capacity_benchmark:
  description: What was measured. Empty in check mode.
  returned: always
  type: dict
  contains:
    directory:
      description: Where the disk was measured.
      type: str
      returned: when the disk was measured
    sequential_write:
      description:
        - C(mib_per_s), C(mib) written in C(seconds), whether past the page cache (C(direct)), and
          the C(tool).
      type: dict
      returned: when the disk was measured
    fdatasync:
      description: C(p50_ms), C(p99_ms) (none below 100 samples), C(samples) and C(tool).
      type: dict
      returned: when the disk was measured
    sequential_read:
      description: The same as for C(sequential_write).
      type: dict
      returned: when the disk was measured
    random_read:
      description: The same, and C(iops) and C(p99_ms), for 4 KiB at a time, one after the other.
      type: dict
      returned: when the disk was measured
    memory_copy:
      description:
        - C(mib_per_s), read and written counted once each, of C(mib) copied by one processor; a
          lower bound of what the memory can do.
      type: dict
      returned: when memory was measured
    network:
      description:
        - C(mbit_per_s), C(mib) that arrived in C(seconds), the C(peer), and the C(direction).
      type: dict
      returned: when the network was measured
    unknown:
      description: What could not be measured as wanted (C(what)) and why (C(reason)).
      type: list
      elements: dict
      returned: when something was measured
    took_ms:
      description: Milliseconds that all measurements took.
      type: int
      returned: when something was measured
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed import measure
from ansible_collections.mlops.onprem.plugins.module_utils._supply.speed.judge import BenchmarkError

# Smaller files stay in caches, larger ones take long; none may fill a disk by a slip of the pen.
BOUNDS = {
    "file_mib": (16, 65536),
    "margin_mib": (64, 2**30),
    "seconds": (0.1, 120),
    "network_mib": (1, 16384),
    "port": (1024, 65535),
    "wait": (1, 300),
}


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/lib"},
            "measures": {
                "type": "list",
                "elements": "str",
                "choices": ["disk", "memory", "network"],
                "default": ["disk", "memory"],
            },
            "file_mib": {"type": "int", "default": 256},
            "margin_mib": {"type": "int", "default": 1024},
            "seconds": {"type": "float", "default": 5},
            "use_fio": {"type": "bool", "default": True},
            "peers": {"type": "list", "elements": "str", "default": []},
            "peer": {"type": "str"},
            "role": {"type": "str", "choices": ["serve", "connect"]},
            "address": {"type": "str"},
            "port": {"type": "int", "default": 5299},
            "network_mib": {"type": "int", "default": 1024},
            "wait": {"type": "float", "default": 20},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    for name, (least, most) in BOUNDS.items():
        if not least <= wanted[name] <= most:
            module.fail_json(
                msg=f"{name} must be between {least} and {most}, but is {wanted[name]}."
            )
    if "network" in wanted["measures"]:
        for name in ("role", "peer", *(("address",) if wanted["role"] == "serve" else ())):
            if not wanted[name]:
                module.fail_json(msg=f"{name} is missing; measuring the network needs it.")
    if module.check_mode:
        module.exit_json(changed=False, capacity_benchmark={})
    try:
        found = measured(wanted)
    except BenchmarkError as error:
        module.fail_json(msg=f"{error}.")
        return
    module.exit_json(changed=False, capacity_benchmark=found)


def measured(wanted: dict[str, Any]) -> dict[str, Any]:
    """All that is wanted, one after the other."""
    begin = time.monotonic()
    found: dict[str, Any] = {}
    unknown: list[dict[str, str]] = []
    if "network" in wanted["measures"]:
        # First, so that both hosts of a pair are there at the same time.
        limits = (wanted["peers"], wanted["network_mib"], wanted["seconds"], wanted["wait"])
        if wanted["role"] == "serve":
            found["network"] = measure.serve(
                wanted["address"], wanted["port"], wanted["peer"], *limits
            )
        else:
            found["network"] = measure.connect(wanted["peer"], wanted["port"], *limits)
    if "disk" in wanted["measures"]:
        disk, unknown = measure.disk(
            wanted["directory"],
            wanted["file_mib"],
            wanted["margin_mib"],
            wanted["seconds"],
            wanted["use_fio"],
        )
        found.update(directory=wanted["directory"], **disk)
    if "memory" in wanted["measures"]:
        try:
            found["memory_copy"] = measure.memory_copy(min(2.0, wanted["seconds"]))
        except BenchmarkError as error:
            unknown.append({"what": "memory_copy", "reason": str(error)})
    return {**found, "unknown": unknown, "took_ms": round((time.monotonic() - begin) * 1000)}


if __name__ == "__main__":
    main()
