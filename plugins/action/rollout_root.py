# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root document of a site: made and signed on the controller, where the root keys are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    Root,
    build_signatures,
    parse_root,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rooting import (
    Wish,
    lacking,
    next_root,
    signers,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.state import by_openssl
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.keys import key_id

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError as error:
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

SECRETS = ("root_keys", "retired_root_keys")
SPEC: dict[str, Any] = {
    "site": {"type": "str", "required": True},
    "current": {"type": "str", "default": ""},
    "root_keys": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "root_public_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "retired_root_keys": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "threshold": {"type": "int", "default": 1},
    "online_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
    "release_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "days": {"type": "int", "default": 3650},
    "renew_days": {"type": "int", "default": 730},
    "directory": {"type": "path", "required": True},
}


class Pair:
    """A key pair of which the private half is at hand."""

    def __init__(self, text: str, where: str) -> None:
        try:
            key = serialization.load_pem_private_key(text.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise RegistryError(f"{where} is no private key in PEM form.") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise RegistryError(f"{where} is no ECDSA key on P-256.")
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public = public.decode()
        self.id = key_id(self.public)

    def sign(self, data: bytes) -> bytes:
        """Sign literal bytes."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


def make(args: Mapping[str, Any], now: int, write: bool = True) -> dict[str, Any]:
    """Return what the task returns."""
    pairs, retired = (
        [Pair(text, f"{name}, number {number}") for number, text in enumerate(args[name], 1)]
        for name in SECRETS
    )
    current = parse_root(args["current"].encode()) if args["current"] else None
    named = dict.fromkeys([*(pair.public for pair in pairs), *args["root_public_keys"]])
    wish = Wish(
        args["site"],
        tuple(named),
        tuple(args["online_keys"]),
        tuple(args["release_keys"]),
        args["threshold"],
        args["days"],
        args["renew_days"],
    )
    document = next_root(wish, current, now)
    if document is None and current is not None:
        return {
            "changed": False,
            "root": args["current"],
            "version": current.version,
            "expires": current.expires,
        }
    if document is None:
        raise RegistryError("There is no root document, and none is needed.")
    # What was written for signing by hand is the same document, though it was made earlier.
    path = Path(args["directory"]) / f"fleet-root-{document.version}.json"
    document = _begun(path, document, now)
    data = document.to_bytes()
    at_hand = {pair.id: pair for pair in (*pairs, *retired)}
    marks = {
        name: at_hand[name].sign(data) for name in signers(document, current) if name in at_hand
    }
    marks.update(_by_hand(path, document, current, set(marks)))
    wanted = lacking(document, current, list(marks))
    if wanted:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        raise RegistryError(
            f"The root document {document.version} lacks signatures: {wanted}. Sign the file "
            f"{path} where those keys are, put the signature beside it, and run this again: "
            f"openssl dgst -sha256 -sign ROOT_KEY -out {path.name}.KEY_ID.sig {path.name}"
        )
    return {
        "changed": True,
        "root": data.decode("ascii"),
        "signatures": build_signatures(marks.items()).decode("ascii"),
        "version": document.version,
        "expires": document.expires,
    }


def _begun(path: Path, document: Root, now: int) -> Root:
    """Return the document that waits for signatures by hand, if it says what is wanted."""
    try:
        begun = parse_root(path.read_bytes(), str(path))
    except (FileNotFoundError, RegistryError):
        return document
    same = replace(document, issued=begun.issued, expires=begun.expires)
    return begun if same == begun and now < begun.expires else document


def _by_hand(path: Path, document: Root, current: Root | None, have: set[str]) -> dict[str, bytes]:
    """Return the signatures that lie beside a document and are good."""
    keys = {**(current.keys if current is not None else {}), **document.keys}
    found: dict[str, bytes] = {}
    if not path.is_file() or path.read_bytes() != document.to_bytes():
        return found  # they are of another document
    for name in signers(document, current):
        beside = path.with_name(f"{path.name}.{name}.sig")
        if name in have or not beside.is_file():
            continue
        signature = beside.read_bytes()
        if not by_openssl(keys[name], document.to_bytes(), signature):
            raise RegistryError(
                f"{beside} is no signature of the key {name} over {path.name}; sign it again."
            )
        found[name] = signature
    return found


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if CRYPTOGRAPHY_ERROR is not None:
            raise AnsibleActionFail(missing_required_lib("cryptography"))
        _checked, args = self.validate_argument_spec(argument_spec=SPEC)
        try:
            result.update(make(args, int(time.time()), not self._task.check_mode))
        except (RegistryError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        return result
