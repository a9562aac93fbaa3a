# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs get what they were given and no more; at the end the company's database is as it was."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from extensions.molecule.compute.hosts import (
    HERE,
    ROOT,
    STATE,
    TOPOLOGY,
    changes,
    device_files,
    on,
    placed,
    play,
    until,
)

CONTROLLER, NODE = "sctl", "sgpu1"


@pytest.fixture(scope="module")
def files() -> tuple[str, str]:
    """The device file of the card that jobs get, and of the one that is planned to serve."""
    (serving,) = placed()["chat", 0]["gpu_ids"]
    found = device_files(NODE)
    (free,) = set(found) - {serving}
    return found[free], found[serving]


def anna(command: str) -> str:
    """What a command says to somebody who has logged in where jobs are submitted."""
    words = ["runuser", "-u", "anna", "--", "sh", "-c", f"cd /tmp && {command}"]
    return on(CONTROLLER, shlex.join(words), check=False)


def opened(words: str, *names: str) -> dict[str, str]:
    """What a job is told that opens device files: they have no driver, so nobody is let in."""
    script = "".join(f"(: < {name}) 2>&1 | tail -n 1; " for name in names)
    lines = anna(f"srun {words} --mem=50 sh -c {shlex.quote(script)}").splitlines()
    return dict(zip(names, lines, strict=True))


def held() -> None:
    """Skip where cgroups hold no job: not every machine has any for containers."""
    if "CgroupPlugin=disabled" in on(CONTROLLER, "cat /etc/slurm/cgroup.conf"):
        pytest.skip("this machine has no cgroups for jobs in containers")


def test_a_job_sees_the_gpu_that_it_was_given_and_opens_no_other(files: tuple[str, str]) -> None:
    given, serving = files
    said = anna("srun --gres=gpu:1 --mem=50 env")
    uuid = next(gpu for gpu, file in device_files(NODE).items() if file == given)
    assert f"CUDA_VISIBLE_DEVICES={uuid}\n" in said
    held()
    told = opened("--gres=gpu:1", given, serving)
    assert "No such device or address" in told[given]
    assert "Operation not permitted" in told[serving]


def test_a_job_without_a_gpu_opens_none(files: tuple[str, str]) -> None:
    held()
    assert all("Operation not permitted" in said for said in opened("", *files).values())


def test_more_memory_than_asked_for_ends_a_job() -> None:
    held()
    hog = shlex.quote('exec python3 -c "x = bytearray(300 << 20)"')
    number = anna(f"sbatch --parsable --output=/dev/null --mem=50 --wrap={hog}").strip()
    asked = f"sacct -nPX -j {number} -o State,User,Account"
    until(
        lambda: on(CONTROLLER, asked).strip() == "OUT_OF_MEMORY|anna|vision",
        lambda: on(CONTROLLER, f"{asked}; squeue", check=False),
    )


def test_a_team_s_limit_holds_its_jobs() -> None:
    words = "sbatch --parsable --output=/dev/null --mem=50"
    first = anna(f"{words} --gres=gpu:1 --wrap='sleep 600'").strip()
    second = anna(f"{words} --gres=gpu:1 --wrap=true").strip()
    asked = "squeue -h -o '%A|%T|%r'"
    wanted = {f"{first}|RUNNING|None", f"{second}|PENDING|QOSGrpGRES"}
    until(
        lambda: set(on(CONTROLLER, asked).splitlines()) == wanted,
        lambda: on(CONTROLLER, asked),
    )
    on(CONTROLLER, f"scancel {first} {second}")


def test_a_second_run_changes_nothing() -> None:
    said = play(HERE / "converge.yml")
    done = changes(said)
    assert [done[host] for host in (CONTROLLER, NODE)] == [0, 0], said[-8000:]


def test_what_is_taken_away_leaves_hosts_and_database_as_they_were() -> None:
    play(ROOT / "playbooks" / "remove.yml", "--tags=job_scheduler,accounting_db,trust")
    for host in (CONTROLLER, NODE):
        units = "systemctl list-unit-files --no-legend 'mlops*' 'slurm*' 'munge*'"
        assert on(host, units, check=False) == ""
        places = "/etc/mlops /opt/mlops /var/lib/mlops /etc/slurm /etc/munge"
        assert on(host, f"find {places} 2>/dev/null", check=False) == ""
        assert "slurm" not in on(host, "ps -eo comm")
    words = ["company-fingerprint", TOPOLOGY, "--kind=mariadb"]
    words += [f"--against={STATE / 'company.json'}", "--strict"]
    done = subprocess.run(
        [sys.executable, "extensions/lab/lab.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
