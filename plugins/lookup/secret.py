# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are created once and then live as ordinary variables of the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: A secret of the site, created on first use
description:
  - Returns the variable of the given name if the inventory defines it, otherwise the value kept in
    the file C(group_vars/all/secrets.yml) beside the inventory. If neither has it, a value is
    created and added to that file, so that the next run sees it as an ordinary variable.
  - The file is replaced atomically under a lock, with mode 0600. It may be encrypted with
    C(ansible-vault) at any time; values are then read from it, but not added to it.
  - In check mode, and before an assessment has said go, nothing is written. A value that does not
    exist yet is then made up for this run;
    all tasks and hosts of the run see the same one.
options:
  _terms:
    description: Names of the secrets. A name is the name of a variable.
    required: true
    type: list
    elements: str
  length:
    description:
      - Characters of a V(password), V(hex) or V(access_key), bytes of a V(base64).
      - The other kinds have their own length.
    type: int
    default: 32
  kind:
    description:
      - What to create. Ignored when the value exists.
      - V(password) has letters and digits only, so that it needs no quoting in any file or URL.
      - V(private_key) is an ECDSA P-256 key, V(ed25519_key) an Ed25519 key, both PKCS#8 in PEM.
      - V(access_key) has capital letters and digits, as S3 access keys do.
      - V(cephx) is a key of Ceph's authentication.
    type: str
    default: password
    choices: [password, hex, base64, access_key, uuid, private_key, ed25519_key, cephx]
  create:
    description: Whether to create a secret that does not exist. If not, nothing is returned for it.
    type: bool
    default: true
  file:
    description: Place of the file, if it is not to be beside the inventory.
    type: path
    vars:
      - name: mlops_secrets_file
notes:
  - With several inventory sources the file lies beside the first one that is a file or directory.
"""

EXAMPLES = r"""
- name: Use a password that is created once
  ansible.builtin.debug:
    msg: "{{ lookup('mlops.onprem.secret', 'model_registry_admin_password') | length }}"

- name: Use a private key that is created once
  ansible.builtin.debug:
    msg: "{{ lookup('mlops.onprem.secret', 'trust_ca_key', kind='private_key') | split | first }}"
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: str
"""

import base64
import contextlib
import fcntl
import os
import re
import secrets
import string
import struct
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
except ImportError as error:
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

PLUGIN = "mlops.onprem.secret"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER = """\
---
# Secrets of this site, created on first use. Keep a copy of this file in a safe place.
# It may be encrypted: ansible-vault encrypt {path}
"""


HELD = "mlops-secrets.held"  # while an assessment looks, nothing is written


def hold() -> None:
    """From here on, secrets that do not exist are made up for this run and not kept."""
    Path(C.DEFAULT_LOCAL_TMP, HELD).touch(mode=0o600)


def let_go() -> None:
    """What is asked for from here on is kept."""
    Path(C.DEFAULT_LOCAL_TMP, HELD).unlink(missing_ok=True)


class Loader(Protocol):
    """The part of Ansible's data loader that is needed here: it decrypts and parses."""

    def load_from_file(self, file_name: str, cache: str = ..., unsafe: bool = ...) -> Any: ...


def characters(alphabet: str) -> Callable[[int], str]:
    """A generator of random strings over an alphabet."""
    return lambda length: "".join(secrets.choice(alphabet) for _index in range(length))


def cephx(_length: int) -> str:
    """Type 1 (AES), seconds, nanoseconds, length, then 16 random bytes."""
    head = struct.pack("<hiih", 1, int(time.time()), 0, 16)
    return base64.b64encode(head + secrets.token_bytes(16)).decode()


def private_key(kind: str) -> str:
    """A fresh private key as PEM text."""
    if CRYPTOGRAPHY_ERROR is not None:
        raise AnsibleLookupError(
            "creating a private key needs the Python package cryptography on the controller: "
            "pip install cryptography"
        ) from CRYPTOGRAPHY_ERROR
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "private_key"
        else ed25519.Ed25519PrivateKey.generate()
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


MAKERS: Mapping[str, Callable[[int], str]] = {
    "password": characters(string.ascii_letters + string.digits),
    "hex": characters("0123456789abcdef"),
    "base64": lambda length: base64.b64encode(secrets.token_bytes(length)).decode(),
    "access_key": characters(string.ascii_uppercase + string.digits),
    "uuid": lambda _length: str(uuid.uuid4()),
    "private_key": lambda _length: private_key("private_key"),
    "ed25519_key": lambda _length: private_key("ed25519_key"),
    "cephx": cephx,
}


def entry(name: str, value: str) -> str:
    """One value as YAML: a block for text of several lines, else a quoted string."""
    if "\n" in value:
        return f"{name}: |\n" + "".join(f"  {line}\n" for line in value.splitlines())
    return f'{name}: "{value}"\n'


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory; it goes with the process, so nothing stale is left."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class SecretFile:
    """A YAML file of secrets which is only ever added to."""

    def __init__(self, path: Path, loader: Loader) -> None:
        self.path = path
        self._loader = loader

    def read(self) -> dict[str, Any]:
        """All values, decrypted; none if there is no file."""
        if not self.path.exists():
            return {}
        try:
            data = self._loader.load_from_file(str(self.path), cache="none", unsafe=True)
        except AnsibleError as error:
            raise AnsibleLookupError(
                f"cannot read the secrets of the site in {self.path}: {error}"
            ) from error
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            raise AnsibleLookupError(
                f"{self.path} must hold 'name: value' lines, but holds something else"
            )
        return dict(data)

    def encrypted(self) -> bool:
        """Whether the whole file is encrypted."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as stream:
            return stream.read(14) == b"$ANSIBLE_VAULT"

    def get(self, name: str) -> str | None:
        """The value of a name, None if it is absent or empty."""
        value = self.read().get(name)
        return str(value) if value is not None and str(value) != "" else None

    def get_or_create(self, name: str, make: Callable[[], str]) -> str:
        """The value of a name; adds one to the file if there is none."""
        found = self.get(name)
        if found is not None:
            return found
        self.refuse_if_shut(name)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            found = self.get(name)  # another process may have been faster
            if found is not None:
                return found
            value = make()
            self._append(name, value)
            return value

    def refuse_if_shut(self, name: str) -> None:
        """Say why nothing can be added, before somebody relies on it.

        Raises:
            AnsibleLookupError: The file is encrypted, or cannot be written.
        """
        if self.encrypted():
            raise AnsibleLookupError(
                f"{self.path} is encrypted and holds no value for {name!r}, which is needed "
                f"now; add a line '{name}: VALUE' with the command: "
                f"ansible-vault edit {self.path}"
            )
        place = next(folder for folder in self.path.parents if folder.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            raise AnsibleLookupError(
                f"{name} has no value, and none can be kept in {self.path}, since {place} cannot "
                f"be written; set the variable {name}, or mlops_secrets_file to a place that stays"
            )

    def _append(self, name: str, value: str) -> None:
        text = self.path.read_text() if self.path.exists() else HEADER.format(path=self.path)
        if not text.endswith("\n"):
            text += "\n"
        # Ansible does not read hidden files as variables: a leftover of a killed run does no harm.
        handle, temporary = tempfile.mkstemp(prefix=".secrets-", dir=self.path.parent)
        try:
            os.fchmod(handle, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(text + entry(name, value))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def inventory_directory(variables: Mapping[str, Any]) -> Path:
    """The directory whose group_vars Ansible reads, the same one for every host of the run."""
    sources = variables.get("ansible_inventory_sources") or []
    for source in [sources] if isinstance(sources, str) else sources:
        path = Path(str(source))
        if path.is_dir():
            return path.absolute()
        if path.exists():
            return path.absolute().parent
    directory = variables.get("inventory_dir")
    if directory:
        return Path(str(directory))
    raise AnsibleLookupError(
        "there is no inventory file or directory to keep secrets beside; "
        "name one with -i, or set mlops_secrets_file"
    )


def secrets_place(variables: Mapping[str, Any]) -> Path:
    """The file that secrets are kept in."""
    given = variables.get("mlops_secrets_file")
    if given:
        return Path(str(given))
    return inventory_directory(variables) / "group_vars" / "all" / "secrets.yml"


def refuse_to_shadow(path: Path) -> None:
    """Ansible reads group_vars/all.yml no more once there is a directory group_vars/all."""
    folder = path.parent
    if folder.name != "all" or folder.parent.name != "group_vars" or folder.exists():
        return
    for suffix in ("", ".yml", ".yaml", ".json"):
        file = folder.with_name(f"all{suffix}")
        if file.is_file():
            raise AnsibleLookupError(
                f"found {file}, which Ansible would read no more beside {path}; move it with: "
                f"mkdir {folder} && mv {file} {folder}/main{suffix or '.yml'} "
                "(or set mlops_secrets_file)"
            )


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        kind, length = self.get_option("kind"), self.get_option("length")
        place = kwargs.get("file") or self._templated(variables.get("mlops_secrets_file"))
        path = secrets_place({**variables, "mlops_secrets_file": place})
        refuse_to_shadow(path)
        kept = SecretFile(path, self._loader)
        made_up = SecretFile(Path(C.DEFAULT_LOCAL_TMP) / "mlops-secrets.yml", self._loader)
        held = Path(C.DEFAULT_LOCAL_TMP, HELD).exists()

        def value(name: str) -> str:
            found = self._given(name, variables) or kept.get(name)
            if found is not None or not self.get_option("create"):
                return found or ""
            if held and not variables.get("ansible_check_mode"):
                kept.refuse_if_shut(name)
            # One directory per run, made before the first fork and removed at the end.
            target = made_up if held or variables.get("ansible_check_mode") else kept
            return target.get_or_create(
                name, lambda: (made_up is not target and made_up.get(name)) or MAKERS[kind](length)
            )

        return [value(str(term)) for term in terms]

    def _given(self, name: str, variables: Mapping[str, Any]) -> str | None:
        """The variable of that name, unless it is the template that asks for this secret."""
        if not NAME.fullmatch(name):
            raise AnsibleLookupError(f"{name!r} cannot name a secret: it is no variable name")
        raw = variables.get(name)
        if raw is None or (isinstance(raw, str) and PLUGIN in raw):
            return None
        value = self._templated(raw)
        return str(value) if value is not None and str(value) != "" else None

    def _templated(self, raw: Any) -> Any:
        """Return a variable's value; what a plugin is handed is its template."""
        return raw if raw is None or self._templar is None else self._templar.template(raw)
