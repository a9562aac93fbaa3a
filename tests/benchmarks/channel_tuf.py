# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python-tuf's verifier as an oracle: the same trace, and the verdicts must agree.

Every root document becomes a TUF root of the same version, keys and thresholds, every channel a
TUF timestamp whose version is the sequence; each is signed by exactly those keys whose signatures
over our bytes are good. The client around the verifier does what ``tuf.ngclient.Updater`` does:
roots one by one, the timestamp that is kept, then the one that is new. Ring, class, counters,
generations and the floor of the time are not TUF's, and these traces differ in nothing of them; a
channel under a root that was kept from the device we refuse, TUF cannot tell: there the roots alone
are compared.
"""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING

from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.documents import (
    MAX_ROOT_BYTES,
    Role,
    Signed,
    parse_channel,
    parse_root,
    parse_signatures,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.channel.rules import (
    MISPLACED,
    OLD,
    Clock,
    Judgement,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from cryptography.hazmat.primitives import serialization
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey
from tuf.api import metadata as tuf
from tuf.api.exceptions import EqualVersionNumberError, RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from tests.benchmarks.channel_disk import Broken
from tests.benchmarks.channel_site import Paper, Site
from tests.benchmarks.channel_world import Key, verify

if TYPE_CHECKING:
    from tests.benchmarks.channel_traces import Trace

NONSENSE = b"{"


def moment(seconds: float) -> datetime.datetime:
    """The time as TUF writes it."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)


def tuf_key(public: str, name: str) -> SSlibKey:
    """A public key under our id."""
    loaded = serialization.load_pem_public_key(public.encode())
    return SSlibKey.from_crypto(loaded, keyid=name)


class Oracle:
    """Judges the traces of one site."""

    def __init__(self, site: Site) -> None:
        everyone = [*site.root_keys, site.stranger, *(key for one in site.online for key in one)]
        self._keys: dict[str, Key] = {key.id: key for key in everyone}
        self._signers = {
            key.id: CryptoSigner(key.private, tuf_key(key.public, key.id)) for key in everyone
        }
        self._written: dict[tuple[bytes, bytes], bytes] = {}
        self._trace: Trace | None = None
        self._first = self._root(site.signed_roots[0])
        self._kept_root = self._first
        self._kept: bytes | None = None

    def __call__(
        self,
        trace: Trace,
        chain: list[Signed],
        paper: Paper,
        clock: Clock,
        verdict: Judgement,
    ) -> None:
        """Judge the same; raises where TUF says something else."""
        if self._trace is not trace:
            self._trace, self._kept_root, self._kept = trace, self._first, None
        early = verdict.refusal is not None and verdict.refusal.kind == MISPLACED
        said = self._refresh(chain, None if early else paper, clock)
        ours = "new" if verdict.new else "same" if verdict.channel is not None else "refused"
        # Two documents under one number: TUF keeps the first and says nothing, we say so.
        if said == "same" and verdict.refusal is not None and verdict.refusal.kind == OLD:
            ours = "same"
        state = verdict.state
        found, wanted = (ours, state.root.version, state.sequence), (said, *self._versions())
        trace.counts["under a later root" if early else f"agreed on {said}"] += 1
        if found != wanted:
            raise Broken(f"python-tuf says {wanted}, we say {found}")

    def _refresh(self, chain: list[Signed], paper: Paper | None, clock: Clock) -> str:
        trusted = TrustedMetadataSet(self._kept_root, EnvelopeType.METADATA)
        trusted.reference_time = moment(clock.now)
        try:
            for one in chain:
                data = self._root(one)
                trusted.update_root(data)
                self._kept_root = data
            if paper is None:
                return "refused"
            if self._kept is not None:
                with contextlib.suppress(RepositoryError):
                    trusted.update_timestamp(self._kept)
            data = self._timestamp(paper.served)
            try:
                trusted.update_timestamp(data)
            except EqualVersionNumberError:
                expired = trusted.timestamp.is_expired(trusted.reference_time)
                return "refused" if expired else "same"
        except RepositoryError:
            return "refused"
        self._kept = data
        return "new"

    def _versions(self) -> tuple[int, int]:
        """The root that is trusted, and how far what it trusts has come."""
        root = tuf.Metadata[tuf.Root].from_bytes(self._kept_root)
        if self._kept is None:
            return root.signed.version, 0
        kept = tuf.Metadata[tuf.Timestamp].from_bytes(self._kept)
        try:
            root.verify_delegate(tuf.Timestamp.type, kept)
        except RepositoryError:
            return root.signed.version, 0
        return root.signed.version, kept.signed.version

    # -- the same documents, as TUF writes them ---------------------------------------------

    def _root(self, served: Signed) -> bytes:
        found = (served.data, served.signatures)
        if found not in self._written:
            self._written[found] = self._new_root(served)
        return self._written[found]

    def _new_root(self, served: Signed) -> bytes:
        try:
            ours = parse_root(served.data)
        except RegistryError:
            return NONSENSE
        if len(served.data) > MAX_ROOT_BYTES:
            return NONSENSE

        def role(one: Role) -> tuf.Role:
            return tuf.Role(list(one.keys), one.threshold)

        root = tuf.Root(
            version=ours.version,
            expires=moment(ours.expires),
            keys={name: tuf_key(public, name) for name, public in ours.keys.items()},
            roles={
                tuf.Root.type: role(ours.root),
                tuf.Timestamp.type: role(ours.channel),
                tuf.Snapshot.type: role(ours.channel),
                tuf.Targets.type: role(ours.channel),
            },
            consistent_snapshot=False,
        )
        return self._signed(tuf.Metadata(root), served)

    def _timestamp(self, served: Signed) -> bytes:
        found = (served.data, served.signatures)
        if found not in self._written:
            try:
                ours = parse_channel(served.data)
            except RegistryError:
                return NONSENSE
            made = tuf.Timestamp(version=ours.sequence, expires=moment(ours.expires))
            self._written[found] = self._signed(tuf.Metadata(made), served)
        return self._written[found]

    def _signed(
        self, made: tuf.Metadata[tuf.Root] | tuf.Metadata[tuf.Timestamp], served: Signed
    ) -> bytes:
        """Sign by the keys that signed ours; a signature that is bad there is bad here."""
        for name, signature in parse_signatures(served.signatures):
            if name not in self._keys:
                continue
            if verify(self._keys[name].public, served.data, signature):
                made.sign(self._signers[name], append=True)
            else:
                made.signatures[name] = Signature(name, signature.hex())
        return bytes(made.to_bytes())
