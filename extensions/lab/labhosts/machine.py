# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine the lab runs on: commands as root, missing packages, and what is special about it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

# command or file that must be there -> Debian package that brings it
NEEDED = {
    "podman": "podman",
    "crun": "crun",
    "/usr/lib/podman/netavark": "netavark",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "openssl": "openssl",
    "nsenter": "util-linux",
}
EXTRA_CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops.onprem"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def say(text: str) -> None:
    print(text, flush=True)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Machine:
    """Runs commands, as root where needed: directly, or through sudo (which may ask once)."""

    def __init__(self) -> None:
        self._asked = os.geteuid() == 0
        self._environment = dict(os.environ, LC_ALL="C.UTF-8")
        self._environment["PATH"] = f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_SBIN}"

    def root_prefix(self) -> list[str]:
        if os.geteuid() == 0:
            return []
        if not self._asked:
            self._ask()
        return ["sudo", "-n", "--"]

    def run(
        self,
        command: Sequence[str],
        *,
        root: bool = False,
        data: bytes | None = None,
        check: bool = True,
        cwd: Path | None = None,
    ) -> Result:
        words = [*(self.root_prefix() if root else []), *command]
        try:
            done = subprocess.run(
                words,
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                env=self._environment,
                cwd=cwd,
                check=False,
                # Who kills the builder does not cut podman off in the middle of a step.
                process_group=0,
            )
        except FileNotFoundError as error:
            raise LabError(f"{words[0]} is not installed.") from error
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))
        if check and result.code != 0:
            detail = (result.err.strip() or result.out.strip() or "it said nothing").splitlines()
            raise LabError(
                f"{' '.join(command[:4])} failed ({result.code}): " + "\n".join(detail[-8:])
            )
        return result

    def pipe(self, producer: Sequence[str], consumer: Sequence[str], log: Path) -> None:
        """producer | consumer, both as root; what the producer says goes to a file."""
        prefix = self.root_prefix()
        with log.open("wb") as errors:
            first = subprocess.Popen(
                [*prefix, *producer],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
            )
            second = subprocess.run(
                [*prefix, *consumer],
                stdin=first.stdout,
                capture_output=True,
                env=self._environment,
                check=False,
            )
            if first.stdout:
                first.stdout.close()
            code = first.wait()
        if code != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise LabError(f"{producer[0]} failed ({code}); its last words (all in {log}):\n{tail}")
        if second.returncode != 0:
            raise LabError(f"{' '.join(consumer[:4])} failed: {second.stderr.decode().strip()}")

    def missing_packages(self) -> list[str]:
        return sorted({package for need, package in NEEDED.items() if not self.has(need)})

    def install_missing(self) -> None:
        missing = self.missing_packages()
        if not missing:
            return
        names = " ".join(missing)
        if not shutil.which("apt-get"):
            raise LabError(
                f"This machine lacks {names}; install them (apt-get is not here to do it)."
            )
        say(f"Installing on this machine, with apt-get: {names}")
        environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
        install = [
            *environment,
            "apt-get",
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            *missing,
        ]
        if self.run(install, root=True, check=False).code != 0:
            self.run([*environment, "apt-get", "update", "-q"], root=True)
            self.run(install, root=True)

    @property
    def pure_cgroup2(self) -> bool:
        return self.run(["stat", "-fc", "%T", "/sys/fs/cgroup"]).out.strip() == "cgroup2fs"

    @property
    def can_filter_devices(self) -> bool:
        """crun lifts the limit on locked memory before it loads its device filter."""
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY:
            return True
        status = Path("/proc/1/status" if os.geteuid() else "/proc/self/status").read_text()
        bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)", status, re.MULTILINE)
        return bool(bounding and int(bounding.group(1), 16) >> 24 & 1)  # CAP_SYS_RESOURCE

    def extra_cas(self) -> dict[str, str]:
        """CA certificates the owner of this machine added to Debian's own."""
        found = sorted(EXTRA_CA_DIRECTORY.rglob("*.crt")) if EXTRA_CA_DIRECTORY.is_dir() else []
        return {path.name: path.read_text(encoding="utf-8") for path in found}

    def apt_options(self) -> list[str]:
        """What of this machine's way to the mirrors the hosts need too."""
        if not shutil.which("apt-config"):
            return []
        return relevant_apt_options(self.run(["apt-config", "dump"]).out)

    def limits(self) -> list[str]:
        """Arguments for podman; it would ask for more than this machine may allow."""
        words = []
        for name, kind, wanted in (
            ("nofile", resource.RLIMIT_NOFILE, 65536),
            ("nproc", resource.RLIMIT_NPROC, 32768),
        ):
            hard = resource.getrlimit(kind)[1]
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            words += ["--ulimit", f"{name}={value}:{value}"]
        return words

    def has(self, need: str) -> bool:
        if need.startswith("/"):
            return Path(need).exists() or Path("/usr/libexec/podman", Path(need).name).exists()
        return shutil.which(need, path=self._environment["PATH"]) is not None

    def _ask(self) -> None:
        if not shutil.which("sudo"):
            raise LabError("The lab needs root for its containers: run as root or install sudo.")
        if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode != 0:
            if not sys.stdin.isatty():
                raise LabError(
                    "The lab needs root: run 'sudo -v' first, or allow sudo without asking."
                )
            say("The lab needs root for its containers; sudo may ask for your password.")
            if subprocess.run(["sudo", "-v"], check=False).returncode != 0:
                raise LabError("sudo refused; the lab needs root for its containers.")
        self._asked = True


def relevant_apt_options(dump: str) -> list[str]:
    """Lines of apt-config dump about proxies, certificate checks and dates, as apt.conf lines."""
    wanted = re.compile(
        r"^Acquire::(https?::(Proxy|Verify-Peer|Verify-Host)|https?::[\w.:-]*::Proxy"
        r"|Check-Valid-Until|Check-Date|Retries)\b.* \"[^\"]+\";$",
        re.IGNORECASE,
    )
    return [line for line in dump.splitlines() if wanted.match(line)]
