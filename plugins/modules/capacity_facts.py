#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has, and what already runs on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_facts
short_description: Measure what a host has and what already runs on it
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Measures processors, memory, file systems, block devices, network, GPUs, listening ports and
    the use of memory and processors by service, the platform's own services apart from all others.
  - Only reads, mostly C(/proc) and C(/sys), within about two seconds, over
    which it is measured how busy the processors are. Needs nothing on the host but
    Python 3.9 or newer. GPUs are asked through the driver's library, else through C(nvidia-smi),
    else looked for on the bus.
  - Whatever could not be measured is V(null), and listed with the reason. It is never V(0).
  - The controller adds by how much the clocks differ.
options:
  host:
    description:
      - Name of the host in the inventory, noted with the facts. The controller fills it in.
    type: str
    default: ""
  ask_gpu_driver:
    description:
      - Ask the GPU driver. Waking a card can take seconds on a host without persistence mode.
    type: bool
    default: true
  usage_budget:
    description:
      - Seconds to spend on counting the space that the platform's own directories take. What is not
        counted by then is marked as incomplete.
    type: float
    default: 0.6
  assessment:
    description:
      - Begin an assessment of the host. The facts are kept as C(ansible_facts['mlops_supply']),
        what roles declared about the host earlier is forgotten, and a host that cannot be reached
        or measured does not fail the task, but gets facts that say so.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.read_only]
notes:
  - Without root's rights the owners of other users' sockets are unknown.
"""

EXAMPLES = r"""
- name: Measure the hosts
  mlops.onprem.capacity_facts:
  become: true
  register: measured

- name: Show the memory that can be used
  ansible.builtin.debug:
    msg: "{{ measured.capacity_facts.memory.available_mib }} MiB"
"""

RETURN = r"""
capacity_facts:
  description: Everything that was measured. Memory and disk are in MiB.
  returned: always
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      returned: always
    tool_version:
      description: Version of the collection that measured.
      type: str
      returned: always
    host:
      description: Name of the host in the inventory.
      type: str
      returned: always
    host_id:
      description: Machine id.
      type: str
      returned: always
    hostname:
      description: Name that the host has for itself.
      type: str
      returned: always
    measured_at:
      description: Time of the measurement by the host's clock, in UTC.
      type: str
      returned: always
    took_ms:
      description: Milliseconds that the measurement took on the host.
      type: int
      returned: always
    user_is_root:
      description: Whether everything could be seen.
      type: bool
      returned: always
    clock:
      description:
        - Time of the host as C(epoch), whether it is C(synchronised), and, from the controller,
          C(controller_epoch), the C(offset_seconds) of the host (positive is ahead) and the
          C(uncertainty_seconds) due to the time the measurement took. The offset given is the
          smallest one that explains the measurement.
      type: dict
      returned: always
    os:
      description: C(id), C(version), C(codename) and C(name) of the distribution.
      type: dict
      returned: always
    kernel:
      description: C(release) and C(architecture).
      type: dict
      returned: always
    python:
      description: C(version) and C(executable) of the interpreter in use.
      type: dict
      returned: always
    init:
      description: C(name) of process 1 and whether it is C(systemd_running).
      type: dict
      returned: always
    virtualization:
      description: C(kind) (C(none), C(vm) or C(container)) and C(name).
      type: dict
      returned: always
    secure_boot:
      description: Whether the firmware enforces signatures.
      type: bool
      returned: always
    cpu:
      description:
        - C(model), C(sockets), C(cores), C(threads), C(flags) that matter to inference,
          C(numa_nodes), limits by C(affinity_threads) and C(cgroup_cores), C(usable_cores),
          C(load).
      type: dict
      returned: always
    memory:
      description:
        - C(total_mib), C(available_mib) as the kernel estimates it, C(swap_total_mib),
          C(swap_free_mib), C(hugepage_kib), C(hugepages_total), C(hugepages_free),
          C(cgroup_limit_mib).
      type: dict
      returned: always
    filesystems:
      description:
        - Mounts that can hold data, with C(mount), C(source), C(type), C(device), C(root) (the part
          of the file system that is mounted), C(read_only), C(size_mib), C(available_mib),
          C(inodes), C(inodes_available), C(holds_root).
        - By C(server), C(fsid), C(uuid), C(wwn) and C(pool) it is known which of them are one
          storage.
      type: list
      elements: dict
      returned: always
    uncounted:
      description:
        - Mounts whose room is not counted, with C(mount), C(type), C(source) and the C(reason),
          such as memory, or a network file system that did not answer within three seconds.
      type: list
      elements: dict
      returned: always
    pools:
      description: Thin pools under the file systems, with C(name), C(size_mib), C(available_mib).
      type: list
      elements: dict
      returned: always
    disks:
      description:
        - Block devices with C(name), C(kind), C(device), C(size_mib), C(rotational), C(model),
          C(members), C(carries), C(raid_level), C(raid_degraded), C(mounts), C(holds_root).
      type: list
      elements: dict
      returned: always
    network:
      description:
        - Interfaces with C(name), C(state), C(mac), C(mtu), C(speed_mbit), C(physical), C(bond),
          C(addresses).
      type: list
      elements: dict
      returned: always
    gpus:
      description:
        - C(source) (C(nvml), C(nvidia-smi), C(device-tree), C(pci) or C(none)), C(driver_version),
          C(cuda_version), C(problem), and C(gpus) with model, memory, architecture, PCI link,
          C(minor) (its device file is C(/dev/nvidia<minor>)), MIG mode and instances, ECC, page and
          fabric health, compute mode and use of each card.
          C(memory_shared) is true where a card works in the memory of the host.
      type: dict
      returned: always
    listeners:
      description:
        - Listening sockets with C(protocol), C(address), C(port), C(pid), C(process), C(unit) and
          whether the owner is C(ours).
      type: list
      elements: dict
      returned: always
    services:
      description:
        - Units as C(ours) and C(foreign), each with C(memory_mib), C(cpu_cores) on average over
          C(window_seconds), and C(processes). What processes used that came and went meanwhile
          is a foreign row of its own.
      type: dict
      returned: always
    ours:
      description:
        - What the platform keeps on the host already, as C(directories) with C(path), C(mib),
          C(entries) and C(complete), and C(packages_mib).
      type: dict
      returned: always
    platform:
      description:
        - The C(site) that the host belongs to, if any, the C(roles) that made something on it, the
          systemd C(units) of each, and the certificate of the C(authority) that it trusts first.
      type: dict
      returned: always
    packages:
      description:
        - C(manager), C(broken) packages, whether it is C(locked) or C(interrupted), C(lists), and
          whether the platform is on the host already (C(ours)).
      type: dict
      returned: always
    system_uids_free:
      description: Numbers left for system users.
      type: int
      returned: always
    unknown:
      description: What could not be measured (C(what)) and why (C(reason)).
      type: list
      elements: dict
      returned: always
ansible_facts:
  description: Facts kept for the assessment.
  returned: with O(assessment=true)
  type: dict
  contains:
    mlops_supply:
      description: The same as RV(capacity_facts), or C(host) with C(unreachable) or C(failed).
      type: dict
      returned: with O(assessment=true)
    mlops_platform:
      description: The same as RV(capacity_facts.platform).
      type: dict
      returned: with O(assessment=true)
    mlops_demand:
      description: Empty until roles declare their needs.
      type: list
      elements: dict
      returned: with O(assessment=true)
    mlops_findings:
      description: Empty until roles declare their findings.
      type: list
      elements: dict
      returned: with O(assessment=true)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._supply import TOOL_VERSION
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gather import gather


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": ""},
            "ask_gpu_driver": {"type": "bool", "default": True},
            "usage_budget": {"type": "float", "default": 0.6},
            "assessment": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    facts = gather(
        module.params["host"],
        TOOL_VERSION,
        ask_driver=module.params["ask_gpu_driver"],
        budget=module.params["usage_budget"],
    )
    module.exit_json(changed=False, capacity_facts=facts)


if __name__ == "__main__":
    main()
