# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority of a site; everything happens on the controller."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._trust import acceptance
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

CORRECT_AUTHORITY = (
    "set trust_ca_certificate_file to the authority, the authorities above it and the root after "
    "it, with trust_ca_key, or give the host its certificate by trust_host_certificate_file"
)
CORRECT_GIVEN = (
    "put the authorities between after the certificate in trust_host_certificate_file, and their "
    "root in trust_extra_ca_files, or have another certificate issued"
)
SPEC: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "common_name": {"type": "str", "required": True},
    "key": {"type": "str", "no_log": True},
    "known": {"type": "str", "default": ""},
    "certificate_file": {"type": "path"},
    "extra_files": {"type": "list", "elements": "path", "default": []},
    "client_certificate_file": {"type": "path"},
    "days": {"type": "int", "default": 3650},
    "renew_days": {"type": "int", "default": 730},
    "probe": {"type": "bool", "default": False},
    "host_certificate_file": {"type": "path"},
    "host_key_file": {"type": "path"},
    "host_names": {"type": "list", "elements": "str", "default": []},
    "host_address": {"type": "str", "default": ""},
    "host_days": {"type": "int", "default": 397},
    "host_renew_days": {"type": "int", "default": 60},
    "host_renews": {"type": "bool", "default": False},
}


def read(path: str | Path) -> str:
    """The content of a file of the controller."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise trust.TrustError(f"{path} does not exist on the controller") from None
    except (OSError, UnicodeDecodeError) as error:
        raise trust.TrustError(f"{path} cannot be read on the controller: {error}") from error


def replace(path: Path, content: str) -> None:
    """Write a file in one step, readable by all: it holds certificates only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        os.fchmod(handle, 0o644)
        stream.write(content)
    os.replace(temporary, path)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if trust.CRYPTOGRAPHY_ERROR is not None:
            raise AnsibleActionFail(missing_required_lib("cryptography"))
        _checked, args = self.validate_argument_spec(argument_spec=SPEC)
        now = datetime.now(timezone.utc)
        if args["probe"]:
            result.update(changed=False, findings=probe(args, now), **there(args, now))
            return result
        try:
            authority, _made = settle(args, now)
            bundle = bundle_of(args, authority)
            clients = clients_of(args, authority)
        except trust.TrustError as error:
            raise AnsibleActionFail(
                f"The certificate authority cannot be used: {error}."
            ) from error
        directory = Path(args["directory"])
        changes = [
            (path, old, new)
            for path, new in (
                (directory / "ca.crt", authority.pem),
                (directory / "ca-bundle.crt", bundle),
            )
            for old in [path.read_text(encoding="utf-8") if path.exists() else ""]
            if old != new
        ]
        if not self._task.check_mode:
            for path, _old, new in changes:
                replace(path, new)
        result.update(
            changed=bool(changes),
            certificate=authority.pem,
            bundle=bundle,
            clients=clients,
            diff=[
                {
                    "before_header": str(path),
                    "after_header": str(path),
                    "before": trust.summary(old),
                    "after": trust.summary(new),
                }
                for path, old, new in changes
            ],
        )
        return result


def settle(args: dict[str, Any], now: datetime) -> tuple[trust.Authority, bool]:
    """The authority to use, and whether it is made now."""
    key = args["key"] or None
    if args["certificate_file"]:
        where = args["certificate_file"]
        return trust.load_authority(read(where), key, where), False
    if key is None:
        raise trust.TrustError("there is neither a key nor a certificate of an authority")
    path = Path(args["directory"]) / "ca.crt"
    known: trust.Authority | None
    if path.exists():
        try:
            known = trust.load_authority(read(path), key, str(path))
        except trust.TrustError as error:
            raise trust.TrustError(
                f"{error}; restore the secret trust_ca_key that belongs to it, or remove {path} "
                "to start with a new authority"
            ) from error
    elif args["known"]:
        known = trust.load_authority(args["known"], key, "the authority that hosts trust")
    else:
        known = None
    if known is not None:
        left = (known.certificate.not_valid_after_utc - now).total_seconds() / 86400
        if left >= args["renew_days"]:
            return known, False
    return trust.new_authority(key, args["common_name"], now, args["days"]), True


def there(args: dict[str, Any], now: datetime) -> dict[str, str]:
    """What hosts are to trust, where that is not yet to be made; empty otherwise."""
    try:
        authority, made = settle(args, now)
        if not made:
            return {"bundle": bundle_of(args, authority), "clients": clients_of(args, authority)}
    except trust.TrustError:
        pass  # told among the findings
    return {"bundle": "", "clients": ""}


def bundle_of(args: dict[str, Any], authority: trust.Authority) -> str:
    texts = [(authority.pem, "the certificate of the authority")]
    texts += [(read(path), path) for path in args["extra_files"]]
    return trust.bundle(*texts)


def clients_of(args: dict[str, Any], authority: trust.Authority) -> str:
    """What vouches for clients: who issued to the one that reads metrics, and nobody else."""
    others = [
        *authority.chain,
        *(
            one
            for path in args["extra_files"]
            for one in trust.parse_certificates(read(path), path)
        ),
    ]
    issuers = trust.up_to_the_root(authority.chain, others)
    if args["client_certificate_file"]:
        where = args["client_certificate_file"]
        given = trust.parse_certificates(read(where), where)
        issuers = trust.up_to_the_root(given, others)[1:] or issuers
    return trust.bundle((trust.to_pem(issuers), "the authority of clients"))


def probe(args: dict[str, Any], now: datetime) -> list[dict[str, str]]:
    """Findings about the authority, the files to trust and the host's own certificate."""
    findings = [_finding("authority", *_authority(args, now))]
    for path in args["extra_files"]:
        try:
            found = len(trust.parse_certificates(read(path), path))
        except trust.TrustError as error:
            findings.append(
                _finding(
                    "extra_ca",
                    "fail",
                    str(error),
                    "certificates in PEM form",
                    "correct trust_extra_ca_files",
                )
            )
        else:
            findings.append(
                _finding("extra_ca", "pass", f"{found} certificates in {path}", "certificates")
            )
    if all(finding["severity"] != "fail" for finding in findings) and args["host_names"]:
        findings += _given(args, now) if args["host_certificate_file"] else [_trial(args, now)]
    return findings


def _trial(args: dict[str, Any], now: datetime) -> dict[str, str]:
    """Whether what will be issued for the host is accepted: one is issued and tried in memory."""
    names = trust.names_of(args["host_names"][0], args["host_names"][1:])
    wanted = f"certificates for {names.text} that every client and server accepts"
    try:
        authority, _made = settle(args, now)
        bundle = bundle_of(args, authority)
        refused = acceptance.trial_refusal(bundle, authority, names, now, args["host_days"])
    except trust.TrustError as error:
        return _finding("certificate", "fail", str(error), wanted, CORRECT_AUTHORITY)
    if refused:
        found = f"a certificate of this authority is refused: {refused}"
        return _finding("certificate", "fail", found, wanted, CORRECT_AUTHORITY)
    return _finding("certificate", "pass", "a trial certificate is accepted", wanted)


def _authority(args: dict[str, Any], now: datetime) -> tuple[str, str, str, str]:
    wanted = "an authority that can issue certificates"
    try:
        authority, made = settle(args, now)
    except trust.TrustError as error:
        remedy = (
            "correct trust_ca_certificate_file and trust_ca_key"
            if args["certificate_file"]
            else "restore the secrets of the site from a backup"
        )
        return "fail", str(error), wanted, remedy
    if made:
        return "pass", "none yet, one is created", wanted, ""
    left = (authority.certificate.not_valid_after_utc - now).total_seconds() / 86400
    found = f"{authority.certificate.subject.rfc4514_string()}, valid for {left:.0f} days"
    if left <= 0:
        return "fail", found, wanted, "set trust_ca_certificate_file to a valid certificate"
    if left < args["host_renew_days"]:
        return (
            "warn",
            found,
            "an authority that outlives the certificates it issues",
            ("set trust_ca_certificate_file to a newer certificate"),
        )
    return "pass", found, wanted, ""


def _given(args: dict[str, Any], now: datetime) -> list[dict[str, str]]:
    """What is wrong with the certificate that the host was given."""
    names = trust.names_of(args["host_names"][0], args["host_names"][1:])
    wanted = f"a valid certificate for {names.text} with its key"
    remedy = "correct trust_host_certificate_file and trust_host_key_file"
    try:
        chain, key = read(args["host_certificate_file"]), read(args["host_key_file"] or "")
        renews = args["host_renews"]
        wrong = trust.check_given(
            chain,
            key,
            names,
            now,
            None if renews else args["host_renew_days"],
            args["host_address"],
        )
        findings = [
            _finding("certificate", severity, found, wanted, remedy) for severity, found in wrong
        ]
        end = trust.parse_certificates(chain, "")[0].not_valid_after_utc
        ended = end <= now
        # The one that took its place is on the host, and was judged there.
        if all(severity != "fail" for severity, _found in wrong) and not (renews and ended):
            findings += _refused(bundle_of(args, settle(args, now)[0]), chain, key, wanted)
    except trust.TrustError as error:
        return [_finding("certificate", "fail", str(error), wanted, remedy)]
    found = "a certificate issued elsewhere"
    if ended:
        found += f" that ended on {end:%Y-%m-%d}; the host renews it, in this run if it has to"
    return findings or [_finding("certificate", "pass", found, wanted)]


def _refused(bundle: str, chain: str, key: str, wanted: str) -> list[dict[str, str]]:
    """What clients and servers say to a certificate that was issued elsewhere."""
    refused = acceptance.refusal_of(bundle, chain, key)
    if not refused:
        return []
    found = f"a certificate that is refused: {refused}"
    return [_finding("certificate", "fail", found, wanted, CORRECT_GIVEN)]


def _finding(
    check: str, severity: str, found: str, wanted: str, remedy: str = ""
) -> dict[str, str]:
    return {
        "id": f"trust.{check}",
        "severity": severity,
        "found": found,
        "wanted": wanted,
        "remedy": remedy,
    }
