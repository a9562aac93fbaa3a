# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the environment on the controller if the host lacks it, and carries it there."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.module_utils._host import app
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.plugin_utils import settled
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import OPTION, site_of

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "mlops.onprem")
# A fixed time makes the same requirements give the same archive.
EPOCH = 315532800


class ActionModule(ActionBase):  # type: ignore[misc]
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            result.update(self._converge(task_vars))
        except HostError as error:
            # Returned, not raised: so failed_when can judge it.
            result.update(failed=True, changed=False, msg=str(error))
        finally:
            self._leave_nothing()
        result.pop("invocation", None)
        return result

    def _leave_nothing(self) -> None:
        """Remove the archive from the host, and the folders around it if nobody uses them."""
        if self._connection._shell.tmpdir:
            self._remove_tmp_path(self._connection._shell.tmpdir)
            self._low_level_execute_command(
                'rmdir "$HOME/.ansible/tmp" "$HOME/.ansible" 2>/dev/null || true', sudoable=False
            )

    def _converge(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(self._task.args)
        name = str(arguments.get("requirements") or "")
        if not name:
            raise HostError("requirements is missing: name the locked file of the role.")
        try:
            path = self._find_needle("files", name)
        except AnsibleError as error:
            raise HostError(to_text(error)) from error
        locks = locks_beside(Path(path))
        arguments["digests"] = {python: app.digest(text) for python, text in locks.items()}

        answer = settled.told(self._task, "host_python_app", arguments, task_vars)
        if answer is not None:
            return answer
        arguments[OPTION] = site_of(task_vars, self._templar)
        asked: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        if asked.get("failed") or not asked.get("archive_wanted") or self._task.check_mode:
            return asked
        target = app.Target(asked["python_version"], asked["machine"], asked["libc"])
        text = next(text for text in locks.values() if app.digest(text) == asked["digest"])
        archive = built(text, target, folder_of(self._templar, task_vars))

        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        remote = self._connection._shell.join_path(folder, "environment.tar.gz")
        self._transfer_file(str(archive), remote)
        self._fixup_perms2((folder, remote))
        return dict(
            self._execute_module(module_args={**arguments, "archive": remote}, task_vars=task_vars)
        )


def locks_beside(path: Path) -> dict[str, str]:
    """The locked files of a role by Python: the one that is named, and those beside it."""
    found = {app.ANY_PYTHON: path}
    for other in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
        python = app.python_of(other.name, path.name)
        if python:
            found[python] = other
    locks = {python: place.read_text(encoding="utf-8") for python, place in found.items()}
    for python, text in locks.items():
        app.refuse_unlocked(text, found[python].name)
    return locks


def uv() -> str:
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=beside + os.pathsep + os.environ.get("PATH", ""))
    if not found:
        raise HostError(
            "uv is missing on the controller; install the controller's requirements.txt."
        )
    return found


def folder_of(templar: Any, variables: Mapping[str, Any]) -> Path:
    """Where the controller keeps built environments."""
    cache = templar.template(variables.get("mlops_cache_dir", CACHE))
    return Path(os.path.expanduser(str(cache))) / "apps"


def archive_of(requirements: str, target: app.Target, cache: Path) -> Path:
    """Where the archive of the environment is, or will be."""
    version = subprocess.run(
        [uv(), "--version"], capture_output=True, text=True, check=False
    ).stdout.split()
    return cache / (app.key(requirements, target, " ".join(version[:2])) + ".tar.gz")


def built(requirements: str, target: app.Target, cache: Path) -> Path:
    """The archive of the environment, from the cache or built now; one builder at a time."""
    program = uv()
    archive = archive_of(requirements, target, cache)
    if archive.exists():
        return archive
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(archive.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            work = archive.with_suffix(".work")
            shutil.rmtree(work, ignore_errors=True)
            try:
                work.mkdir(mode=0o700)
                install(program, requirements, target, work)
                fresh = work / "fresh.tar.gz"
                pack(work / "tree", fresh)
                fresh.replace(archive)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        Path(lock.name).unlink(missing_ok=True)
    return archive


def install(program: str, requirements: str, target: app.Target, work: Path) -> None:
    tree = work / "tree"
    _pip_install(program, requirements, target, work, ("--prefix", str(tree)))
    own = tree / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    wanted = tree / "lib" / f"python{target.version}"
    if own != wanted:
        own.rename(wanted)


def resolve(requirements: str, target: app.Target) -> None:
    """Refuse what could not be built for the target; nothing is downloaded but descriptions."""
    with tempfile.TemporaryDirectory(prefix="mlops-wheels-") as folder:
        work = Path(folder)
        words = ("--dry-run", "--target", str(work / "tree"))
        _pip_install(uv(), requirements, target, work, words)


def _pip_install(
    program: str, requirements: str, target: app.Target, work: Path, words: Sequence[str]
) -> None:
    """uv with the locked file, the target and the controller's own index settings."""
    locked = work / "requirements.txt"
    locked.write_text(requirements, encoding="utf-8")
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    environment = dict(os.environ)
    environment.update(app.index_environment(app.pip_settings(settings.splitlines()), environment))
    argv = [program, "--quiet", "--no-progress", "pip", "install", "--python", sys.executable]
    argv += [*words, "--python-version", target.version, "--python-platform", target.platform]
    argv += ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"]
    argv += ["--requirements", str(locked)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise HostError(
            f"The environment for Python {target.version} on {target.platform} could not be built "
            f"on the controller: {done.stderr.strip()[-2000:]}"
        )


def pack(tree: Path, archive: Path) -> None:
    """The tree as an archive that depends on nothing but its files."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = EPOCH
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        open(archive, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in sorted(tree.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(tree)), recursive=False, filter=plain)
