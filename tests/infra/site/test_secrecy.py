"""No secret of the site is found where it does not belong."""

from __future__ import annotations

from tests.infra.site.conftest import ROOT, Site

# Reads /proc/*/cmdline, the journal and every file that everybody may read.
SEARCH = r"""
import os, subprocess, sys
patterns = [line.split(":", 1) for line in GIVEN.splitlines()]
patterns = [(name, value.encode()) for name, value in patterns]
def look(where, data):
    for name, value in patterns:
        if value in data:
            print(f"{name} in {where}")
own = str(os.getpid())
for pid in filter(str.isdigit, os.listdir("/proc")):
    if pid != own:
        try:
            look(f"argv of process {pid}", open(f"/proc/{pid}/cmdline", "rb").read())
        except OSError:
            pass
journal = subprocess.run(["journalctl", "--no-pager", "-o", "cat"], capture_output=True, check=True)
assert journal.stdout, "the journal is empty: nothing was searched"
look("journal", journal.stdout)
files = 0
skip = ("/proc", "/sys", "/dev")
for top, folders, names in os.walk("/"):
    if top.startswith(skip):
        folders[:] = []
        continue
    paths = [os.path.join(top, folder) for folder in folders]
    modes = [os.stat(path, follow_symlinks=False).st_mode for path in paths]
    folders[:] = [folder for folder, mode in zip(folders, modes) if mode & 0o001]
    for name in names:
        path = os.path.join(top, name)
        try:
            status = os.lstat(path)
            if not os.path.isfile(path) or os.path.islink(path) or not status.st_mode & 0o004:
                continue
            if status.st_size < 64 << 20:
                files += 1
                look(path, open(path, "rb").read())
        except OSError:
            pass
print(f"searched {files} files")
"""


def test_no_secret_is_readable_on_a_host(
    site: Site, host_name: str, secrets: dict[str, str]
) -> None:
    patterns = "\n".join(f"{name}:{value}" for name, value in secrets.items())
    *found, searched = site.run_python(host_name, SEARCH, patterns).splitlines()
    assert int(searched.split()[1]) > 1000
    assert not found


def test_secret_files_are_private(site: Site) -> None:
    for name in ("secrets.yml", "company.yml"):
        path = site.inventory / "group_vars" / "all" / name
        if path.exists():
            assert path.stat().st_mode & 0o077 == 0, path


def test_verbose_output_shows_no_secret(site: Site, secrets: dict[str, str]) -> None:
    """The output of a run with -vvv, recorded by the scenario of the site."""
    text = (ROOT / "build" / "site-vvv.log").read_text(errors="replace")
    assert "TASK [" in text
    assert not [name for name, value in secrets.items() if value in text]
