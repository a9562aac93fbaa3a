# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the ports that are asked for are free, and what a person can do about who holds one."""

from __future__ import annotations

import re

from .._findings.finding import ANY_ADDRESS, FAIL, Demand, PortNeed
from .._supply.facts import Listener
from .host_sums import Host

EVERYWHERE = frozenset((ANY_ADDRESS, "::", "*", ""))
# Units that carry logins, containers, other people's jobs or the host itself: whoever stops one to
# free a port may lose the host, or everything that runs in it.
NEVER_STOPPED = re.compile(
    r"(ssh|sshd|dropbear|docker|containerd|podman|crio|kubelet|k3s|lxc|lxd|libvirtd|cron|crond|atd|"
    r"user@|user-|session-|init|dbus|systemd-|getty|serial-getty|networkd|networking|NetworkManager|"
    r"networkd-dispatcher|ifup|wpa_supplicant|openvpn|wg-quick|strongswan|tailscaled|cloud-|"
    r"qemu-guest-agent|open-vm-tools|cockpit|teleport|salt-minion|puppet|chef-client|polkit|rsyslog|"
    r"supervisor|pve|snapd)"
)


def how_to_free(listener: Listener) -> str:
    """What a person can do about a listener on our port, never more than that program's own end.

    A unit is named for stopping only if the listener is its main process: what a login or a job
    started lies in the unit of the login or of the jobs.
    """
    unit, pid, process, port = listener.unit, listener.pid, listener.process, listener.port
    if not pid:
        return f"find it with: ss -lntup 'sport = :{port}'"
    if pid == "1":
        return f"find the socket that systemd holds with: systemctl list-sockets '*:{port}'"
    if process in ("docker-proxy", "rootlessport", "rootlesskit"):
        program = "docker" if process == "docker-proxy" else "podman"
        return f"find its container with: {program} ps --filter publish={port}"
    if listener.main and unit.endswith(".service") and not NEVER_STOPPED.match(unit):
        return f"stop it with: systemctl disable --now {unit}"
    return f"end it where it was started (see it with: ps -o pid,ppid,user,args -p {pid})"


def clashes(need: PortNeed, protocol: str, port: int, address: str) -> bool:
    """Whether two sockets cannot both listen."""
    if need.protocol != protocol or need.port != port:
        return False
    mine = "127.0.0.1" if need.address == "localhost" else need.address
    return mine == address or mine in EVERYWHERE or address in EVERYWHERE


def judge_ports(work: Host) -> None:
    """Whether each port that is asked for is free, and asked for once."""
    wanted: list[tuple[Demand, PortNeed]] = [
        (demand, port) for demand in work.demand for port in demand.ports
    ]
    blind = any(row.what.startswith("listeners") for row in work.facts.unknown)
    seen: set[tuple[str, int, str]] = set()
    for demand, need in wanted:
        for listener in work.facts.listeners:
            if listener.ours or not clashes(
                need, listener.protocol, listener.port, listener.address
            ):
                continue
            if (demand.service, need.port, need.protocol) in seen:
                continue
            seen.add((demand.service, need.port, need.protocol))
            process, unit = listener.process, listener.unit
            holder = (
                f"{process} (process {listener.pid or None}"
                + (f", {unit})" if unit and unit != process else ")")
                if process
                else "a process that could not be identified"
                + ("; assess with become: true" if blind else "")
            )
            other_port = _other_port(work, need, (demand.role,))
            if listener.command and listener.command != process and not listener.main:
                holder += f": {listener.command}"
            work.add(
                "port",
                FAIL,
                f"port {need.port}/{need.protocol} on {listener.address} is held by {holder}",
                f"port {need.port} free for {demand.service}",
                how_to_free(listener) + (f", or {other_port}" if other_port else ""),
            )
    for index, (demand, need) in enumerate(wanted):
        for other, rival in wanted[:index]:
            if (demand.unit and demand.unit == other.unit) or (
                demand.service == other.service and demand.role == other.role
            ):
                continue
            if clashes(need, rival.protocol, rival.port, rival.address):
                other_port = _other_port(work, need, (other.role, demand.role))
                work.add(
                    "port",
                    FAIL,
                    f"port {need.port}/{need.protocol} is asked for by {other.service} and by "
                    f"{demand.service}",
                    "one service a port",
                    "place them on different hosts" + (f", or {other_port}" if other_port else ""),
                )


def _other_port(work: Host, need: PortNeed, roles: tuple[str, ...]) -> str:
    """What gives a service another port, as far as a variable does."""
    names = work.variables(roles, "port")
    return need.remedy or (f"choose another port by {names}" if names else "")
