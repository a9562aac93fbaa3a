# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and keys on the controller that variables name: whether they are files, and of PEM.

A client library says it late, in other words, and only once there is something to connect to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    FAIL,
    SITE,
    Finding,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import listing

CHECK = "inventory.file"

CERTIFICATE, KEY = "CERTIFICATE-----", "PRIVATE KEY-----"
PEM = b"-----BEGIN "
MOST_BYTES = 1 << 24
# By variable: the keys below it that name a file, none if the variable does. Lists are entered.
# The role trust says it of its own files, of a host that does not answer as well.
FILES: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "accounting_db_ca_file": {(): CERTIFICATE},
    "audit_log_syslog_ca_file": {(): CERTIFICATE},
    "common_nginx_metrics_client_ca_file": {(): CERTIFICATE},
    "metadata_db_ca_file": {(): CERTIFICATE},
    "metadata_db_client_certificates": {("certificate_file",): CERTIFICATE, ("key_file",): KEY},
    "mlops_workloads": {("run", "ca_file"): CERTIFICATE},
    "model_registry_auth_database": {
        ("client_certificate_file",): CERTIFICATE,
        ("client_key_file",): KEY,
    },
    "model_registry_database": {
        ("client_certificate_file",): CERTIFICATE,
        ("client_key_file",): KEY,
    },
    "monitoring_database": {("client_certificate_file",): CERTIFICATE, ("client_key_file",): KEY},
    "monitoring_existing_grafana_ca_file": {(): CERTIFICATE},
    "object_store_ca_file": {(): CERTIFICATE},
    "pipeline_ca_file": {(): CERTIFICATE},
    "pipeline_source": {("postgresql", "ca_file"): CERTIFICATE},
    "pipeline_source_ca_file": {(): CERTIFICATE},
}
# What a run writes beside the inventory: it need not be there before the first one.
OF_THE_RUN = ("ca.crt", "ca-bundle.crt")


def check_files(
    hostvars: Any,
    hosts: Mapping[str, frozenset[str]],
    folders: Sequence[str],
    files_of: Callable[[str], Sequence[str]] = lambda _name: (),
) -> list[Finding]:
    """A finding for each file that cannot be used; ``hosts`` are those with their variables."""
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for host, names in hosts.items():
        for name in sorted(names & FILES.keys()):
            for place, said in wrong_files(
                name, _value(hostvars, host, name), folders, _state(hostvars, host)
            ):
                wrong.setdefault((name, place, said), []).append(host)
    findings = []
    for (name, _place, said), named in wrong.items():
        everywhere = len(named) == len(hosts) > 1
        others = f" (and on {len(named) - 1} more hosts)" if len(named) > 1 else ""
        files = files_of(name)
        findings.append(
            Finding(
                CHECK,
                SITE if everywhere else named[0],
                FAIL,
                said if everywhere else f"{said}{others}",
                "a file on the controller that the user who runs the playbooks can read",
                f"mend {name} in {listing(files) if files else 'the inventory'}",
            )
        )
    return findings


def _value(hostvars: Any, host: str, name: str) -> Any:
    try:
        return hostvars[host].get(name)
    except AnsibleError:  # told as a value that cannot be made out
        return None


def _state(hostvars: Any, host: str) -> str:
    beside = hostvars[host].get("inventory_dir")
    return str(_value(hostvars, host, "mlops_state_dir") or f"{beside}/.state")


def wrong_files(
    name: str, value: Any, folders: Sequence[str], state: str
) -> Iterator[tuple[str, str]]:
    """The place of each file in a value that is wrong, such as ``a[0].key_file``, and a sentence.

    A relative path is looked for in the ``folders``; ``state`` is where a run keeps what it made.
    """
    for keys, kind in FILES[name].items():
        for place, given in _below(value, keys, name):
            said = _wrong(given, kind, folders, state)
            if said:
                yield place, f"{place} is {given}, {said}"


def _below(value: Any, keys: tuple[str, ...], place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from _below(one, keys, f"{place}[{index}]")
    elif keys and isinstance(value, Mapping):
        if keys[0] in value:
            yield from _below(value[keys[0]], keys[1:], f"{place}.{keys[0]}")
    elif not keys and isinstance(value, str) and value.strip():
        yield place, value


def _wrong(given: str, kind: str, folders: Sequence[str], state: str) -> str:
    path = Path(os.path.expandvars(given)).expanduser()
    tried = [path] if path.is_absolute() else [Path(folder) / path for folder in folders]
    if any(one.parent == Path(state) and one.name in OF_THE_RUN for one in tried):
        return ""
    said = [_read(one, kind) for one in tried]
    return "" if "" in said else said[0]


def _read(path: Path, kind: str) -> str:
    """What is wrong with a file, in the words that end a sentence; "" if nothing is."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "which is a directory"
        if not stat.S_ISREG(mode):
            return "which is no regular file"
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES)
    except FileNotFoundError:
        return "which does not exist on the controller"
    except OSError as error:
        return f"which cannot be read on the controller ({error.strerror})"
    if PEM not in text or kind.encode() not in text:
        return f"which holds no {'key' if kind == KEY else 'certificate'} in PEM form"
    return ""
