# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulation campaign's words to the kernel, and its judgement of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import arm64, roots

LINE = r":qemu-aarch64:M::\x7fELF\x02:\xff\xff\xff\xff\x00:/usr/libexec/aarch64-binfmt-P:"


def unpacked(place: Path, flags: str, program: bool = True) -> Path:
    (place / "usr/lib/binfmt.d").mkdir(parents=True)
    (place / "usr/lib/binfmt.d/qemu-aarch64.conf").write_text(f"{LINE}{flags}\n")
    if program:
        (place / "usr/libexec").mkdir()
        (place / "usr/libexec/aarch64-binfmt-P").touch()
    return place


def test_the_kernel_is_told_our_name_and_our_program(tmp_path: Path) -> None:
    place = unpacked(tmp_path, "OPF")
    assert arm64.rule(place) == (
        r":mlops-arm64:M::\x7fELF\x02:\xff\xff\xff\xff\x00:"
        f"{place}/usr/libexec/aarch64-binfmt-P:OPF"
    )


@pytest.mark.parametrize(("flags", "program"), [("OP", True), ("OPF", False)])
def test_a_program_that_is_not_found_from_another_root_is_refused(
    tmp_path: Path, flags: str, program: bool
) -> None:
    with pytest.raises(roots.CannotRun, match="holds no emulator"):
        arm64.rule(unpacked(tmp_path, flags, program))


def test_a_path_that_the_kernel_does_not_take_is_refused(tmp_path: Path) -> None:
    place = tmp_path / ("d" * 100) / ("e" * 30)
    with pytest.raises(roots.CannotRun, match="set XDG_CACHE_HOME to one that is shorter"):
        arm64.rule(unpacked(place, "OPF"))


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ({"label": [1], "p": [0.25, 0.75]}, True),
        ({"label": [1], "p": [0.2501, 0.7499]}, True),
        ({"label": [1], "p": [0.26, 0.74]}, False),
        ({"label": [0], "p": [0.25, 0.75]}, False),
        ({"label": [1], "p": [0.25]}, False),
        ({"label": [1]}, False),
        ({}, False),
    ],
)
def test_an_answer_agrees_number_by_number(found: dict[str, list[float]], right: bool) -> None:
    assert arm64.agree(found, {"label": [1], "p": [0.25, 0.75]}, 0.001) is right
