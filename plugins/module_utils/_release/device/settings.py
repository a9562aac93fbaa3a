# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role wrote down on the device: where releases come from and who may sign them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ..errors import RegistryError
from ..keys import KeyRing

SETTINGS_FILE = "/etc/mlops/model_serving/release.json"
WANTED = ("registry_url", "repository", "user", "password_file", "ca_file", "root", "serving_url")
MAY_LACK = ("site", "keys_file", "public_key_file", "metrics_file")


@dataclass(frozen=True)
class Settings:
    """The settings of a device.

    ``repository`` is the prefix: the releases of a model lie in ``<repository>/<model>``. Up to
    version 0.3 it was the one repository, ``public_key_file`` the one key, and no site was named.
    """

    registry_url: str
    repository: str
    user: str
    password_file: str
    ca_file: str
    root: str
    serving_url: str
    keep: int
    site: str = ""
    keys_file: str = ""
    public_key_file: str = ""
    metrics_file: str = ""

    @classmethod
    def parse(cls, data: bytes, where: str) -> Settings:
        """Read the settings, naming what is wrong with them."""
        try:
            value: Any = json.loads(data)
        except ValueError as error:
            raise RegistryError(f"{where}: this is not JSON ({error}).") from None
        if not isinstance(value, dict):
            raise RegistryError(f"{where}: wanted a mapping.")
        fields: dict[str, Any] = {}
        for name in (*WANTED, "keep", *MAY_LACK):
            kind = int if name == "keep" else str
            if name in MAY_LACK and value.get(name) is None:
                continue
            if not isinstance(value.get(name), kind):
                raise RegistryError(f"{where}: {name} is missing or not {kind.__name__}.")
            fields[name] = value[name]
        if not fields.get("keys_file") and not fields.get("public_key_file"):
            raise RegistryError(f"{where}: keys_file is missing.")
        return cls(**fields)

    def ring(self, read: Callable[[str], str]) -> KeyRing:
        """Read the keys that may sign releases."""
        path = self.keys_file or self.public_key_file
        return KeyRing.parse(read(path).encode(), path)


def read_text(path: str) -> str:
    """Read a file of the settings."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RegistryError(f"The file {path} cannot be read: {error.strerror}.") from None
