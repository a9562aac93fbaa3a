# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print, as JSON, everything the company would miss if it changed. Runs on the database host.

`company` is what was there before us; `others` what somebody has added since.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MARKER = Path("/var/lib/company/prepared.json")
CONFIG = Path("/etc/postgresql/17/main")
DATA = Path("/var/lib/postgresql/17/main")
FILES = (
    CONFIG / "pg_hba.conf",
    CONFIG / "pg_ident.conf",
    CONFIG / "postgresql.conf",
    CONFIG / "conf.d" / "company.conf",
    DATA / "postgresql.auto.conf",
)
DATABASES = """
SELECT datname, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding,
       datcollate, datconnlimit, datacl::text, datallowconn,
       shobj_description(oid, 'pg_database') AS comment
FROM pg_database WHERE datname <> 'template0' ORDER BY 1
"""
ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil::text
FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1
"""
MEMBERSHIPS = """
SELECT pg_get_userbyid(roleid) AS role, pg_get_userbyid(member) AS member,
       pg_get_userbyid(grantor) AS grantor, admin_option, inherit_option, set_option
FROM pg_auth_members ORDER BY 1, 2, 3
"""
SETTINGS = """
SELECT name, setting, source, sourcefile FROM pg_settings
WHERE source IN ('configuration file', 'command line', 'environment variable', 'global')
ORDER BY 1
"""
SETTINGS_OF = """
SELECT coalesce(datname, '') AS database, coalesce(rolname, '') AS role, setconfig::text
FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2
"""
OBJECTS = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       pg_get_userbyid(c.relowner) AS owner, c.relacl::text AS acl,
       CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END AS definition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""
SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) AS owner, nspacl::text AS acl
FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1
"""
AS_JSON = "SELECT coalesce(json_agg(q), '[]') FROM (QUERY) AS q"
CHECKSUM = """
SELECT count(*) AS rows, md5(coalesce(string_agg(ROW::text, ',' ORDER BY ROW::text), '')) AS md5
FROM TABLE AS t
"""
EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"


def query(text: str, database: str = "postgres") -> list[Row]:
    wrapped = AS_JSON.replace("QUERY", text)
    command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    command += ["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
    done = subprocess.run(
        command, input=wrapped.encode(), capture_output=True, cwd="/", check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"psql {database}: {done.stderr.decode().strip()}")
    answer: list[Row] = json.loads(done.stdout)
    return answer


def rows(database: str, objects: list[Row]) -> Row:
    answer = {}
    for item in objects:
        if item["kind"] not in "rpS":
            continue
        name = f'"{item["schema"]}"."{item["name"]}"'
        row = "(t.last_value, t.is_called)" if item["kind"] == "S" else "t"
        text = CHECKSUM.replace("ROW", row).replace("TABLE", name)
        answer[f"{item['schema']}.{item['name']}"] = query(text, database)[0]
    return answer


def contents(database: str) -> Row:
    objects = query(OBJECTS, database)
    return {
        "schemas": query(SCHEMAS, database),
        "extensions": query(EXTENSIONS, database),
        "objects": objects,
        "rows": rows(database, objects),
    }


def split(items: list[Row], known: set[str], *keys: str) -> tuple[list[Row], list[Row]]:
    mine = [item for item in items if all(item[key] in known for key in keys)]
    return mine, [item for item in items if item not in mine]


def main() -> None:
    owned = json.loads(MARKER.read_text())
    known_databases, known_roles = set(owned["databases"]), set(owned["roles"])
    databases, new_databases = split(query(DATABASES), known_databases, "datname")
    roles, new_roles = split(query(ROLES), known_roles, "rolname")
    builtin = {item["role"] for item in query(MEMBERSHIPS) if item["role"].startswith("pg_")}
    members, new_members = split(
        query(MEMBERSHIPS), known_roles | builtin, "role", "member", "grantor"
    )
    of, new_of = split(query(SETTINGS_OF), known_databases | known_roles | {""}, "database", "role")
    answer = {
        "company": {
            "databases": databases,
            "roles": roles,
            "memberships": members,
            "settings": query(SETTINGS),
            "settings_of": of,
            "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES},
            "contents": {name: contents(name) for name in sorted(known_databases)},
        },
        "others": {
            "databases": [item["datname"] for item in new_databases],
            "roles": [item["rolname"] for item in new_roles],
            "memberships": new_members,
            "settings_of": new_of,
        },
    }
    print(json.dumps(answer, indent=1, sort_keys=True))


main()
