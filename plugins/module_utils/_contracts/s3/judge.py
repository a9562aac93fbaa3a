# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an S3 endpoint answered, and what follows for the accounts and buckets of the site."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..._findings.errors import PlatformError
from ..._findings.finding import Finding
from ..._findings.sentence import listing, one_line
from ..contract import Contract

# The steps of a probe in their order, with the words that complete "may not ...".
STEPS = {
    "list": "list objects",
    "put": "put objects",
    "get": "get objects",
    "range": "get a range of an object",
    "multipart": "upload an object in parts",
    "delete": "delete objects",
}
_UNKNOWN_KEY = ("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken")
_WRONG_SECRET = ("SignatureDoesNotMatch",)
_WRONG_REGION = (
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "InvalidRegion",
)
_SKEWED = ("RequestTimeTooSkewed", "RequestExpired")
MISSING = ("NoSuchBucket", "404", "NotFound")
FORBIDDEN = ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "UnauthorizedAccess")
_TOO_LARGE = ("EntityTooLarge", "413")
UNSUPPORTED = ("NotImplemented", "501", "MethodNotAllowed", "405")
_SUSPENDED = ("UserSuspended", "AccountProblem", "AccountSuspended")
_QUOTA = ("QuotaExceeded", "507", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
_ABSENT = ("NoSuchLifecycleConfiguration", "NoSuchTagSet", "NoSuchTagSetError")
_REFUSED_FOR_ITS_FORM = (
    "MalformedXML",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidLocationConstraint",
    "400",
)
# Where a refusal comes from: S3 itself, something else that speaks HTTP, or nobody at all.
S3, FOREIGN, SILENT = "S3", "foreign", "silent"
# The code of a request that was not answered within the time of the probe.
EXPIRED = "Expired"
_UNSENT = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ProxyConnectionError",
    "SSLError",
    "ParamValidationError",
)
_UNCERTAIN = ("InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted")
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{3,63}}$){_LABEL}(?:\.{_LABEL})*")
_RGW_REQUEST = re.compile(r"^tx[0-9a-f]{10,}-[0-9a-f]+-[0-9a-f]+-")


class EndpointError(PlatformError):
    """A sentence for the person who runs the site."""


@dataclass(frozen=True)
class Account:
    name: str
    access_key: str
    secret_key: str
    buckets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Account({self.name!r}, buckets={self.buckets!r})"


@dataclass(frozen=True)
class Refusal:
    """An error answer: S3's code (or the HTTP status as text), its message, and all its words.

    ``source`` is ``S3``, ``FOREIGN`` for an answer that is not S3's, ``SILENT`` for none.
    """

    code: str
    message: str = ""
    words: str = field(default="", compare=False, repr=False)
    source: str = field(default=S3, compare=False)

    def is_one_of(self, codes: tuple[str, ...]) -> bool:
        return self.code in codes

    @property
    def is_missing(self) -> bool:
        """Whether S3 itself says that there is no such bucket or object."""
        return self.source == S3 and self.is_one_of((*MISSING, "NoSuchKey"))

    @property
    def may_have_worked(self) -> bool:
        """Whether what was asked may have happened all the same, as after a lost answer."""
        if self.source == S3:
            return self.code in _UNCERTAIN
        if self.source == FOREIGN:
            return self.code.startswith("5")
        return self.code not in _UNSENT

    def __str__(self) -> str:
        text = one_line(self.message)
        return f"{self.code}: {text}" if text else self.code


@dataclass(frozen=True)
class BucketSeen:
    """The outcome of each step that was tried; ``None`` means it worked."""

    account: str
    bucket: str
    outcomes: dict[str, Refusal | None] = field(default_factory=dict)
    wrong_content: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    retention: str = ""
    creation: Refusal | None = None
    creation_was_tried: bool = False
    not_written: str = ""
    capabilities: dict[str, str] = field(default_factory=dict)

    @property
    def first_refusal(self) -> Refusal | None:
        return next((refusal for refusal in self.outcomes.values() if refusal), None)

    @property
    def missing(self) -> bool:
        refusal = self.outcomes.get("list")
        return bool(refusal and refusal.is_missing)


@dataclass(frozen=True)
class Location:
    host: str
    port: int


def locate(url: str) -> Location:
    """Host and port of an endpoint's URL, which must be https without a path."""
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise EndpointError(f"object_store_endpoint: {url!r} has no valid port.") from None
    if parts.scheme != "https" or not parts.hostname:
        raise EndpointError(
            f"object_store_endpoint: {url!r} is not of the form https://host or https://host:port."
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise EndpointError(
            f"object_store_endpoint: {url!r} holds more than https://host:port; leave out "
            "bucket, path and credentials."
        )
    return Location(parts.hostname, port)


def is_bucket_name(name: str) -> bool:
    """Whether a bucket can be created by that name at every endpoint."""
    return bool(_NAME.fullmatch(name)) and not re.fullmatch(r"\d+(?:\.\d+){3}", name)


def keys_of(contract: Contract, account: str) -> str:
    """The variables that hold the keys of an account."""
    return (
        f"{contract.variable('access_key')} and {contract.variable('secret_key')}, "
        f"or the keys of {account} in {contract.variable('accounts')}"
    )


def other_buckets(contract: Contract, account: str) -> str:
    """The variables by which an account is given other buckets."""
    return (
        f"set {contract.variable('bucket_prefix')}, or other buckets of {account} in "
        f"{contract.variable('accounts')}"
    )


def vendor_of(headers: dict[str, str]) -> str:
    """``ceph``, ``aws`` or ``unknown``, from the headers of any answer."""
    if _RGW_REQUEST.match(headers.get("x-amz-request-id", "")):
        return "ceph"
    if headers.get("server", "").lower() == "amazons3":
        return "aws"
    return "unknown"


def refuses_malformed_creation(vendor: str) -> bool:
    """Whether CreateBucket with a body that is no XML is known to create nothing.

    Both check the right to create before they parse the body, so the answer tells the right:
    AccessDenied without it, MalformedXML with it. Others might ignore the body.
    """
    return vendor in ("ceph", "aws")


def capability(refusal: Refusal | None, value: str) -> str:
    """Turn an answer about versioning, lifecycle or tagging into a word."""
    if refusal is None:
        return value
    if refusal.is_one_of(_ABSENT):
        return "none"
    if refusal.is_one_of(FORBIDDEN):
        return "forbidden"
    if refusal.is_one_of(UNSUPPORTED):
        return "unsupported"
    return f"unknown ({refusal.code})"


def judge_account(
    contract: Contract, account: Account, region: str, refusal: Refusal | None
) -> Finding | None:
    """A finding about the account itself, if that is what the refusal speaks of."""
    if refusal is None or refusal.source != S3:
        return None
    who = f"account {account.name}"
    keys = keys_of(contract, account.name)
    wanted = f"keys that the endpoint accepts for {who}"
    if refusal.is_one_of(_UNKNOWN_KEY):
        return contract.failed(
            "credentials",
            f"the endpoint does not know the access key of {who} ({refusal.code})",
            wanted,
            f"correct {keys}",
        )
    if refusal.is_one_of(_WRONG_SECRET):
        return contract.failed(
            "credentials",
            f"the secret key of {who} does not belong to its access key ({refusal.code})",
            wanted,
            f"correct {keys}, and {contract.variable('region')} if it is not {region}; or a proxy "
            "before the endpoint changes the requests: let it hand on the name that was asked for "
            "(nginx: proxy_set_header Host $http_host)",
        )
    if refusal.is_one_of(_SUSPENDED):
        return contract.failed(
            "credentials",
            f"{who} is suspended at the endpoint ({refusal.code})",
            wanted,
            f"have it enabled again, or set other keys in {keys}",
        )
    if refusal.is_one_of(_WRONG_REGION):
        return contract.failed(
            "region",
            f"the endpoint does not accept region {region} ({refusal})",
            "the region of the buckets",
            f"set {contract.variable('region')}",
        )
    if refusal.is_one_of(_SKEWED):
        return contract.failed(
            "clock",
            f"the endpoint refuses requests of this controller for their time ({refusal.code})",
            "clocks that differ by less than 15 minutes",
            "synchronise both clocks with one time server (chrony or systemd-timesyncd)",
        )
    return None


def judge_answer(contract: Contract, refusal: Refusal | None) -> Finding | None:
    """A finding if the first request was answered by no S3, or not at all."""
    if refusal is None or refusal.source == S3:
        return None
    endpoint = contract.name_variable
    if refusal.source == FOREIGN:
        return contract.failed(
            "answer",
            f"an answer that is not S3's ({refusal})",
            "an endpoint that speaks S3",
            f"set {endpoint} to the address of S3 itself, not of a console or another web server, "
            "and look at the proxy before it",
        )
    if refusal.code == EXPIRED:
        remedy = _slow(contract)
        return contract.failed("answer", str(refusal.message), "an endpoint that answers", remedy)
    return contract.failed(
        "answer",
        f"no answer to a request ({refusal})",
        "an endpoint that speaks S3",
        f"look at the log of the endpoint and of the proxy before it, or correct {endpoint}",
    )


def _slow(contract: Contract) -> str:
    return (
        "look at the log of the endpoint and of the proxy before it for what keeps it waiting, or "
        f"raise {contract.variable('probe_seconds')} if it is only slow"
    )


def judge_foreign(contract: Contract, bucket: str, owner: str, site_id: str) -> Finding | None:
    """A finding if a bucket bears the mark of another site, which deletes it when it goes."""
    if not site_id or not owner or owner == site_id:
        return None
    return contract.failed(
        "bucket",
        f"bucket {bucket} was made by another site (its mark is {owner}, this site is {site_id})",
        "buckets that no other site deletes when it is removed",
        f"set {contract.variable('bucket_prefix')}, or other buckets in "
        f"{contract.variable('accounts')}",
    )


def judge_bucket(contract: Contract, seen: BucketSeen) -> list[Finding]:
    """Findings about one bucket through one account."""
    if seen.missing:
        return [_judge_missing(contract, seen)]
    place = f"bucket {seen.bucket}"
    who = f"account {seen.account}"
    wanted = f"list, put, get, range get, multipart upload and delete in {place} for {who}"
    if seen.retention:
        return [
            contract.failed(
                "objects",
                f"{place} locks new objects ({seen.retention}), so nothing can be deleted",
                f"a bucket without default retention for {who}",
                other_buckets(contract, seen.account),
            )
        ]
    if seen.not_written and not seen.first_refusal:
        return [
            contract.warned(
                "objects",
                f"nothing was written to {place}, because {seen.not_written}",
                f"{wanted}, and the right to see that nothing of the probe stays",
                f"grant {who} the rights GetBucketVersioning, GetBucketObjectLockConfiguration "
                "and ListBucketVersions, or nothing to do: the first use will tell",
            )
        ]
    findings = []
    refused = {step: refusal for step, refusal in seen.outcomes.items() if refusal}
    if refused:
        findings.append(_judge_refused(contract, seen, refused, wanted))
    elif seen.wrong_content:
        findings.append(
            contract.failed(
                "objects",
                f"{place} returned other bytes than were stored ({listing(seen.wrong_content)})",
                wanted,
                "look for a proxy that alters content between the controller and the endpoint",
            )
        )
    else:
        findings.append(
            contract.passed(
                "objects",
                f"{who} can do all of this in {place}",
                wanted,
            )
        )
    if seen.left_behind:
        findings.append(
            contract.warned(
                "leftovers",
                f"{listing(seen.left_behind)} could not be removed from {place}",
                "a bucket as it was before the probe",
                f"delete {listing(seen.left_behind)} from {place}",
            )
        )
    findings += _judge_capabilities(contract, seen)
    return findings


def _judge_refused(
    contract: Contract, seen: BucketSeen, refused: dict[str, Refusal], wanted: str
) -> Finding:
    first = next(iter(refused.values()))
    doing = " or ".join(STEPS[step] for step in refused)
    who, place = f"account {seen.account}", f"bucket {seen.bucket}"
    if all(refusal.is_one_of(FORBIDDEN) for refusal in refused.values()):
        return contract.failed(
            "objects",
            f"{who} may not {doing} in {place} ({first.code})",
            wanted,
            f"grant it the right, or set other keys: {keys_of(contract, seen.account)}",
        )
    if any(refusal.is_one_of(_TOO_LARGE) for refusal in refused.values()):
        return contract.failed(
            "objects",
            f"a part of 5 MiB is too large for {place} ({first})",
            wanted,
            "raise the limit of request bodies in the proxy before the endpoint "
            "(nginx: client_max_body_size)",
        )
    return contract.failed(
        "objects",
        f"{who} cannot {doing} in {place} ({first})",
        wanted,
        remedy_of(contract, first, who),
    )


def remedy_of(contract: Contract, refusal: Refusal, who: str) -> str:
    """What helps against a refusal that is about neither keys nor rights."""
    if refusal.is_one_of(_QUOTA):
        return f"raise the quota of {who} and of the bucket at the endpoint, or free room there"
    if refusal.is_one_of(("TooManyBuckets",)):
        return f"raise the number of buckets of {who} at the endpoint"
    if refusal.is_one_of(("InvalidRange", "416")):
        return (
            "update the endpoint, or use another: it answers a range of an object that was "
            "uploaded in parts wrongly, and models are read that way"
        )
    if refusal.source == FOREIGN:
        return "look at the proxy before the endpoint: the answer is its own, not S3's"
    if refusal.code == EXPIRED:
        return _slow(contract)
    if refusal.source == SILENT:
        return "look at the log of the endpoint and of the proxy before it for what kept it waiting"
    return "see the endpoint's log for the requests of this controller"


def _judge_missing(contract: Contract, seen: BucketSeen) -> Finding:
    place, who = f"bucket {seen.bucket}", f"account {seen.account}"
    wanted = f"{place}, or the right of {who} to create it"
    by_hand = f"create {place} for {who}"
    if not is_bucket_name(seen.bucket):
        return contract.failed(
            "bucket",
            f"there is no {place}, and no bucket can be created by that name",
            "a name of 3 to 63 small letters, digits, hyphens and dots",
            other_buckets(contract, seen.account),
        )
    if not seen.creation_was_tried:
        return contract.warned(
            "bucket",
            f"there is no {place}, and whether {who} may create it cannot be told "
            "without creating it",
            wanted,
            f"{by_hand}, or let the site try",
        )
    if seen.creation is None:
        return contract.warned(
            "bucket",
            f"{place} was created by a request that should have been refused, and was "
            "removed at once",
            wanted,
            "nothing to do: the site creates it again",
        )
    if seen.creation.is_one_of(_REFUSED_FOR_ITS_FORM):
        return contract.passed(
            "bucket", f"there is no {place} yet, and {who} may create it", wanted
        )
    if seen.creation.is_one_of(("TooManyBuckets",)):
        return contract.failed(
            "bucket",
            f"there is no {place}, and {who} already has all buckets it may have",
            wanted,
            f"raise the number of buckets of {who}, or {by_hand}",
        )
    if seen.creation.is_one_of(FORBIDDEN):
        return contract.failed(
            "bucket",
            f"there is no {place}, and {who} may not create it ({seen.creation.code})",
            wanted,
            by_hand,
        )
    return contract.warned(
        "bucket",
        f"there is no {place}, and whether {who} may create it is unclear ({seen.creation})",
        wanted,
        f"{by_hand}, or let the site try",
    )


def _judge_capabilities(contract: Contract, seen: BucketSeen) -> list[Finding]:
    if not seen.capabilities:
        return []
    text = listing(f"{name} {value}" for name, value in seen.capabilities.items())
    place = f"bucket {seen.bucket}"
    lacking = [name for name, value in seen.capabilities.items() if value == "unsupported"]
    if lacking:
        return [
            contract.warned(
                "capabilities",
                f"{place}: {text}",
                f"{place}: versioning, lifecycle and tagging known to the endpoint",
                f"nothing to do: what needs {listing(lacking)} is left out",
            )
        ]
    return [contract.passed("capabilities", f"{place}: {text}", "recorded for later")]
