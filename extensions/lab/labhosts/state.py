# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the builder keeps beside the inventory: keys, known hosts, what the company hands over."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from gpu_stand_in import stand_in

from .machine import Machine
from .topology import BASE, GPU, Host, Topology

# Set by what runs the tests, so that the hosts of `make site` are as they come from Debian.
FOR_TESTS = "MLOPS_LAB_FOR_TESTS"
BYTECODE = "lab_bytecode"
BYTECODE_KEPT = "/run/lab-bytecode"  # as the module itself says
BESIDE_PACKAGES = "usr/lib/python3/dist-packages"


def write_private(path: Path, text: str, mode: int = 0o600) -> bool:
    """Replace a file as a whole; never readable by others, not even for a moment."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        path.chmod(mode)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    Path(name).replace(path)
    return True


def compiled_once() -> dict[str, tuple[str, int]]:
    """What spares a host of tests to compile Ansible's modules at every task."""
    text = Path(__file__).with_name(f"{BYTECODE}.py").read_text(encoding="utf-8")
    return {
        f"{BESIDE_PACKAGES}/{BYTECODE}.py": (text, 0o644),
        f"{BESIDE_PACKAGES}/{BYTECODE}.pth": (f"import {BYTECODE}\n", 0o644),
    }


def recorded_gpus(host: Host) -> dict[str, tuple[str, int]]:
    """The cards that a host plays, as its stand-in for the driver reads them."""
    root = stand_in.combined([path.read_text(encoding="utf-8") for path in host.gpus], host.name)
    place = str(stand_in.PLACE).lstrip("/")
    return {f"{place}/{name}": (text, 0o644) for name, text in stand_in.files_of(root).items()}


class State:
    def __init__(self, topology: Topology, machine: Machine) -> None:
        self.topology = topology
        self.machine = machine
        self.directory = topology.inventory / ".state"
        self.ssh = self.directory / "ssh"
        self.key = self.ssh / "id_ed25519"
        self.known_hosts = self.ssh / "known_hosts"
        self.ssh_config = self.ssh / "config"

    def prepare(self) -> None:
        self.ssh.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self._keygen(self.key, f"{self.topology.project} lab")
        lines = []
        for host in self.topology.hosts:
            key = self._host_key(host)
            self._keygen(key, host.name)
            public = key.with_suffix(".pub").read_text(encoding="utf-8").split()
            lines.append(f"{host.name},{host.ip} {public[0]} {public[1]}\n")
        write_private(self.known_hosts, "".join(lines))
        write_private(self.ssh_config, self._config())

    def files_for(self, host: Host) -> dict[str, tuple[str, int]]:
        """Path in the host -> content and mode: what makes a host out of the image."""
        key = self._host_key(host)
        public = key.with_suffix(".pub")
        return {
            "root/.ssh/authorized_keys": (self._read(self.key.with_suffix(".pub")), 0o600),
            "etc/ssh/ssh_host_ed25519_key": (self._read(key), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (self._read(public), 0o644),
            "etc/hosts": (self.topology.etc_hosts(host), 0o644),
            **(compiled_once() if os.environ.get(FOR_TESTS) else {}),
            **(recorded_gpus(host) if host.gpus else {}),
        }

    def ssh_command(self, host: Host) -> list[str]:
        return ["ssh", "-F", str(self.ssh_config), host.name]

    def inventory_text(self) -> str:
        """A plain inventory of the base hosts, for those who have none of their own."""
        lines = [
            "all:",
            "  vars:",
            "    ansible_user: root",
            f"    ansible_ssh_private_key_file: {self.key}",
            f"    ansible_ssh_common_args: -o 'UserKnownHostsFile=\"{self.known_hosts}\"'"
            " -o StrictHostKeyChecking=yes",
            "  hosts:",
        ]
        for host in self.topology.hosts:
            if host.kind in (BASE, GPU):
                lines += [f"    {host.name}:", f"      ansible_host: {host.ip}"]
        return "\n".join(lines) + "\n"

    def forget(self) -> None:
        """Only what this builder made; the rest of .state belongs to the site."""
        for directory in (self.ssh, self.directory / "company"):
            shutil.rmtree(directory, ignore_errors=True)
        (self.directory / "company-ca.crt").unlink(missing_ok=True)
        company = self.topology.inventory / "group_vars" / "all" / "company.yml"
        for page in (company, company.with_name("company_mariadb.yml")):
            page.unlink(missing_ok=True)
        for directory in (self.directory, company.parent, company.parent.parent):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()

    def _host_key(self, host: Host) -> Path:
        return self.ssh / "host_keys" / host.name

    def _keygen(self, path: Path, comment: str) -> None:
        public = path.with_suffix(".pub")
        if path.exists() and public.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        # The private half is renamed last, so that a killed run leaves no half of a pair.
        new = path.with_name(f"new-{path.name}")
        new.unlink(missing_ok=True)
        self.machine.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)]
        )
        new.with_suffix(".pub").replace(public)
        new.replace(path)

    def _config(self) -> str:
        lines = []
        for host in self.topology.hosts:
            lines += [f"Host {host.name}", f"  HostName {host.ip}"]
        lines += [
            "Host *",
            "  User root",
            f'  IdentityFile "{self.key}"',
            "  IdentitiesOnly yes",
            f'  UserKnownHostsFile "{self.known_hosts}"',
            "  StrictHostKeyChecking yes",
            "  LogLevel ERROR",
            "  ConnectTimeout 10",
        ]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text(encoding="utf-8")
