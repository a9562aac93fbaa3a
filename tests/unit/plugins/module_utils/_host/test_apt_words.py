# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt says becomes a sentence that names the package and the command."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import apt_words
from ansible_collections.mlops.onprem.plugins.module_utils._host.packages import Simulated

HELD = """\
The following held packages will be changed:
  prometheus-node-exporter
E: Held packages were changed and -y was used without --allow-change-held-packages.
"""
BROKEN = """\
Some packages could not be installed.
The following packages have unmet dependencies:
 nginx : Depends: nginx-common (= 1.26.3-3) but 1.22.1-9 is to be installed
E: Unable to correct problems, you have held broken packages.
"""
UNKNOWN = """\
E: Unable to locate package postgresql-17
E: Package 'docker-registry' has no installation candidate
E: Couldn't find any package by regex 'ceph-mon'
"""
FIX = """\
You might want to run 'apt --fix-broken install' to correct these.
The following packages have unmet dependencies:
 company-tool : Depends: libcompany but it is not installable
E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution).
"""
URIS = """\
'http://deb.debian.org/debian/pool/main/n/nginx/nginx_1.deb' nginx_1.deb 605424 SHA256:aa
'http://deb.debian.org/debian/pool/main/n/nginx/common_1.deb' common_1.deb 4424 SHA256:bb
'https://jane:pw@mirror.example.com/d/x_1.deb' x_1.deb 9 MD5Sum:cc
Reading package lists...
"""


def test_a_held_package_is_named_with_the_command_that_lets_it_go() -> None:
    forced = Simulated(("prometheus-node-exporter", "libfoo"), (), ())
    holds = ["linux-image-amd64", "prometheus-node-exporter"]
    said = apt_words.refused("install", ["prometheus-node-exporter", "x"], HELD, holds, forced)
    assert "are held on this host (apt-mark showhold): prometheus-node-exporter;" in said
    assert said.endswith("apt-mark unhold prometheus-node-exporter")
    assert "linux-image" not in said


@pytest.mark.parametrize("forced", [None, Simulated((), (), ())])
def test_where_apt_does_not_tell_which_one_all_held_packages_are_named(
    forced: Simulated | None,
) -> None:
    said = apt_words.refused("install", ["nginx"], BROKEN, ["nginx-common", "libc6"], forced)
    assert "nginx-common libc6" in said


def test_broken_dependencies_without_a_held_package_are_told_in_words() -> None:
    said = apt_words.refused("install", ["nginx"], BROKEN)
    assert "nginx : Depends: nginx-common (= 1.26.3-3) but 1.22.1-9 is to be installed" in said
    assert said.endswith("look with: apt-get --simulate install nginx")


def test_every_unknown_package_is_named() -> None:
    assert apt_words.unknown(UNKNOWN) == ("postgresql-17", "docker-registry", "ceph-mon")
    said = apt_words.refused("install", ["nginx", "postgresql-17"], UNKNOWN)
    assert "knows no package postgresql-17 docker-registry ceph-mon;" in said
    assert "apt-get update" in said


def test_what_was_broken_before_is_mended_first() -> None:
    said = apt_words.refused("install", ["nginx"], FIX)
    assert "company-tool : Depends: libcompany" in said
    assert said.endswith("mend it with: apt-get --fix-broken install")


def test_a_removal_is_not_told_as_an_installation() -> None:
    said = apt_words.refused("purge", ["nginx"], "E: something else")
    assert said.startswith("apt cannot purge nginx: something else;")


def test_one_file_of_each_server_is_tried_the_smallest() -> None:
    files = apt_words.downloads(URIS)
    assert sum(file.bytes for file in files) == 609857
    least = apt_words.samples(files)
    assert [(one.server, one.bytes, one.hash) for one in least] == [
        ("http://deb.debian.org", 4424, "SHA256:bb"),
        ("https://mirror.example.com", 9, "MD5Sum:cc"),
    ]


def test_passwords_of_sources_are_not_told() -> None:
    words = "E: Failed to fetch https://jane:pw@mirror.example.com/d  503"
    said = apt_words.unreachable({"https://mirror.example.com": words})
    assert "pw" not in said
    assert "jane" not in said
    assert "https://mirror.example.com (Failed to fetch" in said


def test_room_for_archives_is_told_in_mebibytes() -> None:
    said = apt_words.no_room("/var/cache/apt/archives", 30 * 2**20, 2**20)
    assert "room for 1 MiB, and the packages are 31 MiB" in said
