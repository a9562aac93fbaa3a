# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends with 0 if the monitor says that the OSDs are up: osds-up.py CONFIG KEYRING ID[,ID]..."""

import json
import sys

import rados


def main(config: str, keyring: str, numbers: str) -> int:
    cluster = rados.Rados(conffile=config, name="client.admin", conf={"keyring": keyring})
    cluster.connect(timeout=5)
    try:
        command = json.dumps({"prefix": "osd dump", "format": "json"})
        code, answer, said = cluster.mon_command(command, b"", timeout=10)
        if code != 0:
            sys.stderr.write(f"the monitor answered {code}: {said}\n")
            return 1
        up = {row["osd"] for row in json.loads(answer)["osds"] if row["up"]}
        down = sorted({int(number) for number in numbers.split(",")} - up)
        if down:
            sys.stderr.write(f"down: {', '.join(f'osd.{number}' for number in down)}\n")
        return 1 if down else 0
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3]))
