# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that Slurm 24.11 reads: slurm.conf, gres.conf, cgroup.conf and slurmdbd.conf."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .nodes import DENIED, Card, Node
from .settings import DISABLED, V1, Controller, Database, Partition, Settings

MARK = "# Written by mlops.onprem; changes made here are overwritten."
SLURM_USER = "slurm"
# Without cgroups nothing holds a job in its place; its memory is at least looked at this often.
UNENFORCED = (
    ("ProctrackType", "proctrack/linuxproc"),
    ("TaskPlugin", "task/affinity"),
    ("JobAcctGatherType", "jobacct_gather/linux"),
    ("JobAcctGatherFrequency", "30"),
    ("JobAcctGatherParams", "OverMemoryKill"),
)
ENFORCED = (
    ("ProctrackType", "proctrack/cgroup"),
    ("TaskPlugin", "task/cgroup,task/affinity"),
    ("JobAcctGatherType", "jobacct_gather/cgroup"),
    ("JobAcctGatherFrequency", "30"),
    ("PrologFlags", "Contain"),
)


def _lines(pairs: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{key}={value}" for key, value in pairs if str(value) != ""]


def slurm_conf(settings: Settings, nodes: Sequence[Node]) -> str:
    """The configuration that the controller hands to every node."""
    head = settings.controllers[0]
    lines = [MARK]
    lines += _lines(
        [
            ("ClusterName", settings.cluster),
            *(("SlurmctldHost", f"{one.hostname}({one.address})") for one in settings.controllers),
            ("SlurmctldPort", settings.controller_port),
            ("SlurmdPort", settings.node_port),
            ("SrunPortRange", settings.client_ports),
            ("SlurmUser", SLURM_USER),
            ("SlurmctldParameters", "enable_configless"),
            ("SlurmctldPidFile", "/run/slurmctld/slurmctld.pid"),
            ("StateSaveLocation", settings.state_dir),
            ("SlurmdSpoolDir", settings.spool_dir),
        ]
    )
    lines += ["", "# Who speaks is proven by munge; what is said is not encrypted."]
    lines += _lines([("AuthType", "auth/munge"), ("CredType", "cred/munge")])
    lines += ["", "# A node gives away cores, memory and GPUs one by one."]
    lines += _lines(
        [
            ("SelectType", "select/cons_tres"),
            ("SelectTypeParameters", "CR_Core_Memory"),
            ("DefMemPerCPU", _memory_per_cpu(nodes)),
            ("GresTypes", f"gpu,{DENIED}"),
            *(UNENFORCED if settings.cgroup == DISABLED else ENFORCED),
            ("TaskProlog", settings.task_prolog),
        ]
    )
    lines += ["", "# Every job belongs to a team, whose limits hold."]
    lines += _lines(
        [
            ("AccountingStorageType", "accounting_storage/slurmdbd"),
            ("AccountingStorageHost", head.address),
            ("AccountingStoragePort", settings.accounting_port),
            ("AccountingStorageTRES", f"gres/gpu,gres/{DENIED}"),
            ("AccountingStorageEnforce", "associations,limits,qos"),
            # The comment of a job is what says which workload it is, after it has ended, too.
            ("AccountingStoreFlags", "job_comment"),
            ("PriorityType", "priority/multifactor"),
            ("PriorityWeightFairshare", 100000),
            ("PriorityWeightAge", 1000),
        ]
    )
    lines += ["", "# A node that is lost gives its jobs back to the queue."]
    lines += _lines(
        [
            ("SlurmctldTimeout", 120),
            ("SlurmdTimeout", settings.node_timeout),
            ("JobRequeue", 1),
            ("ReturnToService", 2),
            ("HealthCheckProgram", settings.health_program),
            ("HealthCheckInterval", settings.health_interval if settings.health_program else ""),
            ("HealthCheckNodeState", "ANY" if settings.health_program else ""),
            # Without a program Slurm would look for /bin/mail at every job.
            ("MailProg", settings.mail_program or "/bin/true"),
        ]
    )
    if settings.extra:
        lines += ["", "# job_scheduler_extra_settings", *_lines(settings.extra)]
    lines += ["", *(_node(node) for node in nodes)]
    lines += [_partition(one, nodes) for one in settings.partitions]
    return "\n".join(lines) + "\n"


def _memory_per_cpu(nodes: Sequence[Node]) -> object:
    """What a job gets that asks for no memory: its share of the node that has the least."""
    shares = [node.job_memory_mib // max(1, node.job_cpus) for node in nodes]
    return min(shares) if shares else ""


def _node(node: Node) -> str:
    pairs: list[tuple[str, object]] = [
        ("NodeName", node.name),
        ("NodeHostname", node.hostname if node.hostname != node.name else ""),
        ("NodeAddr", node.address),
        ("CPUs", node.cpus),
        ("Sockets", node.sockets),
        ("CoresPerSocket", node.cores_per_socket),
        ("ThreadsPerCore", node.threads_per_core),
        ("RealMemory", node.memory_mib),
        ("MemSpecLimit", node.spec_memory_mib or ""),
        ("CoreSpecCount", node.spec_cores or ""),
        ("Gres", node.gres),
        ("State", "UNKNOWN"),
    ]
    return " ".join(_lines(pairs))


def _partition(one: Partition, nodes: Sequence[Node]) -> str:
    names = [node.name for node in nodes if not one.groups or set(one.groups) & set(node.groups)]
    pairs: list[tuple[str, object]] = [
        ("PartitionName", one.name),
        ("Nodes", ",".join(names) if names else '""'),
        ("Default", "YES" if one.default else "NO"),
        ("MaxTime", one.max_time),
        ("DefaultTime", one.default_time),
        ("AllowAccounts", ",".join(one.teams)),
        ("PriorityTier", one.priority),
        ("State", "UP"),
    ]
    return " ".join(_lines(pairs))


def gres_conf(nodes: Sequence[Node]) -> str:
    """The device files of each node. Nothing is found out by Slurm itself."""
    lines = [MARK, "AutoDetect=off"]
    for node in nodes:
        for kind in node.types:
            lines += _gres(node.name, kind, [card for card in node.cards if card.type == kind])
        if node.denied:
            lines.append(f"NodeName={node.name} Name={DENIED} File={','.join(node.denied)}")
    return "\n".join(lines) + "\n"


def _gres(node: str, kind: str, cards: Sequence[Card]) -> list[str]:
    start = f"NodeName={node} Name=gpu Type={kind}"
    whole = [card.files[0] for card in cards if len(card.files) == 1]
    lines = [f"{start} File={','.join(whole)}"] if whole else []
    return lines + [
        f"{start} MultipleFiles={','.join(card.files)}" for card in cards if len(card.files) > 1
    ]


def cgroup_conf(settings: Settings) -> str:
    """What holds a job in its place."""
    if settings.cgroup == DISABLED:
        return f"{MARK}\nCgroupPlugin=disabled\n"
    pairs: list[tuple[str, object]] = [
        ("CgroupPlugin", f"cgroup/{settings.cgroup}"),
        ("CgroupMountpoint", settings.cgroup_mountpoint if settings.cgroup == V1 else ""),
        ("ConstrainCores", "yes"),
        ("ConstrainDevices", "yes"),
        ("ConstrainRAMSpace", "yes"),
        # Version 1 counts swap only where the kernel was started so.
        ("ConstrainSwapSpace", "no" if settings.cgroup == V1 else "yes"),
    ]
    return "\n".join([MARK, *_lines(pairs)]) + "\n"


def slurmdbd_conf(settings: Settings, database: Database, where: Controller) -> str:
    """The one file with a secret; the user of Slurm alone may read it."""
    pairs: list[tuple[str, object]] = [
        ("AuthType", "auth/munge"),
        ("DbdHost", where.hostname),
        ("DbdAddr", where.address),
        ("DbdPort", settings.accounting_port),
        ("PidFile", "/run/slurmdbd/slurmdbd.pid"),
        ("SlurmUser", SLURM_USER),
        ("StorageType", "accounting_storage/mysql"),
        ("StorageHost", database.host),
        ("StoragePort", database.port),
        ("StorageLoc", database.name),
        ("StorageUser", database.user),
        ("StoragePass", database.password),
        ("StorageParameters", f"SSL_CA={database.ca_file}" if database.ca_file else ""),
    ]
    return "\n".join([MARK, *_lines(pairs)]) + "\n"
