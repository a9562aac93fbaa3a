# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file on the controller that says which buckets were made."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ..._findings.errors import PlatformError


class BucketError(PlatformError):
    """A sentence for the person who runs the site.

    ``lost`` if what was asked may have happened all the same, ``unreachable`` if no S3 answered.
    """

    def __init__(self, sentence: str, lost: bool = False, unreachable: bool = False) -> None:
        super().__init__(sentence)
        self.lost = lost
        self.unreachable = unreachable


@dataclass(frozen=True)
class Made:
    """A bucket that we asked for.

    ``asked`` and ``created`` are when, by the clock of the controller and by that of the endpoint.
    ``mark`` is how it was marked: ``tag``, ``object``, or empty. ``sure`` once its creation was
    answered. ``plain`` notes, of sites without an identity, hold only the name; ``written`` is when
    the file that holds such a note was last written.
    """

    bucket: str
    asked: str = ""
    created: str = ""
    mark: str = ""
    site: str = ""
    sure: bool = False
    plain: bool = False
    written: str = ""

    @property
    def unanswered(self) -> bool:
        """Whether nobody confirmed that the bucket was made."""
        return not self.plain and not self.sure


Record = dict[str, dict[str, Made]]
"""URL of an endpoint: the buckets that were made there, by name."""

_KEPT = ("asked", "created", "mark", "site", "sure")


def now() -> str:
    """This moment."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def parse_record(text: str, path: str) -> Record:
    """What a file says.

    Raises:
        BucketError: It is damaged.
    """
    try:
        data = json.loads(text)
        return {str(url): _parse_entry(names) for url, names in data.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BucketError(
            f"{path} is damaged ({error}), so it is not known which buckets the platform made; "
            "restore the file, or delete it if none is to be deleted."
        ) from error


def _parse_entry(names: Any) -> dict[str, Made]:
    if isinstance(names, list):
        return {str(name): Made(str(name), plain=True) for name in names}
    return {
        str(name): Made(
            str(name), plain=not said, **{key: said[key] for key in _KEPT if key in said}
        )
        for name, said in names.items()
    }


def _entry(made: Mapping[str, Made]) -> Any:
    if all(note.plain for note in made.values()):
        return list(made)
    return {
        name: {} if note.plain else {key: asdict(note)[key] for key in _KEPT}
        for name, note in made.items()
    }


@dataclass
class Notes:
    """The file that says which buckets were made."""

    path: str

    def read(self) -> Record:
        """What was made, by endpoint."""
        try:
            with open(self.path, encoding="utf-8") as stream:
                written = os.fstat(stream.fileno()).st_mtime
                record = parse_record(stream.read(), self.path)
        except FileNotFoundError:
            return {}
        moment = datetime.fromtimestamp(written, timezone.utc).isoformat()
        return {
            url: {
                name: replace(note, written=moment) if note.plain else note
                for name, note in made.items()
            }
            for url, made in record.items()
        }

    def of(self, url: str) -> dict[str, Made]:
        """What was made at one endpoint."""
        return self.read().get(url, {})

    def write(self, url: str, made: Mapping[str, Made]) -> None:
        """Note what was made at one endpoint; a note of nothing is no file."""
        record = {other: _entry(names) for other, names in self.read().items() if other != url}
        if made:
            record[url] = _entry(made)
        if not record:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        folder = os.path.dirname(self.path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(descriptor)
        os.replace(fresh, self.path)
