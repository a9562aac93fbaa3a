# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GPUs that a host of tests does not have: what nvidia-smi once said of real cards, said again.

The recording (the XML of ``nvidia-smi -q -x``) is the truth. From it are made the answers of the
library (``nvml.c`` reads them), and those of the program ``nvidia-smi``, which this file also is.
A test changes the recording, never the answers.

    stand_in.py set RECORDING...          cards as recorded, the first of each file named
    stand_in.py lose INDEX                the card is lost, as after an Xid 79
    stand_in.py memory INDEX MIB          a card with other memory
    stand_in.py mig INDEX off|PROFILE...  MIG off, or a card that is split: 3g.40gb 1g.20gb:6
    stand_in.py fail CODE                 NVML does not start: 9 no driver, 18 other version
    stand_in.py smi ...                   nvidia-smi: -L, -q -x, --query-gpu=... --format=...,
                                          -i CARD -mig|-pm|-e|-pl ..., mig -lgi|-cgi|-dci|-dgi

Needs nothing but Python 3.10.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

PLACE = Path("/etc/stand-in-gpus")
_ME = Path(__file__).resolve()
# What NVIDIA's library reports of cards with MIG: beside this file on a host, else of the tests.
GEOMETRY = ("geometry.json", "../../../tests/fixtures/mig/geometry.json")
ARCHITECTURES = (
    "Kepler",
    "Maxwell",
    "Pascal",
    "Volta",
    "Turing",
    "Ampere",
    "Ada Lovelace",
    "Hopper",
    "Blackwell",
)  # NVML counts them from 2
COMPUTE_MODES = ("Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")
ADDRESSING = {"HMM": 1, "ATS": 2}
MOST_INSTANCES = 7  # of one card that can be split


def read(text: str) -> Element:
    """A recording: a file of this repository, or what was made of one."""
    return ElementTree.fromstring(text.strip())  # noqa: S314


def cards(root: Element) -> list[Element]:
    """The cards of a recording."""
    return root.findall("gpu")


def said(element: Element, *paths: str) -> str | None:
    """What the recording says at the first of these places that says something."""
    for path in paths:
        text = (element.findtext(path) or "").strip()
        if text and text.lower() not in ("n/a", "[n/a]", "none", "not supported", "unknown error"):
            return text
    return None


def figure(element: Element, *paths: str) -> float | None:
    """The number at the first of these places that has one."""
    match = re.match(r"\d+(\.\d+)?", said(element, *paths) or "")
    return float(match.group()) if match else None


def combined(recordings: Sequence[str], host_name: str = "") -> Element:
    """One host with a card of each recording; a recording named twice is two cards.

    The cards of a named host are other ones than those of any other host, and nobody uses them.
    """
    host: Element | None = None
    for index, text in enumerate(recordings):
        root = read(text)
        card = copy.deepcopy(cards(root)[0])
        if host is None:
            host = root
            for one in cards(root):
                host.remove(one)
        if index or host_name:
            _another(card, host_name, index)
        if host_name:
            _idle(card)
        # Device files are numbered the other way round than the driver counts, so that whoever
        # takes the one for the other opens another card.
        _put(card, "minor_number", str(len(recordings) - 1 - index))
        host.append(card)
    if host is None:
        raise SystemExit("stand_in.py: wanted at least one recording.")
    _put(host, "attached_gpus", str(len(cards(host))))
    return host


def _another(card: Element, host_name: str, index: int) -> None:
    """A card like the recorded one that is not the same: its UUID, its place and its number."""
    name = f"{said(card, 'uuid')} {host_name} {index}"
    _put(card, "uuid", f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, name)}")
    place = f"00000000:{0x41 + index:02X}:00.0"
    card.set("id", place)
    _put(card, "pci/pci_bus_id", place)
    _put(card, "pci/pci_bus", f"{0x41 + index:02X}")


def _idle(card: Element) -> None:
    """Without the processes and the MIG instances of those who recorded it."""
    processes = card.find("processes")
    if processes is not None and len(processes):
        processes.clear()
    instances = card.find("mig_devices")
    if instances is not None and len(instances):
        instances.clear()  # nobody has divided the card yet
    for memory in card.iter("fb_memory_usage"):
        total, reserved = figure(memory, "total"), figure(memory, "reserved") or 0
        if total is not None:
            _put(memory, "used", "0 MiB")
            _put(memory, "free", f"{round(total - reserved)} MiB")


def _put(element: Element, path: str, text: str) -> None:
    """Write a value, making the place where there is none."""
    for name in path.split("/"):
        found = element.find(name)
        element = ElementTree.SubElement(element, name) if found is None else found
    element.text = text


def lose(root: Element, index: int) -> None:
    """The card no longer answers."""
    cards(root)[index].set("lost", "yes")


def set_memory(root: Element, index: int, mib: int) -> None:
    """Another size, all of it free."""
    card = cards(root)[index]
    for name, value in (("total", mib), ("reserved", 0), ("used", 0), ("free", mib)):
        _put(card, f"fb_memory_usage/{name}", f"{value} MiB")


def switch_mig(card: Element, on: bool) -> None:
    """MIG on or off; either way nothing is left of its instances."""
    for name in ("current_mig", "pending_mig"):
        _put(card, f"mig_mode/{name}", "Enabled" if on else "Disabled")
    devices = card.find("mig_devices")
    if devices is not None:
        card.remove(devices)
    ElementTree.SubElement(card, "mig_devices")


def profiles(card: Element) -> dict[str, dict[str, Any]]:
    """The MIG profiles of a card by the names that people write, of what the library reports."""
    memory = figure(card, "fb_memory_usage/total")
    file = next(path for name in GEOMETRY if (path := _ME.parent / name).exists())
    for one in json.loads(file.read_text("utf-8")).values():
        if one["name"] == said(card, "product_name") and one["memory_mib"] == memory:
            return {
                _profile(one, row): row
                for name, row in one["profiles"].items()
                if not name.endswith("_REV1")  # with media extensions
            }
    return {}


def _profile(card: dict[str, Any], row: dict[str, Any]) -> str:
    """``3g.40gb``: compute slices, and its part of the card's memory as it is sold."""
    whole = 4 if max(one["slices"] for one in card["profiles"].values()) == 4 else 8
    takes = round(row["memory_mib"] * whole / card["memory_mib"])
    return f"{row['slices']}g.{int(card['memory_mib'] / 1024 * takes / whole + 0.5)}gb"


def set_mig(root: Element, index: int, words: Sequence[str]) -> None:
    """Split a card into instances, ``3g.40gb 1g.10gb``; or ``off``."""
    card = cards(root)[index]
    switch_mig(card, list(words) != ["off"])
    for word in [] if list(words) == ["off"] else words:
        divide(card, word)


def divide(card: Element, word: str) -> None:
    """Make a GPU instance with its compute instance: ``1g.20gb``, or ``1g.20gb:6`` at its place."""
    name, _colon, place = word.partition(":")
    known = profiles(card)
    devices = card.find("mig_devices")
    if not _switch(card, "mig_mode/current_mig") or devices is None or name not in known:
        raise SystemExit("Unable to create a GPU instance: Invalid Argument")
    row = known[name]
    taken = [
        range(start, start + int(one.get("size", "1")))
        for one in devices
        for start in [int(one.get("start", "0"))]
    ]
    for where in row["placements"]:
        span = range(where["start"], where["start"] + where["size"])
        if (not place or where["start"] == int(place)) and not any(
            set(span) & set(other) for other in taken
        ):
            break
    else:
        raise SystemExit("Unable to create a GPU instance: Insufficient Resources")
    number = 1 + max((int(said(one, "gpu_instance_id") or "0") for one in devices), default=0)
    one = ElementTree.SubElement(
        devices,
        "mig_device",
        {"profile": name, "start": str(span.start), "size": str(len(span))},
    )
    for path, value in (
        ("index", str(len(devices) - 1)),
        ("gpu_instance_id", str(number)),
        ("compute_instance_id", "0"),
        ("device_attributes/shared/multiprocessor_count", str(row["multiprocessors"])),
        ("fb_memory_usage/total", f"{row['memory_mib']} MiB"),
        ("fb_memory_usage/reserved", "0 MiB"),
        ("fb_memory_usage/used", "0 MiB"),
        ("fb_memory_usage/free", f"{row['memory_mib']} MiB"),
    ):
        _put(one, path, value)


def mig_uuid(card: Element, instance: Element) -> str:
    """A recording names no instance by UUID: always the same one for the same instance."""
    parts = [said(card, "uuid"), said(instance, "gpu_instance_id"), "0"]
    return f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(filter(None, parts)))}"


def answers(root: Element) -> str:
    """What the library answers, as lines ``key=value``. What is not there is not supported."""
    lines = [f"count={len(cards(root))}"]
    if root.get("fail"):
        lines.append(f"init={root.get('fail')}")
    if driver := said(root, "driver_version"):
        lines.append(f"driver={driver}")
    if cuda := said(root, "cuda_version"):
        major, _dot, minor = cuda.partition(".")
        lines.append(f"cuda={int(major) * 1000 + int(minor or 0) * 10}")
    for index, card in enumerate(cards(root)):
        if card.get("lost"):
            lines.append(f"{index}.lost=1")
        for key, value in _told(card):
            if value is not None:
                lines.append(f"{index}.{key}={value}")
    return "\n".join(lines) + "\n"


def _told(card: Element) -> Iterator[tuple[str, object]]:
    yield "name", said(card, "product_name")
    yield "uuid", said(card, "uuid")
    yield "serial", said(card, "serial")
    yield "vbios", said(card, "vbios_version")
    yield "bus_id", said(card, "pci/pci_bus_id") or card.get("id")
    device = said(card, "pci/pci_device_id")
    yield "device_id", None if device is None else int(device, 16)
    yield "minor", said(card, "minor_number")
    yield "persistence", _switch(card, "persistence_mode")
    yield "display_mode", _switch(card, "display_mode")
    yield "display_active", _switch(card, "display_active")
    yield "arch", _place(said(card, "product_architecture"), ARCHITECTURES, 2)
    yield "compute_mode", _place(said(card, "compute_mode"), COMPUTE_MODES, 0)
    yield "memory", _memory(card)
    # Drivers of before 510 have no call that tells what they keep for themselves.
    yield "memory_reserve_untold", None if said(card, "fb_memory_usage/reserved") else 1
    yield "bar1", _all(card, "bar1_memory_usage", ("total", "used", "free"))
    yield "mig", _switches(card, "mig_mode/current_mig", "mig_mode/pending_mig")
    yield "ecc", _switches(card, "ecc_mode/current_ecc", "ecc_mode/pending_ecc")
    yield from _health(card)
    yield from _load(card)
    if _switch(card, "mig_mode/current_mig"):
        yield "mig.max", MOST_INSTANCES
        for at, instance in enumerate(card.findall("mig_devices/mig_device")):
            for key, value in _instance(card, instance):
                yield f"mig.{at}.{key}", value


def _instance(card: Element, instance: Element) -> Iterator[tuple[str, object]]:
    yield "gi", said(instance, "gpu_instance_id")
    yield "ci", said(instance, "compute_instance_id")
    yield "uuid", mig_uuid(card, instance)
    profile, start = instance.get("profile"), instance.get("start")  # a recording has neither
    yield "name", f"{said(card, 'product_name')}{f' MIG {profile}' if profile else ''}"
    yield "placement", None if start is None else f"{start} {instance.get('size', '1')}"
    yield "memory", _memory(instance)
    yield "multiprocessors", said(instance, "device_attributes/shared/multiprocessor_count")


def _health(card: Element) -> Iterator[tuple[str, object]]:
    errors = card.find("ecc_errors/aggregate")
    counts = [
        int(one.text.strip())
        for one in ([] if errors is None else errors.iter())
        if ("uncorrectable" in one.tag or "double_bit" in one.tag)
        and (one.text or "").strip().isdecimal()
        and one.text
    ]
    yield "ecc_uncorrected", sum(counts) if counts else None
    pending = said(card, "retired_pages/pending_retirement", "retired_pages/pending_blacklist")
    yield "retired_pending", None if pending is None else int(pending.lower() == "yes")
    rows = [
        said(card, f"remapped_rows/remapped_row_{name}")
        for name in ("corr", "unc", "pending", "failure")
    ]
    if all(row is not None for row in rows):
        yes = {"yes": "1", "no": "0"}
        yield "remapped", " ".join(yes.get(str(row).lower(), str(row)) for row in rows)
    repairs = [
        said(
            card, f"ecc_errors/{name}_repair_pending", f"ecc_errors/aggregate/{name}_repair_pending"
        )
        for name in ("channel", "tpc")
    ]
    if all(repairs):
        yield "repair", " ".join(str(int(str(one).lower() == "yes")) for one in repairs)
    yield "addressing", ADDRESSING.get(said(card, "addressing_mode") or "")
    actions = ("None", "Reset", "Reboot", "Drain P2P", "Drain and Reset")
    recovery = card.findtext("gpu_recovery_action")
    yield "field.230", None if recovery is None else _place(recovery.strip(), actions, 0)


def _load(card: Element) -> Iterator[tuple[str, object]]:
    link = "pci/pci_gpu_link_info"
    for key, path in (
        ("pcie_generation_now", f"{link}/pcie_gen/current_link_gen"),
        ("pcie_generation_max", f"{link}/pcie_gen/max_link_gen"),
        ("pcie_width_now", f"{link}/link_widths/current_link_width"),
        ("pcie_width_max", f"{link}/link_widths/max_link_width"),
        ("pcie_tx", "pci/tx_util"),
        ("pcie_rx", "pci/rx_util"),
        ("temperature", "temperature/gpu_temp"),
        ("fan", "fan_speed"),
        ("clock.graphics", "clocks/graphics_clock"),
        ("clock.sm", "clocks/sm_clock"),
        ("clock.memory", "clocks/mem_clock"),
        ("clock.video", "clocks/video_clock"),
        ("clock_max.graphics", "max_clocks/graphics_clock"),
        ("clock_max.sm", "max_clocks/sm_clock"),
        ("clock_max.memory", "max_clocks/mem_clock"),
        ("clock_max.video", "max_clocks/video_clock"),
    ):
        yield key, _whole(figure(card, path))
    yield "pstate", _whole(float((said(card, "performance_state") or "P").strip("P") or "nan"))
    yield "utilisation", _all(card, "utilization", ("gpu_util", "memory_util"))
    groups = ("gpu_power_readings", "power_readings")
    for key, names in (
        ("power_limit", ("current_power_limit", "enforced_power_limit", "power_limit")),
        ("power_default", ("default_power_limit",)),
        ("power", ("power_draw", "average_power_draw", "instant_power_draw")),
    ):
        paths = [f"{group}/{name}" for group in groups for name in names]
        watts = figure(card, *paths)
        yield key, None if watts is None else round(watts * 1000)
    least, most = (
        figure(card, *(f"{group}/{name}_power_limit" for group in groups))
        for name in ("min", "max")
    )
    if least is not None and most is not None:
        yield "power_range", f"{round(least * 1000)} {round(most * 1000)}"
    processes = card.find("processes")
    if processes is not None and (processes.text or "").strip().lower() != "n/a":
        yield "processes", len(processes.findall("process_info"))


def _memory(element: Element) -> str | None:
    sizes = [figure(element, f"fb_memory_usage/{n}") for n in ("total", "reserved", "used", "free")]
    total, _reserved, used, _free = sizes
    if total is None or used is None:
        return None
    return " ".join(str(round(size or 0)) for size in sizes)


def _all(element: Element, group: str, names: Sequence[str]) -> str | None:
    found = [figure(element, f"{group}/{name}") for name in names]
    if any(value is None for value in found):
        return None
    return " ".join(str(round(value or 0)) for value in found)


def _switch(card: Element, path: str) -> int | None:
    text = said(card, path)
    return None if text is None else int(text.lower() in ("enabled", "yes"))


def _switches(card: Element, *paths: str) -> str | None:
    both = [_switch(card, path) for path in paths]
    return None if None in both else " ".join(str(one) for one in both)


def _place(text: str | None, words: Sequence[str], first: int) -> int | None:
    return words.index(text) + first if text in words else None


def _whole(value: float | None) -> int | None:
    return None if value is None or math.isnan(value) else round(value)


# ------------------------------------------------------------------ nvidia-smi


def xml_of(root: Element) -> str:
    """As nvidia-smi writes it; without what only this file wrote into it."""
    clean = copy.deepcopy(root)
    for name in ("fail", "lost", "profile", "start", "size"):
        for one in clean.iter():
            one.attrib.pop(name, None)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(clean, encoding="unicode") + "\n"


POWER = "gpu_power_readings/"
QUERIES = {
    "index": None,
    "name": "product_name",
    "gpu_name": "product_name",
    "uuid": "uuid",
    "gpu_uuid": "uuid",
    "pci.bus_id": "pci/pci_bus_id",
    "gpu_bus_id": "pci/pci_bus_id",
    "memory.total": "fb_memory_usage/total",
    "memory.used": "fb_memory_usage/used",
    "memory.free": "fb_memory_usage/free",
    "mig.mode.current": "mig_mode/current_mig",
    "mig.mode.pending": "mig_mode/pending_mig",
    "ecc.mode.current": "ecc_mode/current_ecc",
    "persistence_mode": "persistence_mode",
    "compute_mode": "compute_mode",
    "temperature.gpu": "temperature/gpu_temp",
    "ecc.mode.pending": "ecc_mode/pending_ecc",
    "power.limit": POWER + "current_power_limit",
    "power.min_limit": POWER + "min_power_limit",
    "power.max_limit": POWER + "max_power_limit",
}
OLDER_POWER = {"current_power_limit": "enforced_power_limit"}


def query(root: Element, names: Sequence[str], form: Sequence[str]) -> str:
    """The table of ``--query-gpu``; a name that no card knows is refused as the program does."""
    lines = [] if "noheader" in form else [", ".join(names)]
    for index, card in enumerate(cards(root)):
        row = []
        for name in names:
            if name == "driver_version":
                value = said(root, "driver_version") or "[N/A]"
            elif name not in QUERIES:
                raise SystemExit(f'Field "{name}" is not a valid field to query.')
            else:
                path = QUERIES[name]
                value = str(index) if path is None else _value(card, path)
            row.append(value.split(" ")[0] if "nounits" in form and name != "name" else value)
        lines.append(", ".join(row))
    return "\n".join(lines) + "\n"


def _value(card: Element, path: str) -> str:
    """What a table shows; before 535 the readings of power lay in another place."""
    name = path.rpartition("/")[2]
    older = f"power_readings/{OLDER_POWER.get(name, name)}"
    return said(card, path, *([older] if path.startswith(POWER) else [])) or "[N/A]"


def listed(root: Element) -> str:
    """The list of ``-L``, with the instances of cards that are split."""
    lines = []
    for index, card in enumerate(cards(root)):
        lines.append(f"GPU {index}: {said(card, 'product_name')} (UUID: {said(card, 'uuid')})")
        if not _switch(card, "mig_mode/current_mig"):
            continue
        for at, instance in enumerate(card.findall("mig_devices/mig_device")):
            named = f"MIG {instance.get('profile', 'instance')}".ljust(16)
            lines.append(f"  {named}Device {at:>2}: (UUID: {mig_uuid(card, instance)})")
    return "\n".join(lines) + "\n"


def smi(root: Element, words: Sequence[str]) -> str:
    """What nvidia-smi answers; it ends with what NVML says where that does not start."""
    if root.get("fail"):
        sentences = {
            "9": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
            "Make sure that the latest NVIDIA driver is installed and running.",
            "18": "Failed to initialize NVML: Driver/library version mismatch",
        }
        print(sentences.get(str(root.get("fail")), "Failed to initialize NVML: Unknown Error"))
        raise SystemExit(int(root.get("fail", "1")))
    for card in cards(root):
        if card.get("lost"):
            place = (said(card, "pci/pci_bus_id") or "").lower()
            print(
                f"Unable to determine the device handle for GPU{place}: GPU is lost.  "
                "Reboot the system to recover this GPU"
            )
            raise SystemExit(15)
    options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    if "-L" in words:
        return listed(root)
    if "-q" in words and "-x" in words:
        return xml_of(root)
    if "--query-gpu" in options:
        form = options.get("--format", "").split(",")
        return query(root, options["--query-gpu"].split(","), form)
    if words[:1] == ["mig"] and "-lgi" in words:
        return instances(root)
    return change(root, words)


def instances(root: Element) -> str:
    """The table of GPU instances of ``mig -lgi``."""
    rows = [
        f"|{index:>4}  MIG {one.get('profile', '?'):<12}{0:>6}{said(one, 'gpu_instance_id'):>9}"
        f"{one.get('start', '0'):>10}:{one.get('size', '1'):<7} |"
        for index, card in enumerate(cards(root))
        for one in card.findall("mig_devices/mig_device")
    ]
    if not rows:
        print("No GPU instances found: Not Found")
        raise SystemExit(6)
    head = "| GPU   Name             Profile  Instance   Placement  |"
    return "\n".join([head, *rows]) + "\n"


SWITCHES = {"-pm": "persistence_mode", "-e": "ecc_mode/pending_ecc"}


def _altered(card: Element, given: Mapping[str, str]) -> list[str]:
    """Alter one card by the options that are given; those that it knows."""
    done = []
    for flag, path in SWITCHES.items():
        if flag in given:
            _put(card, path, "Enabled" if given[flag] == "1" else "Disabled")
            done.append(flag)
    if "-pl" in given:
        _put(card, f"{POWER}current_power_limit", f"{float(given['-pl']):.2f} W")
        done.append("-pl")
    if "-mig" in given:
        if _switch(card, "mig_mode/current_mig") is None:
            raise SystemExit("Unable to set MIG mode: Not Supported")
        switch_mig(card, given["-mig"] == "1")
        done.append("-mig")
    for word in given["-cgi"].split(",") if "-cgi" in given else ():
        divide(card, word)
        done.append("-cgi")
    if "-dgi" in given:
        switch_mig(card, on=True)
    return done + [flag for flag in ("-dci", "-dgi") if flag in given]


def change(root: Element, words: Sequence[str]) -> str:
    """What alters a card: its instances and its modes. All of it is kept in the recording."""
    given = dict(zip(words, [*words[1:], ""], strict=True))
    aim = given.get("-i", "")
    chosen = [
        card for at, card in enumerate(cards(root)) if aim in ("", str(at), said(card, "uuid"))
    ]
    if not chosen:
        print("No devices were found")
        raise SystemExit(6)
    done = [flag for card in chosen for flag in _altered(card, given)]
    if not done:
        raise SystemExit(f"The stand-in of nvidia-smi does not know: {' '.join(words)}")
    keep(root, _place_of_all())
    return f"{', '.join(done)}: done for {len(chosen)} card(s)\n"


# ------------------------------------------------------------------ the place on a host


def files_of(root: Element) -> dict[str, str]:
    """What lies at the place on a host."""
    return {
        "recording.xml": ElementTree.tostring(root, encoding="unicode") + "\n",
        "answers": answers(root),
    }


def keep(root: Element, place: Path) -> None:
    """Write recording and answers; each is replaced as a whole."""
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files_of(root).items():
        new = place / f".{name}.new"
        new.write_text(content, encoding="utf-8")
        new.replace(place / name)


def _place_of_all() -> Path:
    return Path(os.environ.get("STAND_IN_GPUS_AT", str(PLACE)))


def main(words: Sequence[str]) -> int:
    """Do what the command line says."""
    place = _place_of_all()
    verb, rest = (words[0], list(words[1:])) if words else ("", [])
    if verb == "set":
        keep(combined([Path(name).read_text("utf-8") for name in rest]), place)
        return 0
    root = read((place / "recording.xml").read_text("utf-8"))
    if verb == "smi":
        sys.stdout.write(smi(root, rest))
        return 0
    if verb == "lose":
        lose(root, int(rest[0]))
    elif verb == "memory":
        set_memory(root, int(rest[0]), int(rest[1]))
    elif verb == "mig":
        set_mig(root, int(rest[0]), rest[1:])
    elif verb == "fail":
        root.set("fail", rest[0])
    else:
        print(__doc__, file=sys.stderr)
        return 2
    keep(root, place)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
