# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Ansible itself render what a role says, for tests that look at the result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def play(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the play.json of a folder on the hosts.json beside it."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={folder / 'hosts.json'}",
            str(folder / "play.json"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def played(folder: Path) -> None:
    """The same; it has to succeed."""
    done = play(folder)
    assert done.returncode == 0, done.stdout + done.stderr
