# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make this host the company's PostgreSQL server. Runs on the host; `payload` comes with it.

Everything is repeated until the marker at the end is there; what a killed run left is made anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/postgresql/17/main")
MARKER = Path("/var/lib/company/prepared.json")

SETTINGS = """\
# Company standard for database servers
listen_addresses = 'localhost,{address}'
ssl = on
ssl_cert_file = '/etc/postgresql/company-tls/server.crt'
ssl_key_file = '/etc/postgresql/company-tls/server.key'
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '64MB'
log_connections = on
"""
ACCESS = """\
# Company rules: encrypted connections with a password, from our own networks only.
# TYPE   DATABASE  USER       ADDRESS            METHOD
local    all       postgres                      peer
local    all       all                           peer
hostssl  erp       erp_app    {network:<18} scram-sha-256
hostssl  erp       erp_report {network:<18} scram-sha-256
hostssl  hr        hr_app     {network:<18} scram-sha-256
hostssl  erp,hr    all        {network:<18} reject
hostssl  all       all        {network:<18} scram-sha-256
"""
ROLES = """
CREATE ROLE company_staff NOLOGIN;
CREATE ROLE erp_app LOGIN PASSWORD {erp_app} CONNECTION LIMIT 20;
CREATE ROLE erp_report LOGIN PASSWORD {erp_report} IN ROLE company_staff;
CREATE ROLE hr_app LOGIN PASSWORD {hr_app};
CREATE ROLE platform_dba LOGIN CREATEDB CREATEROLE PASSWORD {platform_dba};
ALTER ROLE erp_report SET default_transaction_read_only = on;
ALTER SYSTEM SET work_mem = '8MB';
ALTER SYSTEM SET log_min_duration_statement = '750ms';
"""
ERP = """
REVOKE ALL ON DATABASE erp FROM PUBLIC;
GRANT CONNECT ON DATABASE erp TO company_staff;
ALTER DATABASE erp SET statement_timeout = '5min';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA sales AUTHORIZATION erp_app;
SET ROLE erp_app;
CREATE TABLE sales.customers (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    country char(2) NOT NULL,
    credit_limit numeric(10, 2) NOT NULL CHECK (credit_limit >= 0),
    since date NOT NULL
);
CREATE TABLE sales.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES sales.customers,
    placed_on date NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'shipped', 'paid', 'cancelled')),
    total numeric(10, 2) NOT NULL
);
CREATE INDEX orders_by_customer ON sales.orders (customer_id, placed_on);
INSERT INTO sales.customers
SELECT n, 'Customer ' || to_char(n, 'FM0000'), (ARRAY['AT', 'CH', 'DE', 'IT', 'PL'])[1 + n % 5],
       1000 + (n * 7919) % 50000, date '2009-01-01' + (n * 31) % 5000
FROM generate_series(1, 1500) AS n;
INSERT INTO sales.orders (customer_id, placed_on, status, total)
SELECT 1 + (n * 104729) % 1500, date '2021-01-01' + (n * 17) % 1800,
       (ARRAY['open', 'shipped', 'paid', 'paid', 'cancelled'])[1 + n % 5],
       ((n * 6151) % 900000) / 100.0
FROM generate_series(1, 8000) AS n;
CREATE VIEW sales.open_orders AS
SELECT o.id, c.name, o.placed_on, o.total
FROM sales.orders o JOIN sales.customers c ON c.id = o.customer_id WHERE o.status = 'open';
GRANT USAGE ON SCHEMA sales TO company_staff;
GRANT SELECT ON ALL TABLES IN SCHEMA sales TO company_staff;
RESET ROLE;
COMMENT ON DATABASE erp IS 'Orders and customers. Owner: Sales IT, ext. 4711';
"""
HR = """
REVOKE ALL ON DATABASE hr FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SET ROLE hr_app;
CREATE SCHEMA staff;
CREATE TABLE staff.departments (id integer PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE staff.employees (
    id integer PRIMARY KEY,
    name text NOT NULL,
    department_id integer NOT NULL REFERENCES staff.departments,
    manager_id integer REFERENCES staff.employees,
    salary numeric(9, 2) NOT NULL
);
INSERT INTO staff.departments SELECT n, 'Department ' || n FROM generate_series(1, 12) AS n;
INSERT INTO staff.employees
SELECT n, 'Employee ' || n, 1 + n % 12, nullif(n / 8, 0), 30000 + (n * 3571) % 60000
FROM generate_series(1, 600) AS n;
RESET ROLE;
"""
DATABASES = {"erp": ("erp_app", ERP), "hr": ("hr_app", HR)}
COMPANY_ROLES = ["company_staff", "erp_app", "erp_report", "hr_app", "platform_dba"]


def sql(text: str, database: str = "postgres") -> None:
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
    done = subprocess.run(
        as_postgres, input=text.encode(), capture_output=True, cwd="/", check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"psql: {done.stderr.decode().strip()}")


def place(path: Path, text: str, mode: int) -> None:
    owner = pwd.getpwnam("postgres")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.chown(new, owner.pw_uid, owner.pw_gid)
    new.chmod(mode)
    new.replace(path)


def configure(payload: dict[str, Any]) -> None:
    place(CONFIG / "conf.d" / "company.conf", SETTINGS.format(**payload), 0o644)
    place(CONFIG / "pg_hba.conf", ACCESS.format(**payload), 0o640)
    tls = Path("/etc/postgresql/company-tls")
    place(tls / "server.crt", payload["certificate"], 0o644)
    place(tls / "server.key", payload["key"], 0o600)
    subprocess.run(["systemctl", "restart", "postgresql@17-main"], check=True)
    deadline = time.monotonic() + 120
    while subprocess.run(["pg_isready", "-q"], check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise SystemExit("PostgreSQL does not answer 30 s after its start")
        time.sleep(0.1)


def fill(payload: dict[str, Any]) -> None:
    for name in DATABASES:
        sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);")
    sql("".join(f"DROP ROLE IF EXISTS {role};\n" for role in reversed(COMPANY_ROLES)))
    quoted = {
        name: "'" + word.replace("'", "''") + "'" for name, word in payload["passwords"].items()
    }
    sql(ROLES.format(**quoted))
    for name, (owner, text) in DATABASES.items():
        sql(f"CREATE DATABASE {name} OWNER {owner};")
        sql(text, name)
        sql("VACUUM ANALYZE;", name)
    sql("SELECT pg_reload_conf();")


def main(payload: dict[str, Any]) -> None:
    lock = Path("/run/company-prepare.lock").open("w")  # noqa: SIM115 (held until the end)
    fcntl.flock(lock, fcntl.LOCK_EX)  # a killed builder may have left another one at work here
    if MARKER.exists():
        return
    configure(payload)
    fill(payload)
    MARKER.parent.mkdir(parents=True, exist_ok=True)
    owned = {
        "databases": ["hr", "erp", "postgres", "template1"],
        "roles": ["postgres", *COMPANY_ROLES],
    }
    new = MARKER.with_suffix(".new")
    new.write_text(json.dumps(owned))
    new.replace(MARKER)
    print("prepared")


main(globals()["payload"])
