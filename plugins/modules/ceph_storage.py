#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores of a Ceph cluster on one host, before its daemons run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_storage
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: The stores of a Ceph cluster on one host, before its daemons run
description:
  - Decides the cluster's id, the ids of its disks and every key, and stores them in
    C(cluster.json) before anything is made from them.
  - Then makes what is missing, offline, with the programs C(ceph-mon) and C(ceph-osd). A store is
    made beside its place and renamed when it is complete, so whatever a killed run left is made
    again from the same identity.
  - Never makes a store a second time, never touches a device that holds anything, never takes out
    a disk.
options:
  config:
    description: Configuration file of the cluster.
    type: path
    required: true
  data_dir:
    description: Existing directory that gets everything. It must be on a local file system.
    type: path
    required: true
  user:
    description: User of the daemons; its primary group has the same name.
    type: str
    required: true
  osds:
    description: The disks of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: Number of the OSD in the cluster, never used again for another disk.
        type: int
        required: true
      size_gib:
        description: Size of the file. Not used with O(osds[].device).
        type: int
        default: 10
      device:
        description: An empty block device. Without it the OSD lives in a file below O(data_dir).
        type: str
        default: ""
attributes:
  check_mode:
    description: Reports what would be made.
    support: full
  diff_mode:
    description: Shows the steps in words, without keys.
    support: full
"""

EXAMPLES = r"""
- name: Make the stores of the object store
  mlops.onprem.ceph_storage:
    config: /etc/mlops/object_store/ceph.conf
    data_dir: /var/lib/mlops/object_store
    user: mlops-ceph
    osds:
      - {id: 0, size_gib: 100}
      - {id: 1, device: /dev/disk/by-id/nvme-example}
"""

RETURN = r"""
steps:
  description: What was made, or would be made in check mode.
  returned: success
  type: list
  elements: str
  sample: ["make the monitor's store", "make osd.0 on a file of 100 GiB"]
fsid:
  description: Id of the cluster, empty in check mode before it exists.
  returned: success
  type: str
  sample: 3f1b8f3e-6a0c-4b0e-9a52-1f6f6f2f3c11
"""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import (
    GIB,
    MONITOR,
    Disk,
    Identity,
    complete,
    disk_entity,
    dump,
    judge_device,
    keyring,
    load,
    new_key,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.storage import (
    IDENTITY,
    MON,
    Present,
    Step,
    disk_directory,
    keyrings_of,
    plan,
    refuse,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words

LOCK_SECONDS = 300
MKFS_SECONDS = 900
DISKS_AT_ONCE = 3


class Stores:
    """Reads the data directory, plans, makes."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.config: str = wanted["config"]
        self.root: str = wanted["data_dir"]
        self.user: str = wanted["user"]
        self.disks = [
            Disk(row["id"], row["size_gib"] * GIB, row["device"]) for row in wanted["osds"]
        ]
        self.identity_file = os.path.join(self.root, IDENTITY)

    def read_identity(self) -> Identity | None:
        try:
            with open(self.identity_file, encoding="utf-8") as stream:
                return load(stream.read(), self.identity_file)
        except FileNotFoundError:
            return None

    def read(self) -> Present:
        try:
            entries = frozenset(os.listdir(self.root))
        except FileNotFoundError:
            return Present()
        keyrings = {}
        for path in ("admin.keyring", "mgr/keyring", "rgw/keyring"):
            try:
                with open(os.path.join(self.root, path), encoding="utf-8") as stream:
                    keyrings[path] = stream.read()
            except FileNotFoundError:
                pass
        sizes = {}
        for disk in self.disks:
            block = os.path.join(self.root, disk_directory(disk.id), "block")
            if os.path.isfile(block) and not os.path.islink(block):
                sizes[disk.id] = os.path.getsize(block)
        return Present(entries, keyrings, sizes)

    def decide(self, old: Identity | None) -> Identity:
        return complete(
            old,
            self.disks,
            lambda: str(uuid.uuid4()),
            lambda: new_key(os.urandom(16), int(time.time())),
        )

    def look_at_devices(self, identity: Identity, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if step.disk and step.disk.device:
                judge_device(step.disk, identity.disks[step.disk.id], start_of_device(step.disk))

    def store(self, identity: Identity) -> None:
        self.write(IDENTITY, dump(identity), "root")

    def write(self, path: str, text: str, owner: str) -> None:
        """Replace a secret file in one step."""
        account = pwd.getpwnam(owner)
        target = os.path.join(self.root, path)
        self.directory(os.path.dirname(path))
        fresh = target + ".fresh"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fchmod(descriptor, 0o600)
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(fresh, target)
        sync(os.path.dirname(target))

    def directory(self, name: str) -> str:
        path = os.path.join(self.root, name)
        if name:
            account = pwd.getpwnam(self.user)
            os.makedirs(path, mode=0o700, exist_ok=True)
            os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def apply(self, identity: Identity, steps: tuple[Step, ...]) -> None:
        files = keyrings_of(identity)
        # Each disk has its own directory, and mostly waits for what it writes.
        disks = [step.disk for step in steps if step.disk is not None]
        for step in steps:
            if step.kind == "leftover":
                self.clear(step.name)
            elif step.kind == "keyring":
                owner = "root" if step.name == "admin.keyring" else self.user
                self.write(step.name, files[step.name], owner)
            elif step.kind == "mon":
                self.make_monitor(identity)
        self.make_disks(identity, disks)

    def make_disks(self, identity: Identity, disks: list[Disk]) -> None:
        """Make disks at the same time; all have ended when the first that failed is told."""
        with ThreadPoolExecutor(DISKS_AT_ONCE) as pool:
            made = [pool.submit(self.make_disk, identity, disk) for disk in disks]
        for one in made:
            one.result()

    def clear(self, name: str) -> None:
        path = os.path.join(self.root, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def make_monitor(self, identity: Identity) -> None:
        fresh = MON + ".new"
        path = self.directory(fresh)
        # The store has to be made in an empty directory, or nothing is made and 0 returned. It
        # imports all keys; the monitor itself needs only its own.
        seed = MON + "-keys.new"
        self.write(seed, keyring(identity, *identity.keys), self.user)
        self.mkfs(
            [
                *("ceph-mon", "--id", MONITOR, "--fsid", identity.fsid),
                *("--mon-data", path, "--keyring", os.path.join(self.root, seed)),
            ],
            "make the monitor's store",
        )
        if not os.path.isdir(path + "/store.db"):
            raise CephError(
                f"Could not make the monitor's store: ceph-mon left no store in {path}."
            )
        os.unlink(os.path.join(self.root, seed))
        self.write(fresh + "/keyring", keyring(identity, "mon."), self.user)
        self.finish(fresh, MON)

    def make_disk(self, identity: Identity, disk: Disk) -> None:
        name = disk_directory(disk.id)
        fresh = name + ".new"
        path = self.directory(fresh)
        self.write(fresh + "/keyring", keyring(identity, disk_entity(disk.id)), self.user)
        self.write(fresh + "/type", "bluestore\n", self.user)
        if disk.device:
            account = pwd.getpwnam(self.user)
            os.chown(disk.device, account.pw_uid, account.pw_gid)
            where = ["--bluestore-block-path", disk.device]
        else:
            where = ["--bluestore-block-size", str(disk.size)]
        self.mkfs(
            [
                "ceph-osd",
                "--id",
                str(disk.id),
                "--osd-uuid",
                identity.disks[disk.id],
                "--fsid",
                identity.fsid,
                "--osd-data",
                path,
                *where,
            ],
            f"make osd.{disk.id}",
        )
        self.finish(fresh, name)

    def mkfs(self, argv: list[str], doing: str) -> None:
        argv = [*argv, "--mkfs", "--conf", self.config, "--no-mon-config"]
        argv += ["--setuser", self.user, "--setgroup", self.user]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=MKFS_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise CephError(
                f"Could not {doing}: {argv[0]} is not installed; install its package first."
            ) from None
        except subprocess.TimeoutExpired:
            raise CephError(
                f"Could not {doing}: it did not end within {MKFS_SECONDS} seconds; "
                f"look at the disk below {self.root}."
            ) from None
        if done.returncode != 0:
            said = done.stdout.decode("utf-8", "replace").strip()[-1500:]
            raise CephError(f"Could not {doing}: {argv[0]} ended with {done.returncode}: {said}")

    def finish(self, fresh: str, name: str) -> None:
        sync(os.path.join(self.root, fresh))
        os.rename(os.path.join(self.root, fresh), os.path.join(self.root, name))
        sync(self.root)

    def note_made(self) -> None:
        """Write down what is complete, so that its loss is noticed."""
        identity = self.read_identity()
        if identity is None:
            return
        names = [MON, *(disk_directory(disk.id) for disk in self.disks)]
        noted = identity
        for name in names:
            if os.path.isdir(os.path.join(self.root, name)):
                noted = noted.making(name)
        if noted != identity:
            self.store(noted)


def start_of_device(disk: Disk) -> bytes:
    try:
        if not stat.S_ISBLK(os.stat(disk.device).st_mode):
            raise CephError(
                f"{disk.device} for osd.{disk.id} is not a block device; "
                "name one in object_store_osds, or leave device out for a file."
            )
        # O_EXCL on a block device: refused if it is mounted or held by another subsystem.
        descriptor = os.open(disk.device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise CephError(
            f"{disk.device} for osd.{disk.id} cannot be used: {error.strerror}; "
            "name a free block device in object_store_osds."
        ) from error
    try:
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(root: str) -> int:
    """Wait for a run whose controller died but which still works here."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise CephError(
                    f"Another run has been working in {root} for {LOCK_SECONDS} seconds; "
                    "wait until it ends and run again."
                ) from None
            time.sleep(0.2)


def run(module: AnsibleModule, stores: Stores) -> tuple[list[str], str]:
    if not os.path.isdir(stores.root):
        if not module.check_mode:
            raise CephError(f"{stores.root} does not exist; create the directory first.")
        refuse(None, Present(), stores.disks, stores.root)
        identity = stores.decide(None)
        planned = plan(identity, Present(), stores.disks)
        stores.look_at_devices(identity, planned)
        return [step.text for step in planned], ""
    held = -1 if module.check_mode else lock(stores.root)
    try:
        old = stores.read_identity()
        present = stores.read()
        refuse(old, present, stores.disks, stores.root)
        identity = stores.decide(old)
        steps = plan(identity, present, stores.disks)
        texts = [step.text for step in steps]
        stores.look_at_devices(identity, steps)
        if identity != old:
            texts.insert(0, f"decide the identity of the cluster in {IDENTITY}")
        if not module.check_mode:
            if identity != old:
                stores.store(identity)
            stores.apply(identity, steps)
            stores.note_made()
        return texts, identity.fsid if old or not module.check_mode else ""
    finally:
        if held >= 0:
            os.close(held)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "data_dir": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "osds": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "id": {"type": "int", "required": True},
                    "size_gib": {"type": "int", "default": 10},
                    "device": {"type": "str", "default": ""},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        texts, fsid = run(module, Stores(module.params))
    except CephError as error:
        module.fail_json(msg=str(error))
    root = module.params["data_dir"]
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        fsid=fsid,
        diff=diff_in_words(root, texts),
    )


if __name__ == "__main__":
    main()
