# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hash of a service's inputs changes exactly when their content does."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.mlops.onprem.plugins.module_utils._host.inputs import fingerprint


def test_the_hash_follows_content_and_not_time(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("one")
    before, _changed = fingerprint([str(path)])
    os.utime(path, (1, 1))
    assert fingerprint([str(path)])[0] == before
    path.write_text("two")
    assert fingerprint([str(path)])[0] != before


def test_files_that_come_and_go_count(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*.conf")
    seen = {fingerprint([pattern])[0]}
    (tmp_path / "a.conf").write_text("x")
    seen.add(fingerprint([pattern])[0])
    (tmp_path / "b.conf").write_text("x")
    seen.add(fingerprint([pattern])[0])
    (tmp_path / "ignored").write_text("x")
    seen.add(fingerprint([pattern])[0])
    assert len(seen) == 3


def test_a_directory_counts_with_all_below_it(tmp_path: Path) -> None:
    below = tmp_path / "sub"
    below.mkdir()
    before = fingerprint([str(tmp_path)])[0]
    (below / "x").write_text("x")
    after = fingerprint([str(tmp_path)])[0]
    (below / ".mlops-new-x").write_text("half-written")
    assert before != after == fingerprint([str(tmp_path)])[0]


def test_a_missing_file_has_a_hash_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    missing, changed = fingerprint([str(path)])
    assert changed == 0.0
    path.write_text("")
    assert fingerprint([str(path)])[0] != missing


def test_order_and_repetition_do_not_matter(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in "ab"]
    assert fingerprint(names)[0] == fingerprint([*reversed(names), names[0]])[0]
