# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What MLflow's accounts lack for people of a site.

MLflow lets everybody create experiments and models, as it has no right to create while it has one
workspace only. A viewer only reads. And each worker remembers right passwords for a while, so that
an account that another worker changed or removed would go on.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

# The role that the site gives to those who only read.
VIEWER = "mlops-viewer"


def viewers_create_nothing(auth: ModuleType) -> None:
    """Whoever has the role of viewers is refused where MLflow asks whether he may create."""
    may_create = auth._can_create_in_workspace

    def may(username: str) -> bool:
        roles = auth.store.list_user_roles(auth.store.get_user(username).id)
        return all(role.name != VIEWER for role in roles) and bool(may_create(username))

    auth._can_create_in_workspace = may


class Changes:
    """A word on disk that is another one after each change of an account, for all workers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def tell(self) -> None:
        """There was a change: replaced as a whole, so that nobody reads half a word."""
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        fresh.write_text(secrets.token_hex(16))
        fresh.replace(self._path)


def forget_changed_accounts(auth: ModuleType, changes: Changes) -> None:
    """What one worker changes about an account, all workers know with the next request."""
    authenticate, invalidate = auth._authenticate_cached, auth._invalidate_user_auth_cache
    seen = [changes.now()]

    def forget() -> None:
        with auth._USER_AUTH_CACHE_LOCK:
            auth._USER_AUTH_CACHE.clear()

    def checked(username: str, password: str) -> Any:
        before = changes.now()
        if before != seen[0]:
            forget()
            seen[0] = before
        user = authenticate(username, password)
        if changes.now() != before:  # what was read meanwhile may be old already
            forget()
        return user

    def changed(username: str) -> None:
        invalidate(username)
        changes.tell()

    if auth._USER_AUTH_CACHE is not None:
        auth._authenticate_cached = checked
        auth._invalidate_user_auth_cache = changed


def apply(auth: ModuleType, home: Path) -> None:
    """Everything above."""
    viewers_create_nothing(auth)
    forget_changed_accounts(auth, Changes(home / "accounts"))
