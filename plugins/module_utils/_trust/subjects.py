# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject of a certificate in the one spelling that nginx has for it (RFC 2253)."""

from __future__ import annotations

from typing import Any

from .certificates import TrustError

LONGEST = 64  # of a common name; those that the platform issues are cut there
SPECIAL = ',+"\\<>;'
# How OpenSSL abbreviates what stands in names.
ABBREVIATIONS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "GN",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}


def subject_of(certificate: Any) -> str:
    """The whole subject, the most particular part first.

    Raises:
        TrustError: A part of it is of a kind that nginx writes in its own way.
    """
    return ",".join(
        "+".join(_part(attribute) for attribute in reversed(list(part)))
        for part in reversed(certificate.subject.rdns)
    )


def of_common_name(name: str) -> str:
    """The subject of a certificate that the platform issues."""
    return f"CN={_escaped(name[:LONGEST])}"


def _part(attribute: Any) -> str:
    number = attribute.oid.dotted_string
    if number not in ABBREVIATIONS or not isinstance(attribute.value, str):
        raise TrustError(f"the subject has a part of the kind {number}, which is not known here")
    return f"{ABBREVIATIONS[number]}={_escaped(attribute.value)}"


def _escaped(value: str) -> str:
    found = ""
    for at, letter in enumerate(value):
        first, last = at == 0, at == len(value) - 1
        if letter in SPECIAL or (letter == "#" and first) or (letter == " " and (first or last)):
            found += f"\\{letter}"
        elif " " <= letter <= "~":
            found += letter
        else:
            found += "".join(f"\\{byte:02X}" for byte in letter.encode())
    return found
