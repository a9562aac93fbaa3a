# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A refused login is explained by codes, whatever language the server speaks."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.contract import Contract
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.login import (
    Login,
    Refusal,
    Refused,
    judge_login,
)
from ansible_collections.mlops.onprem.plugins.module_utils._contracts.postgresql.read import (
    whose_account,
)

DB = Contract("metadata_db", "db:5432", ("host", "port"))
LINE = "hostssl postgres dba <address of the client> scram-sha-256"


@pytest.mark.parametrize(
    ("refusal", "found", "remedy"),
    [
        (
            Refusal("28P01", method="scram-sha-256"),
            "the server refuses the password of dba",
            "set metadata_db_admin_password to the password of metadata_db_admin_user dba",
        ),
        (
            Refusal("28000", routine="ClientAuthentication"),
            "no line in the server's pg_hba.conf lets dba in with a password (nein)",
            f"ask its owner for a line such as: {LINE}",
        ),
        (
            Refusal("28000", routine="InitializeSessionUserId", method="scram-sha-256"),
            "dba may not log in (nein)",
            "set metadata_db_admin_user to a role with LOGIN",
        ),
        (
            Refusal("28000", routine="auth_failed", method="password"),
            "the server has the password of dba checked elsewhere (LDAP, PAM, RADIUS or the like)",
            "set metadata_db_admin_password to the password there",
        ),
        (
            Refusal("3D000"),
            "there is no database postgres",
            "set metadata_db_admin_database to a database that exists",
        ),
        (
            Refusal("53300", routine="InitProcess"),
            "no free connection (nein)",
            "raise max_connections on the server, or close connections",
        ),
        (
            Refusal("53300", routine="InitializeSessionUserId"),
            "dba may open no further connection (nein)",
            "ask for: ALTER ROLE dba CONNECTION LIMIT -1",
        ),
        (
            Refusal("53300", routine="CheckMyDatabase"),
            "database postgres takes no further connection (nein)",
            "ask for: ALTER DATABASE postgres CONNECTION LIMIT -1",
        ),
        (
            Refusal("42501"),
            "dba may not connect to database postgres (nein)",
            "ask for: GRANT CONNECT ON DATABASE postgres TO dba, or set metadata_db_admin_database",
        ),
        (
            Refusal("55000"),
            "database postgres takes no connections (nein)",
            "set metadata_db_admin_database",
        ),
        (Refusal("57P03"), "a server in transition (nein)", "wait and try again"),
        (
            Refusal("08P01"),
            "what answers does not let dba in to database postgres, and answers as a connection",
            "set metadata_db_host and metadata_db_port to the server itself",
        ),
        (
            Refusal(method="GSSAPI (Kerberos)"),
            "the server wants dba to log in by GSSAPI (Kerberos)",
            f"ask its owner for a line in pg_hba.conf such as: {LINE}",
        ),
        (
            Refusal(method="scram-sha-256", outcome="no password"),
            "no password is given for dba",
            "set metadata_db_admin_password",
        ),
        (
            Refusal(outcome="welcome", method="scram-sha-256"),
            "the server would let dba in, but its client library does not trust it (nein)",
            "set metadata_db_ca_file",
        ),
        (
            Refusal(outcome="silent"),
            "the server does not answer the login of dba in time (nein)",
            "see the server's log and load",
        ),
        (
            Refusal("28P01", method="scram-sha-256", certificate="platform", proven=True),
            "the server does not take the client certificate of platform for dba (nein)",
            "give dba one of its own in metadata_db_client_certificates (login: dba) whose common",
        ),
        (
            Refusal("28000", routine="auth_failed", certificate="platform"),
            "the server does not take the client certificate of platform for dba (nein)",
            "give dba one of its own in metadata_db_client_certificates",
        ),
        (
            Refusal(outcome="certificate", certificate="dba"),
            "the server ends the connection of dba at the client certificate of dba",
            "set metadata_db_client_certificates to a certificate of an authority that the server",
        ),
        (
            Refusal("P0001"),
            "the server turns dba away (SQLSTATE P0001): nein",
            "see the server's log",
        ),
        (Refusal(), "the server turns dba away: nein", "see the server's log"),
    ],
)
def test_a_failed_login_is_explained(refusal: Refusal, found: str, remedy: str) -> None:
    error = Refused("nein", refusal=refusal)
    finding = judge_login(DB, Login("dba", "secret", "postgres"), error, whose_account(DB))
    assert finding.id == "metadata_db.login"
    assert finding.found.startswith(found)
    assert finding.remedy.startswith(remedy)


def test_a_password_in_the_words_of_a_server_is_not_repeated() -> None:
    error = Refused("falsch: secret", refusal=Refusal("XX000"))
    finding = judge_login(DB, Login("dba", "secret", "postgres"), error, whose_account(DB))
    assert finding.found == "the server turns dba away (SQLSTATE XX000): falsch: ********"
