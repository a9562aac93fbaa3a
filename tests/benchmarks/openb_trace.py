# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a trace of the openb family: a table of hosts and a table of workloads, as CSV.

Columns of the hosts:

- ``cpu_milli``: thousandths of a core; ``gpu``: number of GPUs;
- ``memory_mib``, ``model`` (of the GPUs) and ``sn`` (the host's name) may be absent.

Columns of the workloads, one row for each:

- ``cpu_milli``; ``num_gpu``: number of GPUs, 0 for none;
- ``gpu_milli``: thousandths of the one GPU where ``num_gpu`` is 1; may be absent: whole GPUs;
- ``gpu_spec``: GPU models allowed, separated by ``|``; may be absent: all are allowed;
- ``memory_mib`` may be absent: none is asked for.

Other columns are ignored. The cells of optional columns may be empty. Where the hosts have no
memory column, memory is not planned.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import (
    NO_GPU,
    Device,
    GpuNeed,
    Host,
    Instance,
    Workload,
)

MILLI = 1000
MOST_GPUS = 1024  # of one host: more is a slip of the pen, and would fill the memory with devices


class TraceError(Exception):
    """A file is no such table. Reads as a sentence that names the file and the line."""


class _Row:
    """One line of a table, which knows where it stands."""

    def __init__(self, cells: Mapping[str, str], where: str) -> None:
        self._cells = cells
        self._where = where

    def error(self, problem: str) -> TraceError:
        return TraceError(f"{self._where}: {problem}")

    def text(self, column: str) -> str:
        """The cell without blanks around it; empty where the column is absent."""
        return self._cells.get(column, "").strip()

    def amount(self, column: str, default: float | None = None) -> float:
        """A number that is not negative; the default where the cell is empty or absent."""
        said = self.text(column)
        if not said:
            if default is None:
                raise self.error(f"{column} is empty")
            return default
        try:
            value = float(said)
        except ValueError:
            raise self.error(f"{column} is {_shown(said)}, which is no number") from None
        if not math.isfinite(value) or not 0 <= value <= 1e15:
            raise self.error(f"{column} is {_shown(said)}; wanted is a number from 0 to 1e15")
        return value

    def count(self, column: str, most: int) -> int:
        value = self.amount(column)
        if value != int(value) or value > most:
            raise self.error(f"{column} is {value:g}; wanted is a whole number up to {most}")
        return int(value)


def _shown(said: str) -> str:
    return repr(said if len(said) <= 40 else said[:37] + "...")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is no text in UTF-8") from None


def _check_head(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    for name in required:
        if name not in header:
            raise TraceError(f"{path}: has no column {name!r}")
    for name, times in Counter(header).items():
        if times > 1:
            raise TraceError(f"{path}: has the column {_shown(name)} {times} times")


def _rows(path: Path, required: tuple[str, ...]) -> tuple[frozenset[str], Iterator[_Row]]:
    """The names of a table's columns, and its rows."""
    text = _text(path)
    lines = csv.reader(text.splitlines(), strict=True)

    def checked() -> Iterator[list[str]]:
        try:
            yield from lines
        except csv.Error as error:
            raise TraceError(f"{path}, line {lines.line_num}: is no CSV: {error}") from None

    cells = checked()
    header = [name.strip() for name in next(cells, [])]
    _check_head(path, header, required)

    def rows() -> Iterator[_Row]:
        for row in cells:
            if not row:
                continue
            where = f"{path}, line {lines.line_num}"
            if len(row) != len(header):
                raise TraceError(f"{where}: has {len(row)} cells, but the head has {len(header)}")
            yield _Row(dict(zip(header, row, strict=True)), where)

    return frozenset(header), rows()


def _amount(value: float) -> str:
    """As few digits as tell different amounts apart."""
    return f"{value:.12g}"


def _read_hosts(path: Path) -> tuple[bool, tuple[Host, ...]]:
    """Whether memory is planned, and the hosts."""
    columns, rows = _rows(path, ("cpu_milli", "gpu"))
    with_memory = "memory_mib" in columns
    hosts: dict[str, Host] = {}
    for row in rows:
        name = row.text("sn") or f"host-{len(hosts)}"
        if name in hosts:
            raise row.error(f"the host {_shown(name)} is listed before")
        memory = (row.amount("memory_mib"),) if with_memory else ()
        supply = (row.amount("cpu_milli") / MILLI, *memory)
        devices = (Device(row.text("model")),) * row.count("gpu", MOST_GPUS)
        hosts[name] = Host(name, supply, devices)
    if not hosts:
        raise TraceError(f"{path}: lists no host")
    return with_memory, tuple(hosts.values())


def _gpu_need(row: _Row) -> GpuNeed:
    count = row.count("num_gpu", MOST_GPUS)
    if count == 0:
        return NO_GPU
    models = frozenset(filter(None, (name.strip() for name in row.text("gpu_spec").split("|"))))
    share = row.amount("gpu_milli", MILLI)
    if count > 1:
        if share < MILLI:
            raise row.error(f"asks for {count} GPUs and for {share:g} thousandths of one")
        return GpuNeed(count=count, models=models)
    if not 0 < share <= MILLI:
        raise row.error(f"gpu_milli is {share:g}; wanted is a number above 0, up to {MILLI}")
    if share == MILLI:
        return GpuNeed(count=1, models=models)
    return GpuNeed(share=share / MILLI, models=models)


def _name(cpu: float, memory: float, gpu: GpuNeed) -> str:
    """A name that says the shape: ``12cpu-16384MiB-0.46gpu-T4|P100``."""
    parts = [f"{_amount(cpu)}cpu", f"{_amount(memory)}MiB"]
    if gpu.wanted:
        parts += [f"{_amount(gpu.count or gpu.share)}gpu", "|".join(sorted(gpu.models))]
    return "-".join(filter(None, parts))


def read(nodes: Path, pods: Path) -> Instance:
    """The trace as a question to the planner.

    Resources are ``cpu`` in cores and ``memory`` in MiB. Equal rows of the workloads become one
    workload with so many replicas, in the order of their first rows. Raises TraceError.
    """
    with_memory, hosts = _read_hosts(nodes)
    _columns, rows = _rows(pods, ("cpu_milli", "num_gpu"))
    found: Counter[tuple[float, float, GpuNeed]] = Counter()
    for row in rows:
        cpu = row.amount("cpu_milli") / MILLI
        memory = row.amount("memory_mib", 0.0)
        found[cpu, memory if with_memory else 0.0, _gpu_need(row)] += 1
    if not found:
        raise TraceError(f"{pods}: lists no workload")
    return Instance(
        resources=("cpu", "memory") if with_memory else ("cpu",),
        units=("cores", "MiB") if with_memory else ("cores",),
        hosts=hosts,
        workloads=tuple(
            Workload(
                name=_name(cpu, memory, gpu),
                demand=(cpu, memory) if with_memory else (cpu,),
                replicas=replicas,
                gpu=gpu,
            )
            for (cpu, memory, gpu), replicas in found.items()
        ),
    )
