# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ``host_*`` modules would refuse, asked together and before anything is changed.

A question is a task of a role as its module would get it; contents of files are digests made with
a key, on both sides, so that no content has to travel. Each is answered by the same plan that the
module makes; what an earlier task of the list would have made counts as there.
"""

from __future__ import annotations

import base64
import hmac
import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import (
    app_apply,
    certificate,
    files,
    files_apply,
    packages_ask,
    probe,
    quadlet,
    service_plan,
    settled,
    unit,
)
from .errors import HostError
from .files_plan import refusals as files_refusals
from .files_plan import standing_for
from .ledger import Ledger
from .system import Book, nearest, properties, shut

FILES, PACKAGES, APP = "host_files", "host_packages", "host_python_app"
CONTENTS = ("payload", "secret_payload", "content")
SERVICE, QUADLET, CERTIFICATE = "host_service", "host_quadlet", "host_certificate"


@dataclass(frozen=True)
class Question:
    """A task of a role: which module, and its parameters with their defaults.

    ``refused``: whether its refusals are asked for, and not only whether it is settled.
    """

    role: str
    module: str
    params: Mapping[str, Any]
    refused: bool = True


@dataclass(frozen=True)
class Refusal:
    """What a module would refuse, in its own sentence."""

    role: str
    module: str
    said: str


@dataclass(frozen=True)
class Answer:
    """All refusals, each sentence once, and the Python applications that are to be built.

    ``settled``: by the place of a question, what its module would return for leaving all as it is.
    """

    refusals: tuple[Refusal, ...]
    build: tuple[dict[str, str], ...]
    settled: Mapping[int, settled.Answer]


def digest(content: bytes, key: str) -> bytes:
    """What stands for a file's content in a question."""
    return hmac.new(key.encode(), content, "sha256").hexdigest().encode()


def digested(module: str, params: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Parameters of a task as a question has them: digests in place of what files contain."""
    if module != FILES:
        return params

    def one(row: Mapping[str, Any]) -> dict[str, Any]:
        content = files.content_of(row)
        left = {name: value for name, value in row.items() if name not in CONTENTS}
        if content is None:
            return left
        payload = base64.b64encode(digest(content, key)).decode("ascii")
        return {**left, "payload": payload}

    return {**params, "files": [one(row) for row in params["files"]]}


def ask(questions: Sequence[Question], key: str, site: str | None = None) -> Answer:
    """What would be refused of the questions, which come one after the other, and what is settled.

    On the host of another ``site`` nothing is: there each task is refused when its turn comes.
    """
    ledger = Book.peek()
    refusable = [one for one in questions if one.refused]
    kinds = {kind: [one for one in refusable if one.module == kind] for kind in _KINDS}
    found = [
        Refusal(role, kind, said)
        for kind, look in _KINDS.items()
        for role, said in look(kinds[kind], ledger, key)
    ]
    once = {one.said: one for one in reversed(found)}
    build: list[dict[str, str]] = []
    for one in kinds[APP]:
        build += _to_build(one)
    answers = {
        at: answer
        for at, one in enumerate([] if ledger.refusal_of(site) else questions)
        if (answer := settled.answer(one.module, one.params, ledger, partial(digest, key=key)))
    }
    return Answer(tuple(one for one in found if once[one.said] is one), tuple(build), answers)


def _each(questions: Iterable[Question], look: Any, ledger: Ledger) -> list[tuple[str, str]]:
    """The refusals of questions that do not depend on each other."""
    found = []
    for one in questions:
        try:
            look(one, ledger)
        except HostError as error:
            found.append((one.role, str(error)))
    return found


def _files(questions: Sequence[Question], ledger: Ledger, key: str) -> list[tuple[str, str]]:
    asked: list[tuple[str, files.Wanted]] = []
    found: list[tuple[str, str]] = []
    for one in questions:
        try:
            asked.append((one.role, files.wanted_of(one.params)))
        except HostError as error:
            found.append((one.role, str(error)))
    seen = files_apply.read(_joined(wanted for _role, wanted in asked))
    before = standing_for(seen, partial(digest, key=key))
    return found + files_refusals(before, asked, ledger)


def _joined(parts: Iterable[files.Wanted]) -> files.Wanted:
    """Everything at once, for one look at the host."""
    every = list(parts)
    return files.Wanted(
        tuple(name for one in every for name in one.groups),
        tuple(user for one in every for user in one.users),
        tuple(directory for one in every for directory in one.directories),
        tuple(file for one in every for file in one.files),
        tuple(path for one in every for path in one.absent),
    )


def _packages(questions: Sequence[Question], _ledger: Ledger, _key: str) -> list[tuple[str, str]]:
    return packages_ask.refusals(
        [
            packages_ask.Wanted(
                one.role, tuple(one.params["name"]), one.params["install_recommends"]
            )
            for one in questions
        ]
    )


def _apps(questions: Sequence[Question], ledger: Ledger, _key: str) -> list[tuple[str, str]]:
    def look(one: Question, ledger: Ledger) -> None:
        wanted = app_apply.environment_of(one.params)
        _platform = wanted.target.platform
        app_apply.claimed(ledger, one.role, wanted)

    return _each(questions, look, ledger)


def _to_build(one: Question) -> list[dict[str, str]]:
    """The target of an application that is not there yet, if the host has one."""
    try:
        wanted = app_apply.environment_of(one.params)
        _platform = wanted.target.platform
    except HostError:
        return []  # refused already
    if app_apply.installed(wanted):
        return []
    target = wanted.target
    return [
        {
            "role": one.role,
            "digest": wanted.digest,
            "version": target.version,
            "machine": target.machine,
            "libc": target.libc,
        }
    ]


def _services(questions: Sequence[Question], ledger: Ledger, _key: str) -> list[tuple[str, str]]:
    def look(one: Question, ledger: Ledger) -> None:
        service = unit.service_of(one.params)
        if one.params["health"]:
            probe.question_of(one.params["health"])
        service_plan.refuse(service, _before(service), ledger)

    return _each(questions, look, ledger)


def _quadlets(questions: Sequence[Question], ledger: Ledger, _key: str) -> list[tuple[str, str]]:
    def look(one: Question, ledger: Ledger) -> None:
        quadlet.refuse_podman()
        service = quadlet.quadlet_of(one.params)
        service_plan.refuse(service, _before(service), ledger)

    return _each(questions, look, ledger)


def _before(service: unit.Service) -> service_plan.Before:
    """What there is of a service, as far as it may be refused for it."""
    systemd = os.path.isdir("/run/systemd/system")  # without it, the assessment says so itself
    texts = {}
    for path in (service_plan.SLICE_PATH, *service.texts):
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as stream:
                texts[path] = stream.read()
    return service_plan.Before(
        shown=properties(service.unit, "LoadState", "FragmentPath") if systemd else {},
        texts=texts,
        occupied=any(os.path.lexists(path) for path in service.texts),
        shut=shut(nearest(os.path.dirname(service.path))),
    )


def _certificates(
    questions: Sequence[Question], ledger: Ledger, _key: str
) -> list[tuple[str, str]]:
    def look(_one: Question, ledger: Ledger) -> None:
        certificate.refuse_foreign(ledger)
        why = shut(nearest(certificate.DIRECTORY))
        if why and not os.path.lexists(certificate.CERTIFICATE):
            raise HostError(f"{certificate.CERTIFICATE} cannot be placed: {why}.")

    return _each(questions, look, ledger)


_KINDS: Mapping[str, Any] = {
    FILES: _files,
    PACKAGES: _packages,
    APP: _apps,
    SERVICE: _services,
    QUADLET: _quadlets,
    CERTIFICATE: _certificates,
}
