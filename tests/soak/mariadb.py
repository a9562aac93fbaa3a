# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CI tries against one MariaDB, against the MariaDB of every release of Debian."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.mysql_server import RELEASES


def main() -> int:
    versions = ",".join(RELEASES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/integration/test_mysql.py", *sys.argv[1:]],
        env={**os.environ, "MARIADB_VERSIONS": versions},
        check=False,
    )
    print(f'{{"mariadb": "{versions}", "failed": {int(done.returncode != 0)}}}')
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
