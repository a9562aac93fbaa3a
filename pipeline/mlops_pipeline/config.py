# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration: a YAML or JSON file; secrets from the environment or from files it names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import MOST_MIB
from .errors import PipelineError

STORE = ("PIPELINE_S3_ACCESS_KEY", "PIPELINE_S3_SECRET_KEY")
TRACKING = ("PIPELINE_MLFLOW_PASSWORD",)
REGISTRY = ("PIPELINE_REGISTRY_PASSWORD",)
# What each step needs. Only publish signs and pushes.
SECRETS: Mapping[str, tuple[str, ...]] = {
    "prepare": (*STORE, "PIPELINE_SOURCE_PASSWORD"),
    "train": (*STORE, *TRACKING),
    "evaluate": (*STORE, *TRACKING),
    "publish": (*TRACKING, *REGISTRY, "PIPELINE_SIGNING_KEY", "PIPELINE_SIGNING_PIN"),
    "current": (*TRACKING, *REGISTRY),
    "package": TRACKING,
    "configure": (*REGISTRY, "PIPELINE_SIGNING_KEY", "PIPELINE_SIGNING_PIN"),
    "weights": (*REGISTRY, "PIPELINE_SIGNING_KEY", "PIPELINE_SIGNING_PIN"),
}


# What a step needs besides, if the configuration has a margin: it reads the last release.
COMPARING: Mapping[str, tuple[str, ...]] = {"evaluate": REGISTRY}


def forget_others(
    step: str, environment: MutableMapping[str, str], comparing: bool = False
) -> None:
    """Drop the secrets of other steps, however many whoever started this one has set."""
    every = {name for names in SECRETS.values() for name in names}
    needed = {*SECRETS[step], *(COMPARING.get(step, ()) if comparing else ())}
    for name in every - needed:
        environment.pop(name, None)
        environment.pop(f"{name}_FILE", None)


@dataclass(frozen=True)
class Section:
    """A part of the configuration that knows its own place."""

    value: Mapping[str, Any]
    where: str

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Return one option; without a default it must be there."""
        if name not in self.value or self.value[name] is None:
            if default is None:
                raise PipelineError(f"{self.where}: the option {name} is missing.")
            return default
        found = self.value[name]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if float in kinds and isinstance(found, int) and not isinstance(found, bool):
            found = float(found)
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            names = " or ".join(each.__name__ for each in kinds)
            raise PipelineError(f"{self.where}, {name}: found {found!r}, wanted {names}.")
        return found

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        return str(self.get(name, str, default))

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number."""
        return float(self.get(name, float, default))

    def count(self, name: str, default: int | None = None) -> int:
        """Return a whole number above zero."""
        found = int(self.get(name, int, default))
        if found < 1:
            raise PipelineError(f"{self.where}, {name}: found {found}, wanted 1 or more.")
        return found

    def section(self, name: str) -> Section:
        """Return a part of this part."""
        return Section(self.get(name, Mapping, {}), f"{self.where}, {name}")


@dataclass(frozen=True)
class Config:
    """What the steps are told."""

    options: Section
    environment: Mapping[str, str]

    @property
    def compares(self) -> bool:
        """Say whether a candidate is to be compared with the last release."""
        return self.options.value.get("margin") is not None

    @property
    def environments(self) -> str:
        """The directory of Python environments; empty for the user's cache directory."""
        return self.options.text("environments", "-").removeprefix("-")

    @property
    def project_python(self) -> str:
        """The Python that is installed for the project; empty where its environment is built."""
        return self.options.text("project_python", "-").removeprefix("-")

    @property
    def project_lock(self) -> str:
        """The locked list that was brought beside the project; empty where the project names it."""
        return self.options.text("project_lock", "-").removeprefix("-")

    @property
    def limit(self) -> int:
        """Seconds that an entry point of a project may take."""
        return self.options.count("limit_seconds", 3600)

    @property
    def disk_mib(self) -> int:
        """MiB of disk that the files of a step may take."""
        return self.options.count("disk_max_mib", MOST_MIB)

    def parameters(self, step: str) -> dict[str, Any]:
        """The operator's parameters for an entry point of the project."""
        found: dict[str, Any] = self.options.section("parameters").get(step, dict, {})
        return dict(found)

    def secret(self, name: str) -> str:
        """Return a secret from the environment, or from the file that NAME_FILE names."""
        if self.environment.get(name):
            return self.environment[name]
        path = self.environment.get(f"{name}_FILE", "")
        if not path:
            raise PipelineError(
                f"The secret {name} is missing; set {name} or {name}_FILE in the environment."
            )
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise PipelineError(f"The file {path} ({name}_FILE) cannot be read: {error}.") from None


def load(path: str, environment: Mapping[str, str] | None = None) -> Config:
    """Read the configuration."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"The configuration {path} cannot be read: {error}.") from None
    value: Any
    try:
        if path.endswith((".yml", ".yaml")):
            import yaml

            value = yaml.safe_load(text)
        else:
            value = json.loads(text)
    except ValueError as error:
        raise PipelineError(f"{path}: this is not JSON ({error}).") from None
    except Exception as error:  # PyYAML has no common base below Exception worth importing first
        raise PipelineError(f"{path}: this is not YAML ({error}).") from None
    if not isinstance(value, Mapping):
        raise PipelineError(f"{path}: wanted a mapping of options.")
    return Config(Section(value, path), os.environ if environment is None else environment)
