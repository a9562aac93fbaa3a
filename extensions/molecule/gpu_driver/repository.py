"""Makes a flat, signed repository of stand-ins for the packages of NVIDIA's; runs on a host."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

VERSION = "580.105.08"
BUILD = f"/var/lib/dkms/nvidia/{VERSION}/build"
LOG = f"{BUILD}/make.log"
# The words with which the module of 550 ends on trixie's kernels.
FAILS = f"""#!/bin/sh
[ "$1" = configure ] || exit 0
mkdir -p {BUILD}
cat > {LOG} <<END
make -C /lib/modules/6.12.117+deb13-amd64/build modules
nvidia/nv-pci.c: In function 'nv_resize_pcie_bars':
nvidia/nv-pci.c:245:9: error: too few arguments to function 'pci_resize_resource'
make[2]: *** [nvidia/nv-pci.o] Error 1
make: *** [modules] Error 2
END
echo "Error! Bad return status for module build on kernel: 6.12.117+deb13-amd64 (x86_64)" >&2
exit 10
"""
GONE = """#!/bin/sh
rm -rf /var/lib/dkms/nvidia
rmdir /var/lib/dkms 2>/dev/null || true
"""
BUILDS = f"""#!/bin/sh
[ "$1" = configure ] || exit 0
mkdir -p {BUILD}
echo "installed" > {LOG}
"""
# What it is told is kept, and what it was told it then says, as a card does; but for MIG, which it
# does not turn on: that needs a reset.
SMI = """#!/usr/bin/python3
import json, os, sys
words, path = sys.argv[1:], "/run/nvidia-stand-in.json"
state = json.load(open(path)) if os.path.exists(path) else {"power": "400.00", "mig": "Disabled"}
ids = ["GPU-0000000%d-0000-0000-0000-000000000000" % n for n in (0, 1)]
if words == ["-L"]:
    for index, one in enumerate(ids):
        print("GPU %d: NVIDIA A100-SXM4-40GB (UUID: %s)" % (index, one))
elif words == ["-q", "-x"]:
    print("<nvidia_smi_log><driver_version>580.105.08</driver_version>")
    for one in ids:
        warm = "<temperature><gpu_temp>40 C</gpu_temp></temperature>"
        print("<gpu><uuid>%s</uuid>%s</gpu>" % (one, warm))
    print("</nvidia_smi_log>")
elif words and words[0].startswith("--query-gpu"):
    for index, one in enumerate(ids):
        power = state.get(one, state["power"])
        pending = state["mig"] if index == 0 else "Disabled"
        row = [index, one, "Disabled", power, "100.00", "400.00", "Enabled", "Enabled"]
        print(", ".join(str(part) for part in [*row, "Disabled", pending]))
elif "-pl" in words:
    state[words[1]] = "%.2f" % float(words[words.index("-pl") + 1])
elif "-mig" in words:
    state["mig"] = "Enabled" if words[-1] == "1" else "Disabled"
json.dump(state, open(path, "w"))
"""


def package(
    folder: Path, name: str, depends: str, scripts: dict[str, str], files: dict[str, str]
) -> None:
    """Build one package."""
    tree = folder / "tree" / name
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: {VERSION}-1\nArchitecture: all\n"
        "Maintainer: cudatools <cudatools@nvidia.com>\n"
        + (f"Depends: {depends}\n" if depends else "")
        + f"Description: stand-in for {name}\n"
    )
    for script, text in scripts.items():
        (control / script).write_text(text)
        (control / script).chmod(0o755)
    for path, text in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            target.symlink_to(text[2:])
            continue
        target.write_text(text)
        target.chmod(0o755 if path.startswith("usr/bin") else 0o644)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def index(folder: Path) -> None:
    """Write Packages, Release and its signature."""
    rows = []
    for archive in sorted(folder.glob("*.deb")):
        fields = subprocess.run(
            ["dpkg-deb", "-f", str(archive)], check=True, capture_output=True, text=True
        )
        data = archive.read_bytes()
        rows.append(
            f"{fields.stdout.strip()}\nFilename: ./{archive.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
    page = "\n".join(rows)
    (folder / "Packages").write_text(page)
    digest = hashlib.sha256(page.encode()).hexdigest()
    (folder / "Release").write_text(
        f"Origin: NVIDIA\nLabel: NVIDIA CUDA\nDate: {formatdate(usegmt=True)}\n"
        f"SHA256:\n {digest} {len(page.encode())} Packages\n"
    )
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    subprocess.run(
        [*gpg, "--quick-generate-key", "drivers@example.com", "rsa3072", "sign", "never"],
        check=True,
    )
    subprocess.run(
        [*gpg, "--armor", "--output", str(folder / "drivers.asc"), "--export"], check=True
    )
    subprocess.run(
        [*gpg, "--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release")],
        check=True,
    )
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    shutil.rmtree(home)
    shutil.rmtree(folder / "tree")


def main(folder: Path) -> None:
    """Make everything anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    package(folder, "nvidia-kernel-dkms", "", {"postinst": FAILS, "prerm": GONE}, {})
    package(folder, "nvidia-kernel-open-dkms", "", {"postinst": BUILDS, "prerm": GONE}, {})
    library = "usr/lib/x86_64-linux-gnu"
    package(
        folder,
        "nvidia-driver-cuda",
        "nvidia-kernel-open-dkms | nvidia-kernel-dkms",
        {},
        {
            "usr/bin/nvidia-smi": SMI,
            f"{library}/libcuda.so.{VERSION}": "",
            f"{library}/libcuda.so.1": f"->libcuda.so.{VERSION}",
        },
    )
    index(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
