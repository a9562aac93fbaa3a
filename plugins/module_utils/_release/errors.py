# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this package."""

from __future__ import annotations


class RegistryError(Exception):
    """Something about a release is not as it must be; the message is a sentence for people."""


class DamagedError(RegistryError):
    """The files of a release on the disk are not those that its digest names."""


class UntrustedError(RegistryError):
    """A release carries no signature of the key that is trusted here."""


class RevokedError(UntrustedError):
    """A release was signed with a key that was revoked."""


class MistakenError(RegistryError):
    """A statement is well signed, but speaks of something other than what was asked for."""


class BusyError(RegistryError):
    """Another process works on the releases; trying again helps."""


class HeldError(RegistryError):
    """The device or its operator refuses; the sentence says why."""
