# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU hosts really restarted by the role gpu_driver, one after the other, out of Slurm meanwhile.

    python -m tests.soak.driver_reboot [--fresh]

A container has no kernel to restart, and the role refuses it. QEMU starts three guests of Debian
with systemd, SSH and Slurm, without KVM: ``gpu1``, ``gpu2`` and ``control``, the last of the GPU
hosts, are nodes, and ``control`` is the controller besides. The role's tasks of restarting are
played over SSH, as in any run; slurm.conf and cgroup.conf are the texts that the role job_scheduler
writes, without the accounting, which needs a database.

closed   The window is not open: nobody is restarted, and each host says why.
turns    It is open. A job runs on gpu1: the host waits for its end, restarts, is looked at, and
         given back to Slurm when what served on it does again; only then gpu2. That comes back
         without its planned card: it stays drained, and control, whose turn is next, is not
         restarted.
mended   gpu2, whose card is there again, and control wait for a restart: both work afterwards. The
         controller starts a minute later than its host, which is given back all the same.

Stand-ins, as there is no card: what the driver is found to be before the run, what serves on gpu1,
and nvidia-smi, which notes in which start of the host it was asked.

Needs root. Both roots are kept and used as copies; --fresh makes them anew. Prints JSON lines and
the counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._slurm.nodes import Node
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.settings import (
    DISABLED,
    Controller,
    Partition,
    Settings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._slurm.texts import (
    cgroup_conf,
    slurm_conf,
)
from labhosts.machine import CACHE

from tests.soak.guest import KERNEL, bootable, emulated, kernel_of, ran, trixie
from tests.soak.roots import CannotRun, Count, run, say

ROOT = Path(__file__).resolve().parents[2]
PLACE = CACHE / "driver_reboot"
GUESTS = "guests"  # by this name ssh knows the key that all of them have
PACKAGES = (
    *("dbus", "iproute2", "systemd", "systemd-sysv", "udev", "kmod", "initramfs-tools"),
    *("openssh-server", "python3", "e2fsprogs", KERNEL),
    *("munge", "slurm-client", "slurmctld", "slurmd"),
)
CONTROL = "control"
NODES = ("gpu1", "gpu2")
NAMES = (*NODES, CONTROL)
CARDS = {name: f"GPU-{name}-0000-0000-0000-000000000000" for name in NAMES}
ADDRESSES = {name: f"192.0.2.{number}" for number, name in enumerate(NAMES, 11)}
OF_SSH, OF_SLURM = "52:54:00:00:00:01", "52:54:00:00:01"
LONGEST = 1800
BOOT_ID = "/proc/sys/kernel/random/boot_id"
PENDING = "580 waits on the disk"
REASON = "mlops: its host is restarted"
LATE = "/var/tmp/late"  # where it is, the controller starts late, and so does what serves
SERVING = "mlops-workload-chat-0.service"
# A stand-in for what serves on gpu1. It is started when it has answered.
SERVES = f"""[Unit]
ConditionHost={NODES[0]}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStartPost=/bin/sh -c 'test ! -e {LATE} || until test -e /run/answers; do sleep 1; done'
"""
SMI = f"""#!/bin/sh
cat {BOOT_ID} >> /root/asked
echo "GPU 0: A100 (UUID: CARD)"
"""
# On a busy machine a guest is slow: nothing of it may hang on how long it takes.
PATIENT = """[Service]
TimeoutStartSec=30min
WatchdogSec=0
"""
# Of systemd a guest has what runs services and restarts the host. Everything else costs it most of
# the time of a start. No part of the list is looked at by what is shown here.
MASKED = (
    *("dev-hugepages.mount", "dev-mqueue.mount", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_reap.service", "fstrim.timer"),
    *("getty.target", "kmod-static-nodes.service", "ldconfig.service"),
    *(
        "proc-sys-fs-binfmt_misc.automount",
        "remote-fs.target",
        "run-lock.mount",
        "sshd-keygen.service",
    ),
    *("sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "tmp.mount"),
    *(f"systemd-ask-password-{kind}.path" for kind in ("console", "wall")),
    *(
        f"systemd-{name}.socket"
        for name in ("creds", "hostnamed", "pcrextend", "pcrlock", "sysext")
    ),
    *(f"systemd-udevd-{kind}.socket" for kind in ("control", "kernel")),
    *("systemd-initctl.socket", "systemd-tmpfiles-clean.timer"),
    *(
        f"systemd-{name}.service"
        for name in (
            *("binfmt", "firstboot", "hibernate-clear", "hwdb-update", "journal-catalog-update"),
            *("journal-flush", "machine-id-commit", "modules-load", "pcrmachine", "pcrphase"),
            *("pcrphase-sysinit", "pstore", "random-seed", "remount-fs", "sysctl", "sysusers"),
            *("tmpfiles-setup", "tmpfiles-setup-dev", "tmpfiles-setup-dev-early", "tpm2-setup"),
            *("tpm2-setup-early", "udev-trigger", "udevd", "update-done", "user-sessions"),
        )
    ),
)
JOURNAL = "[Journal]\nStorage=volatile\nReadKMsg=no\n"
INITRD = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")
# Each card has an address of its own on the bus, by which the host knows what it is for.
NETWORK = """[Unit]
Before=network.target network-online.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/guest-network
"""
PARAMETERS = "quiet systemd.show_status=0 mitigations=off audit=0"
UPDATED = re.compile(r"update_node: node (\S+) state set to (\w+)")


@dataclass(frozen=True)
class Seen:
    """What a run came to. ``before`` and ``after``: the start of each host, by its name."""

    code: int
    said: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    asked: Mapping[str, Sequence[str]]  # in which starts nvidia-smi was asked
    updates: Sequence[tuple[str, str]]  # what the controller was told of nodes, in its order
    nodes: Mapping[str, str]  # state and reason at the end
    waiting: str = ""  # the start of gpu1 while it was draining and its job still ran
    job: str = ""  # how the job ended
    serving: str = ""  # the node gpu1 a minute after it was looked at, while nothing serves there

    def restarted(self) -> list[str]:
        return [name for name in NAMES if self.before[name] != self.after[name]]

    def looked_at(self, name: str) -> bool:
        return list(self.asked.get(name, ())) == [self.after[name]]

    def works(self, name: str) -> bool:
        """Whether the node takes jobs. Slurm forgets why it did not a while later."""
        return self.nodes[name].partition(" ")[0] == "idle"


Claims = list[tuple[str, bool]]


def of_closed(seen: Seen) -> Claims:
    """The window is not open."""
    words = [f"{name} has to be restarted ({PENDING}) and is not: it is " for name in NAMES]
    return [
        ("nobody is restarted", seen.restarted() == []),
        ("each says why", all(word in seen.said for word in words)),
        ("nothing is told to Slurm", list(seen.updates) == []),
        ("ends well", seen.code == 0),
    ]


def of_turns(seen: Seen) -> Claims:
    """gpu1 comes back well, gpu2 ill; control is after it."""
    first, second = NODES
    ill = (
        f"{second} was restarted and is not well: the plan uses the GPU {CARDS[second]}, which"
        " nvidia-smi -L does not list. It stays drained, and no host after it is restarted."
    )
    left = f"{CONTROL} has to be restarted ({PENDING}) and is not: {second} failed before its turn"
    told = [(name, "DRAIN" in state) for name, state in seen.updates]
    return [
        ("two are restarted", seen.restarted() == [first, second]),
        ("one after the other", told == [(first, True), (first, False), (second, True)]),
        ("waits for the job", seen.waiting == seen.before[first]),
        ("the job ends by itself", seen.job == "COMPLETED"),
        ("looked at in the new start", seen.looked_at(first) and seen.looked_at(second)),
        ("waits for what serves", seen.serving == f"drained {REASON}"),
        ("given back", seen.works(first)),
        ("the ill one stays drained", seen.nodes[second] == f"drained {REASON}"),
        ("says what is wrong", seen.code == 2 and ill in seen.said),
        ("the next says why not", left in seen.said),
    ]


def of_mended(seen: Seen) -> Claims:
    """gpu2, whose card is there again, and the controller wait for a restart."""
    (_first, second) = NODES
    told = [(name, "DRAIN" in state) for name, state in seen.updates]
    # What was told before, to give gpu2 back and to drain control, went with the old journal.
    return [
        ("both are restarted", seen.restarted() == [second, CONTROL]),
        ("the controller is waited for", told == [(CONTROL, False)]),
        ("looked at in the new start", seen.looked_at(second) and seen.looked_at(CONTROL)),
        ("all work", all(seen.works(name) for name in NAMES)),
        ("ends well", seen.code == 0),
    ]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def slurm_texts() -> dict[str, str]:
    """What the role job_scheduler writes for these hosts, without the accounting."""
    nodes = [
        Node(name, name, ADDRESSES[name], 1, 1, 1, memory_mib=512, groups=("gpu",))
        for name in NAMES
    ]
    settings = Settings(
        cluster="guests",
        controllers=(Controller(CONTROL, ADDRESSES[CONTROL]),),
        partitions=(Partition("main", default=True),),
        state_dir="/var/lib/slurm/slurmctld",
        spool_dir="/var/lib/slurm/slurmd",
        cgroup=DISABLED,
        extra=(("MinJobAge", "86400"),),
    )
    kept = [
        line
        for line in slurm_conf(settings, nodes).splitlines()
        if not line.startswith(("Accounting", "Priority"))
    ]
    return {"slurm.conf": "\n".join(kept) + "\n", "cgroup.conf": cgroup_conf(settings)}


def written(root: Path) -> None:
    """What makes each guest the host that its name says."""
    etc = root / "etc"
    (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    lines = [f"  {OF_SSH}) ip address add 10.0.2.15/24 dev $name ;;\n"]
    for number, name in enumerate(NAMES, 11):
        more = f"ip address add {ADDRESSES[name]}/24 dev $name"
        lines.append(f"  {OF_SLURM}:{number}) {more} ;;\n")
    script = root / "usr/local/sbin/guest-network"
    script.write_text(
        "#!/bin/sh\nip link set lo up\ncd /sys/class/net\n"
        + "for name in *; do\n  ip link set $name up\n"
        + '  case "$(cat $name/address)" in\n'
        + "".join(lines)
        + "  esac\ndone\n"
    )
    script.chmod(0o755)
    (etc / "systemd/system/guest-network.service").write_text(NETWORK)
    rows = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
    (etc / "hosts").write_text("127.0.0.1 localhost\n" + "".join(rows))
    (etc / "slurm").mkdir(exist_ok=True)
    for name, text in slurm_texts().items():
        (etc / "slurm" / name).write_text(text)
    only = f"ConditionHost={CONTROL}\n"
    late = f"ExecStartPre=/bin/sh -c 'test ! -e {LATE} || sleep 60'\n"
    for unit, where, more in (("slurmctld", only, late), ("slurmd", "", "")):
        place = etc / f"systemd/system/{unit}.service.d"
        place.mkdir(parents=True, exist_ok=True)
        # A network that is not there yet is waited for as long as it takes. By the name of what all
        # services are told it would take the place of that.
        (place / "unit.conf").write_text(
            f"[Unit]\n{where}StartLimitIntervalSec=0\n"
            "Wants=munge.service\nAfter=munge.service\n"
            f"[Service]\nRestart=on-failure\nRestartSec=3\n{more}"
        )
    wants = etc / "systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (etc / "systemd/system" / SERVING).write_text(SERVES)
    for unit in ("guest-network.service", SERVING):
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")
    for unit in ("ssh", "munge", "slurmctld", "slurmd"):
        with contextlib.suppress(FileExistsError):
            (wants / f"{unit}.service").symlink_to(f"/usr/lib/systemd/system/{unit}.service")


def lightened(root: Path) -> None:
    """Without what only costs an emulated guest time."""
    etc = root / "etc"
    for path, text in (
        ("systemd/system/service.d/guest.conf", PATIENT),
        ("systemd/journald.conf.d/guest.conf", JOURNAL),
        ("initramfs-tools/conf.d/guest.conf", "MODULES=list\n"),
        ("initramfs-tools/modules", "\n".join(INITRD) + "\n"),
        ("fstab", ""),
    ):
        (etc / path).parent.mkdir(parents=True, exist_ok=True)
        (etc / path).write_text(text)
    generators = (root / "usr/lib/systemd/system-generators").iterdir()
    masked = [*(f"system/{unit}" for unit in MASKED)]
    for name in [*masked, *(f"system-generators/{one.name}" for one in generators)]:
        link = etc / "systemd" / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    ran(root, "update-initramfs", "-u")


def prepared(fresh: bool) -> tuple[Path, Path]:
    """The root of the guests, and the key that opens them."""
    made = trixie(PLACE, "host", PACKAGES, fresh)
    root, key = PLACE / "work" / "root", PLACE / "work" / "key"
    shutil.rmtree(root.parent, ignore_errors=True)
    root.parent.mkdir(parents=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(made), str(root)], check=True)
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    ssh = root / "root" / ".ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(key.with_suffix(".pub"), ssh / "authorized_keys")
    guests = key.with_name("guests")
    subprocess.run([*words[:-1], str(guests)], check=True, stdin=subprocess.DEVNULL)
    known = f"{GUESTS} {guests.with_suffix('.pub').read_text()}"
    key.with_name("known_hosts").write_text(known)
    for each in (root / "etc/ssh").glob("ssh_host_*"):
        each.unlink()
    for suffix in ("", ".pub"):
        shutil.copy(guests.with_suffix(suffix), root / f"etc/ssh/ssh_host_ed25519_key{suffix}")
    written(root)
    lightened(root)
    return root, key


def known_by(key: Path) -> list[str]:
    """Options of ssh by which the guests, which share one key of a host, are known."""
    known = key.with_name("known_hosts")
    said = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", f"HostKeyAlias={GUESTS}")
    return [word for option in said for word in ("-o", option)]


@dataclass(frozen=True)
class Host:
    """A guest over SSH."""

    name: str
    port: int
    key: Path

    def ask(self, command: str, check: bool = True) -> str:
        words = [*known_by(self.key), "-o", "ConnectTimeout=20"]
        done = subprocess.run(
            ["ssh", "-q", *words, f"-i{self.key}", f"-p{self.port}", "root@127.0.0.1", command],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise CannotRun(f"{self.name} does not do {command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def until(self, command: str, wanted: str) -> str:
        """What a command says once it says what is wanted, or at last."""
        end = time.monotonic() + LONGEST
        while True:
            told = self.ask(command, check=False)
            if re.fullmatch(wanted, told) or time.monotonic() > end:
                return told
            time.sleep(5)

    def start(self) -> str:
        """Which start of the host this is; waits until it answers."""
        told = self.until(f"cat {BOOT_ID}", r"\S+")
        if not told:
            raise CannotRun(f"{self.name} did not answer; see {PLACE}/work/{self.name}.log")
        return told

    def card(self, uuid: str) -> None:
        """Have nvidia-smi tell this card, and forget when it was asked."""
        path, text = "/usr/local/bin/nvidia-smi", SMI.replace("CARD", uuid)
        self.ask(f"rm -f /root/asked; cat > {path} <<'END'\n{text}END\nchmod 755 {path}; sync")

    def asked(self) -> list[str]:
        return self.ask("cat /root/asked", check=False).split()


@contextlib.contextmanager
def guests(root: Path, key: Path, fresh: bool) -> Iterator[dict[str, Host]]:
    """The hosts, as long as they are needed."""
    disk = bootable(root)
    between = f"socket,id=lan,mcast=230.0.0.1:{free_port(socket.SOCK_DGRAM)},localaddr=127.0.0.1"
    hosts = {name: Host(name, free_port(), key) for name in NAMES}
    with contextlib.ExitStack() as stack:
        for number, host in enumerate(hosts.values(), 11):
            outside = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{host.port}-:22"
            command = emulated(
                root,
                [disk],
                fresh and host.name == NAMES[0],
                f"systemd.hostname={host.name} {PARAMETERS}",
                # What a guest writes is kept in a file of its own as long as QEMU runs.
                *("-snapshot", "-netdev", outside, "-netdev", between),
                *("-device", f"virtio-net-pci,netdev=net,mac={OF_SSH}"),
                *("-device", f"virtio-net-pci,netdev=lan,mac={OF_SLURM}:{number}"),
            )
            stack.enter_context(running(command, root.parent / f"{host.name}.log"))
        yield hosts


@contextlib.contextmanager
def running(command: list[str], path: Path) -> Iterator[None]:
    """A program, as long as it is needed; what it says is in the file."""
    with path.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def inventory_of(hosts: Mapping[str, Host], pending: Sequence[str], window: str) -> dict[str, Any]:
    """The hosts, and those whose driver waits for a restart."""
    found = {"id": "gpu_driver.pending", "severity": "warn", "found": PENDING}
    rows = {
        name: {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(host.key),
            "ansible_ssh_common_args": " ".join(known_by(host.key)),
            "ansible_python_interpreter": "/usr/bin/python3",
            "__gpu_driver_now": {
                "verdict": {"findings": [found] if name in pending else [], "version": "580"},
                "gpu_driver": {"container": False},
            },
            "mlops_placement": [
                {"workload": "a", "replica": 0, "gpus": [0], "gpu_ids": [CARDS[name]]}
            ],
        }
        for name, host in hosts.items()
    }
    told = {
        "gpu_driver_reboot": True,
        "gpu_driver_reboot_window": window,
        "gpu_driver_reboot_timeout": LONGEST,
        "job_scheduler_drain_seconds": LONGEST,
    }
    return {"gpu": {"hosts": rows, "vars": told}, "scheduler": {"hosts": {CONTROL: {}}}}


@dataclass
class Campaign:
    """The hosts, and what is looked at on them."""

    folder: Path
    hosts: dict[str, Host]
    job: str = ""
    waiting: str = ""
    serving: str = ""

    def state(self, name: str) -> str:
        """State and reason of a node, as the controller knows it."""
        return self.hosts[CONTROL].ask(f"sinfo -h -N -n {name} -o '%T %E'")

    def updates(self) -> list[tuple[str, str]]:
        """What the controller was told of nodes since its start."""
        text = self.hosts[CONTROL].ask("journalctl -u slurmctld -o cat --no-pager")
        return UPDATED.findall(text)

    def submit(self) -> None:
        """A job on gpu1 that ends when a file is there."""
        wrap = "until [ -e /run/end ]; do sleep 1; done"
        word = f"sbatch --parsable -w {NODES[0]} -o /dev/null --wrap '{wrap}'"
        self.job = self.hosts[CONTROL].ask(word)
        told = self.hosts[CONTROL].until(f"squeue -h -j {self.job} -o %T", "RUNNING")
        if told != "RUNNING":
            raise CannotRun(f"the job does not run: {told}")

    def end_job_once_drained(self) -> None:
        """Let the job end once its host takes no new ones, and note that it did not restart."""
        if self.job and not self.waiting and self.state(NODES[0]) == f"draining {REASON}":
            self.waiting = self.hosts[NODES[0]].ask(f"cat {BOOT_ID}")
            self.hosts[NODES[0]].ask("touch /run/end")

    def answer_once_asked(self) -> None:
        """Let what serves on gpu1 do so a minute after its card was asked in the new start."""
        first = self.hosts[NODES[0]]
        if not self.waiting or self.serving or not first.ask("cat /root/asked", check=False):
            return
        time.sleep(60)
        self.serving = self.state(NODES[0])
        first.ask("touch /run/answers")

    def played(self, pending: Sequence[str], window: str) -> tuple[int, str]:
        """Play the role's own tasks of restarting on the guests."""
        inventory = inventory_of(self.hosts, pending, window)
        (self.folder / "hosts.json").write_text(json.dumps(inventory))
        include = {"name": "mlops.onprem.gpu_driver", "tasks_from": "restart"}
        task = {"name": "Restart", "ansible.builtin.include_role": include}
        play = [{"hosts": "gpu", "gather_facts": False, "become": False, "tasks": [task]}]
        (self.folder / "play.json").write_text(json.dumps(play))
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={self.folder / 'hosts.json'}",
            str(self.folder / "play.json"),
        ]
        path = self.folder / "run.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
                | {"ANSIBLE_NOCOLOR": "1"},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            while process.poll() is None:
                self.end_job_once_drained()
                self.answer_once_asked()
                time.sleep(5)
        return process.returncode, " ".join(path.read_text("utf-8").split())

    def run(self, pending: Sequence[str], window: str, listed: Mapping[str, str]) -> Seen:
        """One run, with the cards that nvidia-smi tells on each host."""
        for name, host in self.hosts.items():
            host.card(listed[name])
        before = {name: host.start() for name, host in self.hosts.items()}
        old = len(self.updates())
        code, said = self.played(pending, window)
        after = {name: host.start() for name, host in self.hosts.items()}
        control = self.hosts[CONTROL]
        if before[CONTROL] != after[CONTROL]:
            old = 0  # the journal is that of the new start
        for name in NAMES:  # slurmd reports a while after the start of its host
            control.until(f"sinfo -h -N -n {name} -o %T", "idle|drained")
        words = f"scontrol show job {self.job} | grep -o 'JobState=[A-Z_]*'" if self.job else "true"
        return Seen(
            code,
            said,
            before,
            after,
            asked={name: host.asked() for name, host in self.hosts.items()},
            updates=self.updates()[old:],
            nodes={name: self.state(name) for name in NAMES},
            waiting=self.waiting,
            serving=self.serving,
            job=control.ask(words).removeprefix("JobState="),
        )


def hours(begin: int, end: int) -> str:
    """A window from so many hours from now to so many."""
    now = datetime.now()
    return "-".join((now + timedelta(hours=off)).strftime("%H:%M") for off in (begin, end))


def campaign(fresh: bool) -> int:
    count = Count()
    began = time.monotonic()
    root, key = prepared(fresh)
    release = kernel_of(root)
    lost = {**CARDS, NODES[1]: "GPU-of-another-host"}

    def judge(case: str, seen: Seen, claims: Claims, since: float) -> None:
        more = {"updates": seen.updates, "nodes": seen.nodes}
        say(step=case, seconds=round(time.monotonic() - since, 1), **more)
        for step, good in claims:
            told = {} if good else {"said": seen.said[-2500:], "seen": repr(seen)[:1500]}
            count.judge(f"{case}: {step}", good, **told)

    with guests(root, key, fresh) as hosts:
        for host in hosts.values():
            host.start()
        control = hosts[CONTROL]
        up = {name: control.until(f"sinfo -h -N -n {name} -o %T", "idle") for name in NAMES}
        count.judge("Slurm runs", set(up.values()) == {"idle"}, nodes=up)
        say(step="first start", seconds=round(time.monotonic() - began, 1))
        played = Campaign(root.parent, hosts)

        since = time.monotonic()
        seen = played.run(NAMES, hours(2, 4), CARDS)
        judge("closed", seen, of_closed(seen), since)

        since = time.monotonic()
        hosts[NODES[0]].ask(f"touch {LATE}; sync")
        played.submit()
        seen = played.run(NAMES, hours(-2, 8), lost)
        judge("turns", seen, of_turns(seen), since)

        since = time.monotonic()
        control.ask(f"touch {LATE}; sync")
        seen = played.run(NAMES[1:], hours(-2, 8), CARDS)
        judge("mended", seen, of_mended(seen), since)
        said = [control.ask(f"srun -w {name} hostname") for name in NAMES]
        count.judge("jobs run on all", said == list(NAMES), said=said)
    return count.end(began, kernel=release)


def clear() -> None:
    """Leave what the guests said."""
    shutil.rmtree(PLACE / "work" / "root", ignore_errors=True)
    (PLACE / "work" / "disk.img").unlink(missing_ok=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no guest stays
    sys.exit(run(__doc__, campaign, clear, sys.argv[1:]))
