# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of this machine, as `model_files.Files` wants them."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO


class LocalFiles:
    """Regular files only: a pipe or a device would be read for ever."""

    def open(self, path: str) -> BinaryIO:
        """The file for reading."""
        self._regular(path)
        return open(path, "rb")

    def size(self, path: str) -> int:
        """Its bytes."""
        return self._regular(path).st_size

    def names(self, path: str) -> tuple[str, ...] | None:
        """What is in a directory."""
        return tuple(os.listdir(path)) if os.path.isdir(path) else None

    @staticmethod
    def _regular(path: str) -> os.stat_result:
        try:
            found = os.stat(path)
        except ValueError:  # a zero byte in the name
            raise FileNotFoundError(2, "No such file or directory", path) from None
        if not stat.S_ISREG(found.st_mode):
            raise OSError(22, "It is no regular file", path)
        return found
