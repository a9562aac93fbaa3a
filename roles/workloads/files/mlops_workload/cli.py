# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mlops-workload``: lets a replica in when it has proved itself, and out again."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import exporter, golden
from .web import Unanswered, ask

ENGINE, ANSWER = "engine.sock", "answer.sock"
PAUSE, DRAIN_SECONDS, IDLE_LOOKS = 0.1, 60.0, 3
BUSY = re.compile(
    rb"^(?:llamacpp:requests_(?:processing|deferred)|vllm:num_requests_(?:running|waiting))"
    rb"(?:\{[^}]*\})?\s+([0-9.eE+]+)\s*$",
    re.MULTILINE,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="mlops-workload", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    for name, text in (
        ("admit", "wait until the engine answers its golden requests, then let others ask it"),
        ("check", "ask the golden requests once; fail if an answer is wrong"),
        ("drain", "let nobody in any more, and wait until the last request is answered"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--engine", required=True, choices=sorted(golden.READY))
        command.add_argument("--directory", required=True, type=Path, help="of its sockets")
        if name != "drain":
            command.add_argument("--release", required=True, type=Path)
        command.add_argument("--timeout", type=float, default=DRAIN_SECONDS)
    command = commands.add_parser("exporter", help="hand out what the replicas measure")
    command.add_argument("--replicas", required=True, type=Path)
    command.add_argument("--directory", required=True, type=Path)
    return made


def gone(pid: str) -> bool:
    """Whether the process that systemd has started is no more."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def admit(
    options: argparse.Namespace,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Make the socket that nginx knows, once the golden answers are right."""
    socket, answer = options.directory / ENGINE, options.directory / ANSWER
    with contextlib.suppress(FileNotFoundError):
        answer.unlink()
    ends = clock() + options.timeout
    while not golden.ready(options.engine, str(socket)):
        if gone(os.environ.get("MAINPID", "")):
            raise golden.Wrong("The engine ended as it started; its own lines above say why.")
        if clock() > ends:
            raise golden.Wrong(f"The engine was not ready within {options.timeout:.0f} s.")
        pause(PAUSE)
    cases = golden.check(options.engine, str(socket), options.release)
    fresh = options.directory / f".{ANSWER}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(ENGINE)
    fresh.replace(answer)
    return f"{cases} golden answers are right."


def busy(socket: str) -> bool:
    """Whether an engine still works on requests, as far as it says."""
    try:
        status, data = ask(socket, "GET", "/metrics", timeout=2.0)
    except Unanswered:
        return False
    return status == golden.OK and any(float(found) > 0 for found in BUSY.findall(data))


def drain(
    options: argparse.Namespace,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Take the socket away that nginx knows; what is under way is answered first."""
    with contextlib.suppress(FileNotFoundError):
        (options.directory / ANSWER).unlink()
    ends, idle = clock() + options.timeout, 0
    # What nginx had sent a moment before counts a moment later: twice nothing is nothing.
    while idle < IDLE_LOOKS:
        idle = 0 if busy(str(options.directory / ENGINE)) else idle + 1
        if clock() > ends:
            return f"Requests were still under way after {options.timeout:.0f} s."
        pause(PAUSE)
    return "No request is under way."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a sentence on standard error says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "exporter":
            exporter.serve(options.replicas, options.directory)
            return 0
        if options.command == "admit":
            said = admit(options)
        elif options.command == "drain":
            said = drain(options)
        else:
            cases = golden.check(options.engine, str(options.directory / ANSWER), options.release)
            said = f"{cases} golden answers are right."
    except (golden.Wrong, Unanswered, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0
