# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The image of a fresh Debian server: what the installer gives, little more."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import apt_cache
from .errors import LabError
from .machine import CACHE, Machine, say
from .podman import Podman
from .topology import BASE, DATABASES, GPU, MARIADB, POSTGRESQL, SYSTEMS, Host

REPOSITORY = "localhost/mlops-lab-host"
BUILDER = "mlops-lab-image-builder"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# Package lists in the image age: older than this, it is built again.
MAX_AGE_DAYS = 3
_OUR_APT_OPTIONS = ('Acquire::Languages "none";',)
_SERVERS = {POSTGRESQL: "postgresql-17", MARIADB: "mariadb-server"}
_INSTALL_SERVER = """
set -e
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends PACKAGE
rm /usr/sbin/policy-rc.d
"""
GPU_STAND_IN = Path(__file__).resolve().parents[1] / "gpu_stand_in"
MIG = Path(__file__).resolve().parents[3] / "tests" / "fixtures" / "mig"
_GPU_FILES = ("nvml.c", "stand_in.py", "boot.sh", "stand-in-gpus.service", "nvidia-smi")
# Compiled there, so that nothing on the machine itself is needed. (What tcc makes wants a
# stack that can be executed, which glibc refuses.)
_INSTALL_GPU = """
set -e
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends gcc libc6-dev
install -D -m 0644 -t /usr/local/lib/stand-in-gpus /stand-in/stand_in.py /stand-in/nvml.c
install -m 0644 -t /usr/local/lib/stand-in-gpus /geometry/geometry.json
install -m 0755 -t /usr/local/lib/stand-in-gpus /stand-in/boot.sh
install -m 0755 -t /usr/local/bin /stand-in/nvidia-smi
install -m 0644 -t /etc/systemd/system /stand-in/stand-in-gpus.service
cd /usr/local/lib/stand-in-gpus
gcc -shared -fPIC -Wl,-soname=libnvidia-ml.so.1 -o nvml.so nvml.c
DEBIAN_FRONTEND=noninteractive apt-get purge -y -q --auto-remove gcc libc6-dev
systemctl -q enable stand-in-gpus.service
"""
_HOOKS = (
    'rm -f "$1"/etc/ssh/ssh_host_*',
    ': >"$1"/etc/machine-id',
    # Hosts of a lab need not survive a power cut of the machine.
    'echo force-unsafe-io >"$1"/etc/dpkg/dpkg.cfg.d/lab',
    # No console in a container; no apt run of its own in the middle of a test.
    'chroot "$1" systemctl -q mask console-getty.service getty.target '
    "systemd-modules-load.service apt-daily.timer apt-daily-upgrade.timer",
)


@dataclass(frozen=True)
class Recipe:
    mirror: str
    apt_options: tuple[str, ...]
    extra_cas: tuple[tuple[str, str], ...]
    suite: str = SYSTEMS[0]
    packages: tuple[str, ...] = PACKAGES
    hooks: tuple[str, ...] = _HOOKS
    architecture: str = ""  # of this machine

    @classmethod
    def of(cls, machine: Machine, suite: str = SYSTEMS[0]) -> Recipe:
        mirror = os.environ.get("MLOPS_DEBIAN_MIRROR", "http://deb.debian.org/debian").rstrip("/")
        options = (*_OUR_APT_OPTIONS, *machine.apt_options())
        return cls(mirror, options, tuple(sorted(machine.extra_cas().items())), suite)

    @property
    def sources(self) -> list[str]:
        security = os.environ.get("MLOPS_DEBIAN_SECURITY_MIRROR", f"{self.mirror}-security")
        return [
            f"deb {self.mirror} {self.suite} main",
            f"deb {self.mirror} {self.suite}-updates main",
            f"deb {security} {self.suite}-security main",
        ]

    @property
    def tag(self) -> str:
        parts = [self.sources, self.packages, self.apt_options, self.extra_cas, self.hooks]
        if self.architecture:
            parts.append(self.architecture)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        return f"{REPOSITORY}:{self.tag}"

    def command(self, ca_directory: Path, target: str = "-") -> list[str]:
        hooks = [f"--customize-hook={hook}" for hook in self.hooks]
        for name, _text in self.extra_cas:
            place = f"/usr/local/share/ca-certificates/{name}"
            hooks.append(f"--customize-hook=upload {ca_directory / name} {place}")
        if self.extra_cas:
            hooks.append('--customize-hook=chroot "$1" update-ca-certificates >/dev/null 2>&1')
        # Whether this machine runs programs of another architecture, its caller has seen to.
        foreign = [f"--architectures={self.architecture}", "--skip=check/qemu"]
        return [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            *(foreign if self.architecture else ()),
            f"--include={','.join(self.packages)}",
            "--skip=cleanup/apt/lists",  # the hosts start with fresh package lists
            *(f"--aptopt={option}" for option in self.apt_options),
            *hooks,
            self.suite,
            target,
            *self.sources,
        ]


def ensure(machine: Machine, podman: Podman, hosts: Iterable[Host]) -> dict[tuple[str, str], str]:
    """Image by system and kind of host; built where there is none or it is too old."""
    wanted = sorted({(host.system, host.kind) for host in hosts})
    names: dict[tuple[str, str], str] = {}
    recipes = {system: Recipe.of(machine, system) for system, _kind in wanted}
    for system, recipe in recipes.items():
        names[system, BASE] = recipe.name
        if not _usable(podman, recipe.name):
            _build_base(machine, podman, recipe)
            _remove_superseded(podman, [Recipe.of(machine, one).name for one in SYSTEMS])
    for system, kind in wanted:
        if kind in DATABASES:
            recipe = recipes[system]
            names[system, kind] = f"{REPOSITORY}-{kind}:{recipe.tag}"
            if not _usable(podman, names[system, kind]):
                _build_server(machine, podman, recipe.name, names[system, kind], kind)
        if kind == GPU:
            recipe = recipes[system]
            names[system, kind] = gpu_name(recipe.tag)
            if not _usable(podman, names[system, kind]):
                _build_gpu(machine, podman, recipe.name, names[system, kind])
    return names


def prepared_name(machine: Machine, host: Host, files: Sequence[Path]) -> str:
    """The image of prepared hosts; another one whenever one of the files changes."""
    texts = [Recipe.of(machine, host.system).tag, *(file.read_text("utf-8") for file in files)]
    tag = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
    return f"{REPOSITORY}-{host.prepared}:{tag}"


def usable_prepared(
    machine: Machine, podman: Podman, host: Host, files: Sequence[Path]
) -> str | None:
    """The image that such a host was kept as, if there is one and it is not too old."""
    name = prepared_name(machine, host, files)
    return name if _usable(podman, name) else None


def keep(podman: Podman, container: str, name: str) -> None:
    """Make a stopped host the image of those like it; older ones go once no host uses them."""
    started = time.monotonic()
    podman("commit", "--quiet", container, name)
    _remove_older(podman, name)
    say(f"Kept {container} as {name}, {_since(started)}")


def _remove_older(podman: Podman, name: str) -> None:
    """What the image of that name has taken the place of; not what a host still uses."""
    kept = podman("images", "--quiet", "--no-trunc", name).out.split()
    for image in podman("images", "--quiet", "--no-trunc", name.rpartition(":")[0]).out.split():
        if image not in kept:
            podman("rmi", image, check=False)


def remove_all(podman: Podman) -> None:
    for image in _ours(podman):
        podman("rmi", "--force", image)


def _build_base(machine: Machine, podman: Podman, recipe: Recipe) -> None:
    started = time.monotonic()
    log = CACHE / "image.log"
    with tempfile.TemporaryDirectory(prefix="mlops-lab-") as scratch:
        for name, text in recipe.extra_cas:
            Path(scratch, name).write_text(text, encoding="utf-8")
        try:
            machine.pipe(
                recipe.command(Path(scratch)),
                [*podman.command, "import", "-", recipe.name],
                log,
            )
        except LabError:
            # podman takes what it was sent until then, even nothing, for the image.
            podman("rmi", "--force", recipe.name, check=False)
            raise
    say(
        f"Built the image of a Debian {recipe.suite} server from {recipe.mirror}, {_since(started)}"
    )


def gpu_name(tag: str) -> str:
    """The image of hosts that play GPUs; another one whenever the stand-in changes."""
    texts = [tag, _INSTALL_GPU, *((GPU_STAND_IN / name).read_text("utf-8") for name in _GPU_FILES)]
    return f"{REPOSITORY}-{GPU}:{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]}"


def _build_server(machine: Machine, podman: Podman, base: str, name: str, kind: str) -> None:
    """Debian's database server with nothing in it, installed but never started."""
    started = time.monotonic()
    _build_on(machine, podman, base, name, kind, _INSTALL_SERVER.replace("PACKAGE", _SERVERS[kind]))
    say(f"Built the image of a {kind} server on top of it, {_since(started)}")


def _build_gpu(machine: Machine, podman: Podman, base: str, name: str) -> None:
    """A server with the stand-in for NVIDIA's driver, whose compiler is gone again."""
    started = time.monotonic()
    files = ("--volume", f"{GPU_STAND_IN}:/stand-in:ro", "--volume", f"{MIG}:/geometry:ro")
    _build_on(machine, podman, base, name, GPU, _INSTALL_GPU, files)
    say(f"Built the image of a server that plays GPUs on top of it, {_since(started)}")


def _build_on(
    machine: Machine,
    podman: Podman,
    base: str,
    name: str,
    kind: str,
    script: str,
    more: Sequence[str] = (),
) -> None:
    archives = apt_cache.directory_of("images", kind)
    apt_cache.fill(machine, archives)
    podman(
        *("run", "--name", BUILDER, "--replace", "--network", "host", "--pids-limit", "0"),
        *("--annotation", "mlops.lab=host", "--runtime", "crun", *machine.limits()),
        *("--volume", f"{archives}:/var/cache/apt/archives", *more),
        *(base, "sh", "-c", script),
    )
    podman("commit", "--quiet", BUILDER, name)
    podman("rm", "--force", BUILDER)
    _remove_older(podman, name)


def _usable(podman: Podman, name: str) -> bool:
    found = podman("image", "inspect", "--format", "{{.Created.Unix}}", name, check=False)
    return found.code == 0 and time.time() - int(found.out) < MAX_AGE_DAYS * 86400


def _remove_superseded(podman: Podman, current: Sequence[str]) -> None:
    """Images of older recipes and what stands on them, unless a host still uses them.

    Args:
        podman: What lists and removes.
        current: Names of the images that hosts of each suite are made of now, built or not.
    """
    kept = {lowest for name in current if (lowest := _lowest(podman, name))}
    for image in _ours(podman):
        if _lowest(podman, image) not in kept:
            podman("rmi", image, check=False)


def _lowest(podman: Podman, image: str) -> str:
    """The layer that an image begins with, that of the server below it; empty without an image."""
    wanted = "{{index .RootFS.Layers 0}}"
    return podman("image", "inspect", "--format", wanted, image, check=False).out.strip()


def _ours(podman: Podman) -> list[str]:
    """Newest first, so that an image goes before the one it stands on."""
    wanted = f"reference={REPOSITORY}*"
    listed = podman("images", "--quiet", "--no-trunc", "--sort", "created", "--filter", wanted)
    return list(dict.fromkeys(listed.out.split()))


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
