# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A candidate: a folder with exactly the files of a release, and one digest over all of them.

The step that makes a candidate prints the digest; every later step is told it and refuses other
bytes. So what was evaluated is what is signed, whoever can write to the places in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import canonical
from ansible_collections.mlops.onprem.plugins.module_utils._release.release import (
    CONFIG_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
)

from .disk import check_room
from .errors import PipelineError
from .onnx_file import Description, describe

PROFILE_FILE = "profile.json"
NEEDED = (MODEL_FILE, CONFIG_FILE, GOLDEN_FILE)
KNOWN = (*NEEDED, PROFILE_FILE)
RELEASE_FOLDER = "release"

MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_FILES = 200
READ_BYTES = 1024 * 1024

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A repository of the registry is named after the model, and registries know lower case only.
_MODEL = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")


@dataclass(frozen=True)
class File:
    """One file of a candidate."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Candidate:
    """The files of a release that is not published yet."""

    folder: Path
    files: tuple[File, ...]
    model: Description

    @property
    def digest(self) -> str:
        """One name for all bytes of all files."""
        listed = [
            {"path": each.path, "size": each.size, "sha256": each.sha256} for each in self.files
        ]
        return "sha256:" + hashlib.sha256(canonical(listed)).hexdigest()

    @property
    def size(self) -> int:
        """Bytes that a device downloads and keeps."""
        return sum(each.size for each in self.files)

    def require(self, digest: str, where: str = "") -> None:
        """Refuse other bytes than those that an earlier step has named."""
        if self.digest != check_digest(digest):
            raise PipelineError(
                f"The files in {where or self.folder} have the digest {self.digest}, wanted "
                f"{digest}: they are not the ones that the earlier step has handed on."
            )

    def config(self) -> dict[str, Any]:
        """Read config.json."""
        return read_mapping(self.folder / CONFIG_FILE)

    def golden(self) -> dict[str, Any]:
        """Read golden.json and refuse what is not made of requests and answers."""
        return check_golden(read_mapping(self.folder / GOLDEN_FILE), GOLDEN_FILE)


def check_digest(text: str) -> str:
    """Return the digest of a candidate, or refuse what is none."""
    if not _DIGEST.fullmatch(text):
        raise PipelineError(
            f"Found {text!r}, wanted a candidate such as sha256: and 64 hexadecimal digits; the "
            "steps package and train print it."
        )
    return text


def check_size(size: int, most_mib: int) -> None:
    """Refuse what devices do not plan disk for."""
    if size > most_mib * 2**20:
        raise PipelineError(
            f"The release has {size / 2**20:.1f} MiB, more than the {most_mib} MiB that devices "
            "keep room for. Raise model_serving_release_max_mib for the devices and "
            "release_max_mib in the part limits of this configuration, or shrink the model."
        )


def check_name(name: str) -> str:
    """Return the name of a model, or refuse what cannot name a repository."""
    if len(name) > 63 or not _MODEL.fullmatch(name):
        raise PipelineError(
            f"Found the model name {name!r}, wanted at most 63 lower-case letters and digits with "
            "single dots, dashes or underscores between them, as it also names a repository."
        )
    return name


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise PipelineError(
                f"The file {path} is larger than {MAX_TEXT_BYTES // 2**20} MiB, which is more than "
                "a description of a model needs."
            )
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise PipelineError(f"The file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise PipelineError(f"The file {path} is not JSON.") from None
    if not isinstance(value, dict):
        raise PipelineError(f"The file {path} holds a {type(value).__name__}, wanted an object.")
    return value


def check_golden(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return golden answers; name the case and the part that is wrong."""
    tolerance, cases = value.get("tolerance"), value.get("cases")
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance < 0:
        raise PipelineError(f"{where}, tolerance: found {tolerance!r}, wanted a number from 0 up.")
    if not isinstance(cases, list) or not cases:
        raise PipelineError(f"{where}: there is no case; a release needs one answered request.")
    for number, case in enumerate(cases, start=1):
        place = f"{where}, case {number}"
        if not isinstance(case, Mapping):
            raise PipelineError(f"{place}: wanted an object with request and expected.")
        check_request(case.get("request"), place)
        expected = case.get("expected")
        if not isinstance(expected, Mapping) or not expected:
            raise PipelineError(f"{place}: there is no expected answer (output: list of values).")
        for name, values in expected.items():
            if not isinstance(values, list):
                raise PipelineError(f"{place}, {name}: wanted a flat list of values.")
    return {**value, "cases": cases}


def check_request(request: Any, place: str) -> None:
    """Refuse what is not a request in the Open Inference Protocol."""
    inputs = request.get("inputs") if isinstance(request, Mapping) else None
    if not isinstance(inputs, list) or not inputs:
        raise PipelineError(
            f'{place}: wanted a request such as {{"inputs": [{{"name": …, "shape": [1, 4], '
            '"datatype": "FP32", "data": […]}]}.'
        )
    for tensor in inputs:
        missing = [
            key
            for key in ("name", "shape", "datatype", "data")
            if not isinstance(tensor, Mapping) or key not in tensor
        ]
        if missing:
            raise PipelineError(f"{place}: an input lacks {', '.join(missing)}.")
        shape = tensor["shape"]
        if not isinstance(shape, list) or not all(
            isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in shape
        ):
            raise PipelineError(f"{place}, {tensor['name']}: found the shape {shape!r}.")


def describe_file(path: Path) -> File:
    """Read one file for its digest; a link is not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PipelineError(f"{path} is not a plain file; a candidate holds plain files.")
            digest, size = hashlib.sha256(), 0
            while part := stream.read(READ_BYTES):
                digest.update(part)
                size += len(part)
    except OSError as error:
        raise PipelineError(f"{path} cannot be read as a plain file: {error.strerror}.") from None
    return File(path.name, size, digest.hexdigest())


def check_externals(folder: Path, model: Description) -> None:
    """Refuse numbers that lie outside the folder, or beyond the end of their file."""
    for each in model.externals:
        if not _FILE.fullmatch(each.location) or each.location in (*KNOWN, MANIFEST_FILE):
            raise PipelineError(
                f"The tensor {each.tensor!r} wants its numbers from {each.location[:80]!r}, "
                "which is no plain name of a file beside the model. Save the model with its "
                "weights in one file beside it (onnx.save_model with location='weights.data')."
            )
        path = folder / each.location
        if path.is_symlink() or not path.is_file():
            raise PipelineError(
                f"The tensor {each.tensor!r} wants its numbers from {each.location}, which is "
                f"missing beside the model in {folder}."
            )
        if each.end > path.stat().st_size or each.end < 0:
            raise PipelineError(
                f"The tensor {each.tensor!r} wants bytes up to {each.end} of {each.location}, "
                f"which has {path.stat().st_size}."
            )


def find_folder(folder: Path) -> Path:
    """A candidate is the folder itself or the part of what ``package`` wrote."""
    inner = folder / RELEASE_FOLDER
    return inner if not (folder / MODEL_FILE).exists() and inner.is_dir() else folder


def read_candidate(folder: Path) -> Candidate:
    """Read a candidate; refuse a folder that holds more or less than a release."""
    folder = find_folder(folder)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths, are judged
    except OSError as error:
        raise PipelineError(f"The candidate {folder} cannot be read: {error.strerror}.") from None
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise PipelineError(f"The candidate {folder} lacks {', '.join(missing)}.")
    if len(names) > MAX_FILES:
        raise PipelineError(f"The candidate {folder} has {len(names)} files, above {MAX_FILES}.")
    files = tuple(describe_file(folder / name) for name in names)
    model = describe(folder / MODEL_FILE)
    check_externals(folder, model)
    surplus = sorted(set(names) - set(KNOWN) - set(model.files))
    if surplus:
        raise PipelineError(
            f"The candidate {folder} also holds {', '.join(surplus[:5])}, which nothing of the "
            "model refers to; a release has no files that nobody reads."
        )
    return Candidate(folder, files, model)


def freeze(source: Path, target: Path, most_mib: int | None = None) -> Candidate:
    """Copy a candidate to a folder of our own, where nobody changes it between two looks.

    Nothing is copied of one that has more than ``most_mib``.
    """
    source = find_folder(source)
    target.mkdir()
    target.chmod(0o755)
    try:
        names = sorted(os.listdir(source))  # noqa: PTH208
        if most_mib is not None:
            check_size(sum((source / name).lstat().st_size for name in names), most_mib)
        for name in names[: MAX_FILES + 1]:
            copy_plain(source / name, target / name)
    except OSError as error:
        raise PipelineError(f"The candidate {source} cannot be copied: {error}.") from None
    return read_candidate(target)


def copy_plain(source: Path, target: Path) -> None:
    """Copy a plain file; a link, a pipe or a device is refused, not followed."""
    if source.is_symlink() or not source.is_file():
        raise PipelineError(f"{source} is not a plain file; a candidate holds plain files.")
    shutil.copyfile(source, target)
    target.chmod(0o644)


def write_json(path: Path, value: Any) -> None:
    """Write a file of a candidate; the same value always gives the same bytes."""
    path.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")
    path.chmod(0o644)


def assemble(
    folder: Path,
    model: Path,
    golden: Mapping[str, Any],
    config: Mapping[str, Any],
    profile: Path | None = None,
    most_mib: int | None = None,
) -> Candidate:
    """Make a candidate of an ONNX file, its external data, its golden answers and its settings.

    Nothing is copied of a model that has more than ``most_mib``.
    """
    description = describe(model)
    check_externals(model.parent, description)
    files = [model, *(model.parent / name for name in description.files)]
    size = sum(each.stat().st_size for each in files)
    if most_mib is not None:
        check_size(size, most_mib)
    check_room(folder.parent, size, "A copy of the model")
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    copy_plain(model, folder / MODEL_FILE)
    for name in description.files:
        copy_plain(model.parent / name, folder / name)
    write_json(folder / GOLDEN_FILE, golden)
    write_json(folder / CONFIG_FILE, config)
    if profile is not None:
        read_mapping(profile)
        copy_plain(profile, folder / PROFILE_FILE)
    return read_candidate(folder)


def inputs_of(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the inputs that cases speak of."""
    return sorted({tensor["name"] for case in cases for tensor in case["request"]["inputs"]})
