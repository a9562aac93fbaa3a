# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What will be issued, and what was given, is tried before any host is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.action.certificate_authority import (
    SPEC,
    clients_of,
    probe,
)
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

from tests.unit.plugins.module_utils._trust.companies import (
    NOW,
    SERVER,
    Holder,
    authority,
    leaf,
)

ROOT = authority("Company root")
ISSUING = authority("Issuing", ROOT, identifier=b"i" * 20)
OTHER = authority("Another root")


def looked(folder: Path, **changes: Any) -> dict[str, dict[str, str]]:
    """The findings of a probe of edge1 at 10.0.0.5, by their names."""
    args = {name: option.get("default") for name, option in SPEC.items()}
    args.update(
        directory=str(folder),
        common_name="Site CA",
        key=None,
        certificate_file=None,
        host_names=["edge1", "10.0.0.5"],
        host_address="10.0.0.5",
    )
    return {row["id"].removeprefix("trust."): row for row in probe({**args, **changes}, NOW)}


def written(folder: Path, name: str, *texts: str) -> str:
    path = folder / name
    path.write_text("".join(texts))
    return str(path)


def of_company(folder: Path, *chain: Holder) -> dict[str, Any]:
    pems = [holder.pem for holder in chain]
    return {"certificate_file": written(folder, "ca.pem", *pems), "key": chain[0].key}


def test_a_whole_chain_passes(tmp_path: Path) -> None:
    found = looked(tmp_path, **of_company(tmp_path, ISSUING, ROOT))
    assert [row["severity"] for row in found.values()] == ["pass", "pass"]


def test_an_authority_of_the_site_s_own_passes_before_it_is_made(tmp_path: Path) -> None:
    found = looked(tmp_path, key=authority("x").key)
    assert found["certificate"]["severity"] == "pass"
    assert not (tmp_path / "ca.crt").exists()


@pytest.mark.parametrize(
    ("chain", "word"),
    [
        ([ISSUING], "root above"),
        ([ISSUING, OTHER], "root above"),
        ([authority("R", usage=False)], "Python 3.13"),
        ([authority("I", ROOT, begin=2), ROOT], "not valid yet"),
    ],
)
def test_what_would_be_refused_is_told(tmp_path: Path, chain: list[Holder], word: str) -> None:
    found = looked(tmp_path, **of_company(tmp_path, *chain))["certificate"]
    assert found["severity"] == "fail"
    assert word in found["found"]
    assert "trust_ca_certificate_file" in found["remedy"]


def test_a_root_among_the_extra_files_completes_the_chain(tmp_path: Path) -> None:
    extra = written(tmp_path, "root.pem", ROOT.pem)
    found = looked(tmp_path, extra_files=[extra], **of_company(tmp_path, ISSUING))
    assert found["certificate"]["severity"] == "pass"


def test_an_authority_without_key_cannot_issue(tmp_path: Path) -> None:
    found = looked(tmp_path, **{**of_company(tmp_path, ISSUING, ROOT), "key": None})
    assert found["certificate"]["severity"] == "fail"
    assert "set trust_ca_key" in found["certificate"]["found"]


@pytest.mark.parametrize(
    ("given", "between", "severity", "word"),
    [
        (leaf(ISSUING, ["edge1", "10.0.0.5"]), [ISSUING.pem], "pass", "issued elsewhere"),
        (leaf(ISSUING, ["edge1", "10.0.0.5"]), [], "fail", "between is missing"),
        (leaf(OTHER, ["edge1", "10.0.0.5"]), [], "fail", "nothing that the platform trusts"),
        (leaf(ROOT, ["edge1", "10.0.0.5"], begin=1), [], "fail", "not valid yet"),
        (leaf(ROOT, ["edge1", "10.0.0.5"], purposes=[SERVER]), [], "fail", "both to servers"),
        (leaf(ROOT, ["edge1"]), [], "fail", "lacks 10.0.0.5"),
        (leaf(OTHER, ["10.0.0.5"]), [], "fail", "nothing that the platform trusts"),
    ],
)
def test_a_given_certificate_is_tried(
    tmp_path: Path, given: Holder, between: list[str], severity: str, word: str
) -> None:
    found = looked(
        tmp_path,
        certificate_file=written(tmp_path, "ca.pem", ROOT.pem),
        host_certificate_file=written(tmp_path, "host.pem", given.pem, *between),
        host_key_file=written(tmp_path, "host.key", given.key),
    )["certificate"]
    assert (found["severity"], word in found["found"]) == (severity, True), found


@pytest.mark.parametrize("name", ["certificate_file", "extra_files", "host_key_file"])
def test_what_is_no_file_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    given = leaf(ROOT, ["edge1", "10.0.0.5"])
    files: dict[str, Any] = {
        "certificate_file": written(tmp_path, "ca.pem", ROOT.pem),
        "host_certificate_file": written(tmp_path, "host.pem", given.pem),
        "host_key_file": written(tmp_path, "host.key", given.key),
        "extra_files": [],
    }
    for path, wrong in {str(tmp_path): "directory", f"{tmp_path}/none": "does not exist"}.items():
        changed = {**files, name: [path] if name == "extra_files" else path}
        told = [row for row in looked(tmp_path, **changed).values() if row["severity"] == "fail"]
        assert [(path in row["found"], wrong in row["found"]) for row in told] == [(True, True)]
        assert (
            f"trust_{name}".replace("extra_files", "extra_ca_files").replace(
                "trust_certificate", "trust_ca_certificate"
            )
            in told[0]["remedy"]
        )


def vouching(folder: Path, *chain: Holder, **changes: Any) -> list[str]:
    """The subjects of those that vouch for clients."""
    given = trust.load_authority("".join(one.pem for one in chain), chain[0].key, "ca.pem")
    args = {"extra_files": [], "client_certificate_file": None, **changes}
    text = clients_of(args, given)
    return [one.subject.rfc4514_string() for one in trust.parse_certificates(text, "clients")]


def test_what_is_trusted_for_servers_does_not_vouch_for_clients(tmp_path: Path) -> None:
    extra = written(tmp_path, "extra.pem", OTHER.pem)
    assert vouching(tmp_path, ROOT, extra_files=[extra]) == ["CN=Company root"]


def test_a_root_among_the_extra_files_vouches_for_what_it_issued(tmp_path: Path) -> None:
    extra = written(tmp_path, "extra.pem", OTHER.pem, ROOT.pem)
    found = vouching(tmp_path, ISSUING, extra_files=[extra])
    assert found == ["CN=Issuing", "CN=Company root"]


def test_the_issuer_of_a_given_certificate_vouches_alone(tmp_path: Path) -> None:
    extra = written(tmp_path, "extra.pem", OTHER.pem, ROOT.pem)
    given = written(tmp_path, "ctl1.pem", leaf(ISSUING, ["ctl1"]).pem, ISSUING.pem)
    found = vouching(
        tmp_path, authority("Site CA"), extra_files=[extra], client_certificate_file=given
    )
    assert found == ["CN=Issuing", "CN=Company root"]


def test_a_given_certificate_may_end_where_the_host_renews_it(tmp_path: Path) -> None:
    given = leaf(ISSUING, ["edge1", "10.0.0.5"], begin=-400, end=-1)
    told = {
        **of_company(tmp_path, ISSUING, ROOT),
        "host_certificate_file": written(tmp_path, "host.pem", given.pem, ISSUING.pem),
        "host_key_file": written(tmp_path, "host.key", given.key),
    }
    assert looked(tmp_path, **told)["certificate"]["severity"] == "fail"
    assert looked(tmp_path, **told, host_renews=True)["certificate"]["severity"] == "pass"
    # Whom it is for matters all the same.
    told["host_names"] = ["edge2", "10.0.0.6"]
    told["host_address"] = "10.0.0.6"
    assert looked(tmp_path, **told, host_renews=True)["certificate"]["severity"] == "fail"
