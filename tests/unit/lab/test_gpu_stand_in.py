"""The stand-in for NVIDIA's driver answers what its recording says, and what a test changed."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._planner.mig import geometry
from ansible_collections.mlops.onprem.plugins.module_utils._planner.mig.cards import CARDS
from ansible_collections.mlops.onprem.plugins.module_utils._supply import gather, nvml
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import (
    Gpu,
    GpuReport,
    parse_nvidia_smi,
)
from ansible_collections.mlops.onprem.plugins.module_utils._supply.mig import with_lists
from ansible_collections.mlops.onprem.plugins.module_utils._supply.tree import Host
from gpu_stand_in import stand_in

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "extensions" / "lab" / "gpu_stand_in" / "nvml.c"
RECORDINGS = sorted((ROOT / "tests" / "fixtures" / "nvidia_smi").glob("*.xml"))
A100 = next(path for path in RECORDINGS if path.stem.startswith("a100"))
T4 = next(path for path in RECORDINGS if path.stem == "tesla-t4")
# Told in words that differ by way: why something is unknown, and that nothing needs to be done.
BY_WAY = {"unknown", "recovery_action"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler here; the scenario `compute` builds it on its hosts")
    built = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    strict = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [compiler, *strict, "-shared", "-fPIC", "-o", str(built), str(SOURCE)], check=True
    )
    return ctypes.CDLL(str(built))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAND_IN_GPUS_AT", str(tmp_path))
    monkeypatch.setenv("STAND_IN_GPUS", str(tmp_path / "answers"))
    return tmp_path


def played(library: Any, place: Path, *recordings: Path) -> GpuReport:
    assert stand_in.main(["set", *map(str, recordings)]) == 0
    return nvml.read_nvml(library)


def facts(gpu: Gpu) -> dict[str, Any]:
    return {
        field.name: getattr(gpu, field.name)
        for field in dataclasses.fields(gpu)
        if field.name not in BY_WAY
    }


def listed_apart(gpu: Gpu) -> Gpu:
    """Without what the XML leaves out of instances."""
    bare = [
        dataclasses.replace(one, uuid=None, profile=None, start=None) for one in gpu.mig_instances
    ]
    return dataclasses.replace(gpu, mig_instances=tuple(bare))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_the_library_answers_what_was_recorded(
    library: Any, place: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = played(library, place, recording)
    stand_in.main(["smi", "-q", "-x"])
    shown = parse_nvidia_smi(capsys.readouterr().out)
    recorded = parse_nvidia_smi(recording.read_text("utf-8"))
    first = dataclasses.replace(recorded.gpus[0], index=0, minor=0)
    assert [facts(listed_apart(gpu)) for gpu in told.gpus] == [facts(first)]
    assert shown.gpus == (first,)
    assert (told.driver_version, told.cuda_version) == (
        recorded.driver_version,
        recorded.cuda_version,
    )
    assert told.problem is shown.problem is None


def test_two_cards_of_one_recording_are_two_cards(library: Any, place: Path) -> None:
    one, other = played(library, place, T4, T4).gpus
    assert one.model == other.model
    assert one.uuid != other.uuid
    assert one.pci_bus_id != other.pci_bus_id
    assert [(card.index, card.minor) for card in (one, other)] == [(0, 1), (1, 0)]


def test_hosts_have_different_cards() -> None:
    texts = [T4.read_text("utf-8")]
    uuids = {stand_in.combined(texts, name).findtext("gpu/uuid") for name in ("a", "b", "a")}
    assert len(uuids) == 2


def test_nobody_uses_the_cards_of_a_new_host(library: Any, place: Path) -> None:
    (used,) = played(library, place, T4).gpus
    assert used.processes
    assert used.memory_used_mib
    stand_in.keep(stand_in.combined([T4.read_text("utf-8")], "a"), place)
    (idle,) = nvml.read_nvml(library).gpus
    assert (idle.processes, idle.memory_used_mib) == (0, 0)


def test_a_lost_card_is_lost_at_once(
    library: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(played(library, place, T4, A100).gpus) == 2
    stand_in.main(["lose", "1"])
    report = nvml.read_nvml(library)
    assert [gpu.model for gpu in report.gpus] == ["Tesla T4"]
    assert report.problem == "card 1: the card is lost; reboot the host"
    with pytest.raises(SystemExit) as ended:
        stand_in.main(["smi", "-q", "-x"])
    assert ended.value.code == 15
    assert "GPU is lost" in capsys.readouterr().out


def test_another_memory_is_told(library: Any, place: Path) -> None:
    played(library, place, T4)
    stand_in.main(["memory", "0", "8192"])
    (card,) = nvml.read_nvml(library).gpus
    assert (card.memory_mib, card.memory_free_mib) == (8192, 8192)


def test_a_card_is_split_and_made_whole(
    library: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played(library, place, A100)
    stand_in.main(["mig", "0", "off"])
    (card,) = nvml.read_nvml(library).gpus
    assert (card.mig_mode, card.mig_instances) == ("Disabled", ())
    stand_in.main(["mig", "0", "3g.40gb", "1g.10gb", "1g.20gb:6"])
    (card,) = nvml.read_nvml(library).gpus
    assert card.mig_mode == "Enabled"
    assert [one.memory_mib for one in card.mig_instances] == [40192, 9856, 19968]
    assert [(one.profile, one.start) for one in card.mig_instances] == [
        ("3g.40gb", 0),
        ("1g.10gb", 4),
        ("1g.20gb", 6),
    ]
    told = nvml.read_nvml(library)
    bare = dataclasses.replace(told, gpus=tuple(map(listed_apart, told.gpus)))
    assert with_lists(bare, smi(capsys, "-L"), smi(capsys, "mig", "-lgi")) == told
    capsys.readouterr()
    stand_in.main(["smi", "-L"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(UUID: ")[1][:4] for line in lines] == ["GPU-", "MIG-", "MIG-", "MIG-"]
    assert len(set(lines)) == 4


def test_a_divided_card_is_the_same_by_the_library_and_by_the_program(
    library: Any,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And both find the files that open each instance by the minor number of the card."""
    played(library, place, A100, T4)
    stand_in.main(["mig", "0", "3g.40gb", "1g.10gb"])
    root = tmp_path_factory.mktemp("host")
    for number, part in enumerate(("gi1", "gi1/ci0", "gi2", "gi2/ci0"), start=30):
        access = root / f"proc/driver/nvidia/capabilities/gpu1/mig/{part}/access"
        access.parent.mkdir(parents=True, exist_ok=True)
        access.write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
        file = root / f"dev/nvidia-caps/nvidia-cap{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/nvidia-smi").touch()

    def program(_path: str, *words: str) -> tuple[int, str]:
        return 0, smi(capsys, *words)

    monkeypatch.setattr(gather, "_smi", program)
    monkeypatch.setattr(nvml, "open_library", lambda: library)
    by_library = gather.gpus(Host(str(root)), ask_driver=True, memory_mib=None)
    monkeypatch.setattr(nvml, "open_library", missing)
    by_program = gather.gpus(Host(str(root)), ask_driver=True, memory_mib=None)
    assert (by_library.source, by_program.source) == ("nvml", "nvidia-smi")
    assert by_library.gpus[0].mig_instances == by_program.gpus[0].mig_instances
    assert [
        (one.profile, one.start, [file.rpartition("/")[2] for file in one.files])
        for one in by_program.gpus[0].mig_instances
    ] == [
        ("3g.40gb", 0, ["nvidia-cap30", "nvidia-cap31"]),
        ("1g.10gb", 4, ["nvidia-cap32", "nvidia-cap33"]),
    ]
    json.dumps(by_program.as_dict())


def missing() -> Any:
    raise OSError("no such library")


def smi(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    stand_in.main(["smi", *words])
    return capsys.readouterr().out


def test_instances_are_made_where_there_is_room(
    library: Any, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uuid = str(played(library, place, A100).gpus[0].uuid)
    smi(capsys, "-i", uuid, "-mig", "0")
    smi(capsys, "-i", uuid, "-mig", "1")
    with pytest.raises(SystemExit) as ended:
        smi(capsys, "mig", "-lgi")
    assert ended.value.code == 6
    smi(capsys, "mig", "-i", uuid, "-cgi", "3g.40gb:4", "-C")
    smi(capsys, "mig", "-i", uuid, "-cgi", "1g.20gb", "-C")
    rows = [line.split() for line in smi(capsys, "mig", "-lgi").splitlines()[1:]]
    assert [(row[3], row[6]) for row in rows] == [("3g.40gb", "4:4"), ("1g.20gb", "0:2")]
    with pytest.raises(SystemExit, match="Insufficient Resources"):
        smi(capsys, "mig", "-i", uuid, "-cgi", "4g.40gb", "-C")
    (card,) = nvml.read_nvml(library).gpus
    assert [one.memory_mib for one in card.mig_instances] == [40192, 19968]
    smi(capsys, "mig", "-i", uuid, "-dgi")
    assert nvml.read_nvml(library).gpus[0].mig_instances == ()


def test_modes_are_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.main(["set", str(A100)])
    smi(capsys, "-i", "0", "-pm", "1")
    smi(capsys, "-i", "0", "-pl", "300")
    asked = "--query-gpu=persistence_mode,power.limit,power.max_limit"
    assert smi(capsys, asked, "--format=csv,noheader,nounits") == "Enabled, 300.00, 500.00\n"
    with pytest.raises(SystemExit, match="does not know: -r"):
        smi(capsys, "-r")


@pytest.mark.parametrize("key", sorted(CARDS))
def test_profiles_have_the_names_that_the_planner_gives_them(key: str) -> None:
    root = stand_in.read("<nvidia_smi_log><gpu/></nvidia_smi_log>")
    (card,) = stand_in.cards(root)
    stand_in._put(card, "product_name", CARDS[key].name)
    stand_in._put(card, "fb_memory_usage/total", f"{CARDS[key].memory_mib} MiB")
    known = geometry.card(key).profiles
    # The stand-in makes no variants with other engines (+me, +gfx, -me).
    assert set(stand_in.profiles(card)) == {name for name in known if name.endswith("gb")}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("9", "the driver is not loaded"), ("18", "library and driver are of different versions")],
)
def test_a_driver_that_does_not_start_says_why(
    library: Any, place: Path, code: str, sentence: str
) -> None:
    played(library, place, T4)
    stand_in.main(["fail", code])
    with pytest.raises(nvml.NvmlError, match=sentence):
        nvml.read_nvml(library)
    with pytest.raises(SystemExit) as ended:
        stand_in.main(["smi", "-L"])
    assert ended.value.code == int(code)


def test_a_table_of_cards(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.main(["set", str(T4)])
    words = ["smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    stand_in.main(words)
    assert capsys.readouterr().out == "0, Tesla T4, 15360\n"
    with pytest.raises(SystemExit, match="colour"):
        stand_in.main(["smi", "--query-gpu=colour"])
