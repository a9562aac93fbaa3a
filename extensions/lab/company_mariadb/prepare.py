# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make this host the company's MariaDB server. Runs on the host; `payload` comes with it.

Everything is repeated until the marker at the end is there; what a killed run left is made anew.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/mysql/mariadb.conf.d/90-company.cnf")
TLS = Path("/etc/mysql/company-tls")
MARKER = Path("/var/lib/company/prepared-mariadb")

SETTINGS = """\
# Company standard for database servers
[mariadbd]
bind-address = 127.0.0.1,{address}
ssl-cert = /etc/mysql/company-tls/server.crt
ssl-key = /etc/mysql/company-tls/server.key
require-secure-transport = ON
skip-name-resolve = ON
max-connections = 200
innodb-buffer-pool-size = 64M
character-set-server = latin1
collation-server = latin1_german1_ci
lc-messages = de_DE
"""
ACCOUNTS = """
CREATE ROLE company_staff;
CREATE USER erp_app@'%' IDENTIFIED BY {erp_app} REQUIRE SSL WITH MAX_USER_CONNECTIONS 20;
CREATE USER erp_report@'%' IDENTIFIED BY {erp_report} REQUIRE SSL;
CREATE USER platform_dba@'%' IDENTIFIED BY {platform_dba} REQUIRE SSL;
GRANT CREATE USER ON *.* TO platform_dba@'%';
GRANT SELECT ON mysql.* TO platform_dba@'%';
GRANT ALL PRIVILEGES ON `slurm\\_acct\\_db`.* TO platform_dba@'%' WITH GRANT OPTION;
"""
ERP = """
CREATE DATABASE erp COMMENT 'Orders and customers. Owner: Sales IT, ext. 4711';
GRANT ALL PRIVILEGES ON erp.* TO erp_app@'%';
GRANT SELECT ON erp.* TO company_staff;
GRANT company_staff TO erp_report@'%';
SET DEFAULT ROLE company_staff FOR erp_report@'%';
USE erp;
CREATE TABLE customers (
    id int PRIMARY KEY,
    name varchar(80) NOT NULL UNIQUE,
    credit_limit decimal(10, 2) NOT NULL CHECK (credit_limit >= 0),
    since date NOT NULL
) COMMENT 'Größte zuerst';
CREATE TABLE orders (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    customer_id int NOT NULL,
    placed_on date NOT NULL,
    total decimal(10, 2) NOT NULL,
    KEY by_customer (customer_id, placed_on),
    FOREIGN KEY (customer_id) REFERENCES customers (id)
);
INSERT INTO customers
SELECT seq, CONCAT('Customer ', LPAD(seq, 4, '0')), 1000 + (seq * 7919) % 50000,
       '2009-01-01' + INTERVAL (seq * 31) % 5000 DAY
  FROM seq_1_to_1500;
INSERT INTO orders (customer_id, placed_on, total)
SELECT 1 + (seq * 104729) % 1500, '2021-01-01' + INTERVAL (seq * 17) % 1800 DAY,
       ((seq * 6151) % 900000) / 100
  FROM seq_1_to_8000;
CREATE VIEW open_orders AS
SELECT o.id, c.name, o.placed_on, o.total FROM orders o JOIN customers c ON c.id = o.customer_id;
CREATE PROCEDURE count_orders() SELECT COUNT(*) FROM orders;
"""
DROPPED = """
DROP DATABASE IF EXISTS erp;
DROP USER IF EXISTS erp_app@'%', erp_report@'%', platform_dba@'%';
DROP ROLE IF EXISTS company_staff;
"""


def sql(text: str) -> None:
    command = [
        "mariadb",
        "--no-defaults",
        "--skip-ssl",
        "--default-character-set=utf8mb4",
        "--batch",
    ]
    done = subprocess.run(command, input=text.encode(), capture_output=True, cwd="/", check=False)
    if done.returncode != 0:
        raise SystemExit(f"mariadb: {done.stderr.decode(errors='replace').strip()}")


def place(path: Path, text: str, mode: int, owner: str) -> None:
    user = pwd.getpwnam(owner)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.chown(new, user.pw_uid, user.pw_gid)
    new.chmod(mode)
    new.replace(path)


def configure(payload: dict[str, Any]) -> None:
    place(TLS / "server.crt", payload["certificate"], 0o644, "mysql")
    place(TLS / "server.key", payload["key"], 0o600, "mysql")
    place(CONFIG, SETTINGS.format(**payload), 0o644, "root")
    subprocess.run(["systemctl", "enable", "--quiet", "mariadb"], check=True)
    subprocess.run(["systemctl", "restart", "mariadb"], check=True)
    deadline = time.monotonic() + 120
    while subprocess.run(
        ["mariadb", "--no-defaults", "--skip-ssl", "-e", "SELECT 1"],
        check=False,
        capture_output=True,
    ).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("MariaDB does not answer 60 s after its start")
        time.sleep(0.1)


def fill(payload: dict[str, Any]) -> None:
    quoted = {
        name: "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
        for name, word in payload["passwords"].items()
    }
    sql(DROPPED)
    sql(ACCOUNTS.format(**quoted))
    sql(ERP)


def main(payload: dict[str, Any]) -> None:
    lock = Path("/run/company-prepare.lock").open("w")  # noqa: SIM115 (held until the end)
    fcntl.flock(lock, fcntl.LOCK_EX)  # a killed builder may have left another one at work here
    if MARKER.exists():
        return
    configure(payload)
    fill(payload)
    MARKER.parent.mkdir(parents=True, exist_ok=True)
    MARKER.touch()
    print("prepared")


main(globals()["payload"])
