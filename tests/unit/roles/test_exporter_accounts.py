# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An exporter is told of its accounts by the option that it knows, whatever its version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._host import unit

ROLES = Path(__file__).resolve().parents[3] / "roles"
# What the programs say with --help: kingpin's words, those of Go's own flags, of 2021 and of today.
TODAY = '      --web.config.file=""       Path to configuration file'
OF_2021 = '      --web.config=""            [EXPERIMENTAL] Path to config yaml file'
NEITHER = "  -web.listen-address string\n    \tAn address or unix domain socket path"
CASES = [
    ("monitoring", "__monitoring_node_run", TODAY, ["--web.config.file=DIRECTORY/node-web.yml"]),
    ("monitoring", "__monitoring_node_run", OF_2021, ["--web.config=DIRECTORY/node-web.yml"]),
    ("common", "__common_nginx_exporter_run", TODAY, ["--web.config.file=DIRECTORY/web.yml"]),
    ("common", "__common_nginx_exporter_run", NEITHER, []),
]


@pytest.mark.parametrize(("role", "name", "helps", "added"), CASES)
def test_the_option_is_the_one_that_the_program_has(
    tmp_path: Path, role: str, name: str, helps: str, added: list[str]
) -> None:
    text = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())[name]
    for place in ("__monitoring_directory", "__common_nginx_exporter_directory"):
        text = text.replace(f"{{{{ {place} }}}}", "DIRECTORY")
    assert "{{" not in text
    program = tmp_path / "exporter"
    program.write_text(
        '#!/bin/sh\nif [ "$1" = --help ]; then cat "$0.help" >&2; exit 2; fi\n'
        'printf "%s\\n" "$$" "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "exporter.help").write_text(helps)
    command = ["/bin/sh", "-c", text, str(program), "--listen=127.0.0.1:1", "--x=(a|b)$"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as done:
        said = done.communicate()[0].splitlines()
    # The process that systemd started is the program itself.
    assert said == [str(done.pid), *command[4:], *added]


@pytest.mark.parametrize(("role", "name"), sorted({case[:2] for case in CASES}))
def test_systemd_expands_nothing_of_it(role: str, name: str) -> None:
    text = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())[name]
    line = unit.command_line(["/bin/sh", "-c", text.replace("{{", "").replace("}}", ""), "/x"])
    assert "\n" not in line
    assert line.replace("$$", "").count("$") == 0
