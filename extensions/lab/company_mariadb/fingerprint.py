# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print, as JSON, everything the company would miss if it changed. Runs on the database host.

`company` is what was there before us; `others` what somebody has added since.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

Rows = list[list[str]]
ACCOUNTS = {"erp_app", "erp_report", "platform_dba", "company_staff", "mysql", "root", "PUBLIC"}
ACCOUNTS |= {"mariadb.sys"}
DATABASES = {"erp", "mysql", "sys", "information_schema", "performance_schema"}
FILES = sorted(Path("/etc/mysql").rglob("*.cnf")) + sorted(Path("/etc/mysql").rglob("*.crt"))
GRANTS = {
    "global_priv": "SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2",
    "db": "SELECT User, Host, Db, t.* FROM mysql.db t ORDER BY 1, 2, 3",
    "tables_priv": "SELECT User, Host, Db, t.* FROM mysql.tables_priv t ORDER BY 1, 2, 3, 4, 5, 6",
    "procs_priv": "SELECT User, Host, Db, t.* FROM mysql.procs_priv t ORDER BY 1, 2, 3",
    "roles_mapping": "SELECT User, Host, Role, t.* FROM mysql.roles_mapping t ORDER BY 1, 2, 3",
}
SETTINGS = """
SELECT VARIABLE_NAME, GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES
 WHERE GLOBAL_VALUE_ORIGIN IN ('CONFIG', 'SQL', 'COMMAND-LINE') ORDER BY 1
"""
SCHEMATA = """
SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, SCHEMA_COMMENT
  FROM information_schema.SCHEMATA ORDER BY 1
"""
THINGS = """
SELECT 'table', TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'erp'
UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_NAME FROM information_schema.ROUTINES
 WHERE ROUTINE_SCHEMA = 'erp' ORDER BY 1, 2
"""


def query(text: str) -> Rows:
    command = [
        "mariadb",
        "--no-defaults",
        "--skip-ssl",
        "--default-character-set=utf8mb4",
        "--batch",
        "-N",
    ]
    done = subprocess.run(command, input=text.encode(), capture_output=True, cwd="/", check=False)
    if done.returncode != 0:
        raise SystemExit(f"mariadb: {done.stderr.decode(errors='replace').strip()}")
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


def contents() -> dict[str, Rows]:
    """How each thing of the company's database was made, and a sum over what is in it."""
    found = {}
    for kind, name in query(THINGS):
        found[f"{kind} {name}"] = query(f"SHOW CREATE {kind} erp.`{name}`")
        if kind == "table":
            found[f"rows of {name}"] = query(f"CHECKSUM TABLE erp.`{name}`")
    return found


def main() -> None:
    grants = {table: query(text) for table, text in GRANTS.items()}
    schemata = query(SCHEMATA)
    answer = {
        "company": {
            "accounts": {
                table: [row for row in rows if row[0] in ACCOUNTS] for table, rows in grants.items()
            },
            "databases": [row for row in schemata if row[0] in DATABASES],
            "settings": query(SETTINGS),
            "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES},
            "contents": contents(),
        },
        "others": {
            "accounts": {
                table: [row[:3] for row in rows if row[0] not in ACCOUNTS]
                for table, rows in grants.items()
            },
            "databases": [row[0] for row in schemata if row[0] not in DATABASES],
        },
    }
    print(json.dumps(answer, indent=1, sort_keys=True))


main()
