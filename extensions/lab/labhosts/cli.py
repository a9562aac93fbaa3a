# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line of the builder."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import apt_cache, image
from .builder import Builder
from .company import compare
from .errors import LabError, OthersRunError
from .machine import CACHE, Machine, say
from .podman import PROJECT_LABEL, machine_lock
from .topology import DATABASES, load

LAB = Path(__file__).resolve().parents[1] / "lab.toml"
SNAPSHOT = Path(__file__).resolve().parents[3] / "tests" / "infra" / "snapshot.py"


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--topology", type=Path, default=LAB, metavar="FILE", help="default: the lab"
    )
    top = argparse.ArgumentParser(
        prog="lab.py", description="Disposable Debian hosts with systemd, reached over SSH."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text, parents=[common])

    up = verb("up", "Create or start the hosts; those that run are left alone.")
    down = verb("down", "Remove the hosts and their network; keep images, downloads and keys.")
    down.add_argument("--all", action="store_true", help="the same as clean")
    wipe = verb("clean", "down, and also remove keys, images and downloads of the builder.")
    for one in (up, down, wipe):
        one.add_argument("--take-over", action="store_true", help="also hosts of another checkout")
    verb("status", "Say how each host stands.")
    restart = verb("restart", "Reboot hosts: an orderly shutdown, then a start.")
    restart.add_argument("--power-cut", action="store_true", help="kill instead of shutting down")
    restart.add_argument("host", nargs="+", metavar="HOST")
    keep = verb("keep", "Make a prepared host the image of those like it; the host goes.")
    keep.add_argument("host", metavar="HOST")
    ssh = verb("ssh", "Log in to a host, or run a command there.")
    ssh.add_argument("host", metavar="HOST")
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    fingerprint = verb("company-fingerprint", "Print what the company's database server holds.")
    fingerprint.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="exit 1 if the company's part differs from FILE",
    )
    fingerprint.add_argument(
        "--strict", action="store_true", help="with --against: nothing may have been added either"
    )
    fingerprint.add_argument(
        "--kind", choices=DATABASES, help="which of its servers; default: the only one"
    )
    snapshot = verb("snapshot", "Write what hosts hold (tests/infra/snapshot.py) to DIR/HOST.json.")
    snapshot.add_argument("--output", type=Path, required=True, metavar="DIR")
    snapshot.add_argument("host", nargs="*", metavar="HOST", help="default: all")
    verb("inventory", "Print a plain Ansible inventory of the hosts.")
    podman = verb("podman", "Run podman the way the builder does.")
    podman.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except LabError as error:
        print(f"lab.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab.py: interrupted; run it again to go on from here.", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    builder = Builder(load(options.topology), Machine())
    return VERBS[options.verb](builder, options)


def up(builder: Builder, options: argparse.Namespace) -> int:
    with machine_lock("builder"):
        builder.up(take_over=options.take_over)
    return 0


def down(builder: Builder, options: argparse.Namespace) -> int:
    with machine_lock("builder"):
        if options.verb == "clean" or options.all:
            clean(builder, take_over=options.take_over)
        else:
            builder.down(take_over=options.take_over)
    return 0


def restart(builder: Builder, options: argparse.Namespace) -> int:
    hosts = [builder.topology.host(name) for name in options.host]
    builder.restart(hosts, power_cut=options.power_cut)
    return 0


def keep(builder: Builder, options: argparse.Namespace) -> int:
    with machine_lock("builder"):
        builder.keep(builder.topology.host(options.host))
    return 0


def ssh(builder: Builder, options: argparse.Namespace) -> int:
    command = builder.state.ssh_command(builder.topology.host(options.host))
    return subprocess.call([*command, *options.command])


def snapshot(builder: Builder, options: argparse.Namespace) -> int:
    for host in [builder.topology.host(name) for name in options.host] or builder.topology.hosts:
        command = [sys.executable, str(SNAPSHOT), "--ssh-config", str(builder.state.ssh_config)]
        command += ["take", host.name, "--output", str(options.output / f"{host.name}.json")]
        builder.machine.run(command)
    return 0


def inventory(builder: Builder, _options: argparse.Namespace) -> int:
    print(builder.state.inventory_text(), end="")
    return 0


def podman(builder: Builder, options: argparse.Namespace) -> int:
    prefix = builder.machine.root_prefix()
    return subprocess.call([*prefix, *builder.podman.command, *options.arguments])


def clean(builder: Builder, *, take_over: bool) -> None:
    """All of this checkout goes. What runs for another one is left alone, and that is said."""
    try:
        builder.down(take_over=take_over)
    except OthersRunError as theirs:
        if theirs.beside_ours:
            raise
        say(
            f"No hosts of this checkout are left. Those of project {builder.topology.project!r} "
            f"belong to {', '.join(theirs.owners)} and are left alone"
        )
    containers = builder.podman.inspect() if builder.machine.has("podman") else []
    others = {c["Labels"].get(PROJECT_LABEL, "?") for c in containers}
    if others:
        say(f"Images and downloads stay: {', '.join(sorted(others))} still use them")
    else:
        if builder.machine.has("podman"):
            image.remove_all(builder.podman)
            builder.podman.release()
        apt_cache.remove_all(builder.machine)
        (CACHE / "image.log").unlink(missing_ok=True)
        say("Removed the images and downloads of the builder")
    builder.state.forget()


def fingerprint(builder: Builder, options: argparse.Namespace) -> int:
    against: Path | None = options.against
    kind: str | None = options.kind
    there = {one: server for one, server in builder.company.items() if kind in (None, one)}
    if len(there) != 1:
        wanted = kind or " or ".join(DATABASES)
        raise LabError(
            f"{builder.topology.path.name} has {len(there)} hosts of kind {wanted}; one is wanted, "
            "named by --kind where there are two."
        )
    ((_kind, server),) = there.items()
    now = server.fingerprint()
    if against is None:
        print(json.dumps(now, indent=1, sort_keys=True))
        return 0
    before = json.loads(against.read_text(encoding="utf-8"))
    if not options.strict:
        now, before = now["company"], before["company"]
    differences = compare(before, now)
    for line in differences:
        print(line)
    if not differences:
        print("The company's database server is as it was")
    return int(bool(differences))


def status(builder: Builder, _options: argparse.Namespace) -> int:
    standing = builder.standing() if builder.podman.in_use else {}
    everything = 0
    for host in builder.topology.hosts:
        now = standing.get(host.name)
        text = now.state if now else "absent"
        everything |= text != "running"
        print(f"{host.name:12} {host.ip:15} {host.kind:11} {text}")
    return int(everything)


VERBS: Mapping[str, Callable[[Builder, argparse.Namespace], int]] = {
    "up": up,
    "down": down,
    "clean": down,
    "status": status,
    "restart": restart,
    "keep": keep,
    "ssh": ssh,
    "company-fingerprint": fingerprint,
    "snapshot": snapshot,
    "inventory": inventory,
    "podman": podman,
}
