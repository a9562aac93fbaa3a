# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A candidate has one digest and holds what a release has; a hostile model cannot reach out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline.candidate import (
    assemble,
    check_golden,
    check_name,
    freeze,
    read_candidate,
    read_mapping,
)
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.onnx_file import describe

from tests import onnx_bytes as onnx

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/models"
REQUEST = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
GOLDEN = {"tolerance": 0.1, "cases": [{"request": REQUEST, "expected": {"y": [1]}}]}


def make(folder: Path, data: bytes, **others: bytes) -> Path:
    """Write a model with files beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(data)
    for name, content in others.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder / "net.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A candidate whose weights lie beside the model."""
    data = onnx.model(onnx.initializer(onnx.external("w", "w.data")))
    assemble(tmp_path / "c", make(tmp_path / "from", data, w_data=b"1234"), GOLDEN, {"a": 1})
    return tmp_path / "c"


def test_all_files_of_a_model_travel_and_have_one_digest(folder: Path, tmp_path: Path) -> None:
    candidate = read_candidate(folder)
    assert [each.path for each in candidate.files] == [
        "config.json",
        "golden.json",
        "model.onnx",
        "w.data",
    ]
    assert candidate.golden()["cases"] == GOLDEN["cases"]
    assert candidate.config() == {"a": 1}
    assert freeze(folder, tmp_path / "copy").digest == candidate.digest
    candidate.require(candidate.digest)


@pytest.mark.parametrize("name", ["config.json", "golden.json", "model.onnx", "w.data"])
def test_another_byte_in_any_file_is_another_candidate(folder: Path, name: str) -> None:
    digest = read_candidate(folder).digest
    with (folder / name).open("ab") as stream:
        # A field that nothing reads keeps the model an ONNX model.
        stream.write(onnx.field(99, 1) if name == "model.onnx" else b" ")
    with pytest.raises(PipelineError, match="not the ones that the earlier step has handed on"):
        read_candidate(folder).require(digest)


def test_a_file_of_another_name_is_another_candidate(tmp_path: Path) -> None:
    digests = set()
    for name in ("w.data", "v.data"):
        data = onnx.model(onnx.initializer(onnx.external("w", name)))
        model = make(tmp_path / name[0], data, **{name.replace(".", "_"): b"1234"})
        digests.add(assemble(tmp_path / f"c{name[0]}", model, GOLDEN, {}).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("text", ["", "abc", "sha256:12", "SHA256:" + "0" * 64])
def test_what_is_no_digest_is_said(folder: Path, text: str) -> None:
    with pytest.raises(PipelineError, match="wanted a candidate such as sha256:"):
        read_candidate(folder).require(text)


def test_a_file_that_nothing_reads_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    with pytest.raises(PipelineError, match=r"also holds notes.txt, which nothing of the model"):
        read_candidate(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "golden.json").unlink()
    with pytest.raises(PipelineError, match=r"lacks golden\.json"):
        read_candidate(folder)
    with pytest.raises(PipelineError, match="cannot be read: No such file"):
        read_candidate(folder / "none")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_plain_files_are_read(folder: Path, tmp_path: Path, kind: str) -> None:
    path = folder / "config.json"
    path.unlink()
    if kind == "link":
        (tmp_path / "secret").write_text("{}")
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(PipelineError, match="plain file"):
        read_candidate(folder)
    with pytest.raises(PipelineError, match="plain file"):
        freeze(folder, tmp_path / "copy")


PLACES = [
    "/etc/passwd",
    "../secrets.yml",
    "inventories/site/secrets.yml",
    "",
    ".",
    "..",
    ".hidden",
    "a/../b",
    "config.json",
    "model.onnx",
    "manifest.json",
    "*/_ORT_MEM_ADDR_/*",
    "w.data\x00",
    "w" * 5000,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("where", [onnx.initializer, onnx.in_attribute, onnx.in_subgraph])
def test_numbers_outside_the_folder_are_refused(place: str, where: Any, tmp_path: Path) -> None:
    tensor = onnx.external("w", place)
    part = where(onnx.initializer(tensor)) if where is onnx.in_subgraph else where(tensor)
    (tmp_path / "secrets.yml").write_text("0123456789")
    model = make(tmp_path / "from", onnx.model(part), config_json=b"{}")
    with pytest.raises(PipelineError, match="which is no plain name of a file beside the model"):
        assemble(tmp_path / "c", model, GOLDEN, {})


def test_a_link_beside_the_model_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789")
    model = make(tmp_path / "from", onnx.model(onnx.initializer(onnx.external("w", "w.data"))))
    (model.parent / "w.data").symlink_to(tmp_path / "secret")
    with pytest.raises(PipelineError, match=r"from w.data, which is missing beside the model"):
        assemble(tmp_path / "c", model, GOLDEN, {})


@pytest.mark.parametrize("large", ["net.onnx", "w.data"])
def test_nothing_is_copied_of_what_devices_have_no_room_for(large: str, tmp_path: Path) -> None:
    data = onnx.model(onnx.initializer(onnx.external("w", "w.data")))
    model = make(tmp_path / "from", data, w_data=b"1234")
    if large == "w.data":
        # Takes no room here, and would take it as a copy.
        os.truncate(model.parent / large, 2**40)
    else:
        with model.open("ab") as stream:
            stream.write(onnx.field(99, b"\0" * 2**20))
    with pytest.raises(PipelineError, match="more than the 1 MiB that devices keep room for"):
        assemble(tmp_path / "c", model, GOLDEN, {}, most_mib=1)
    assert not (tmp_path / "c").exists()
    (tmp_path / "handed").mkdir()
    for name, written in (("model.onnx", model), ("w.data", model.parent / "w.data")):
        written.rename(tmp_path / "handed" / name)
    with pytest.raises(PipelineError, match="more than the 1 MiB that devices keep room for"):
        freeze(tmp_path / "handed", tmp_path / "copy", most_mib=1)
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_sentence_does_nothing_but_be_read() -> None:
    said = str(PipelineError("no \x1b]0;title\x07 of\nthis\x85kind" + "!" * 9000))
    assert said.startswith("no ?]0;title? of this kind!!")
    assert len(said) == 4001


def test_numbers_beyond_the_end_of_a_file_are_refused(tmp_path: Path) -> None:
    data = onnx.model(onnx.initializer(onnx.external("w", "w.data", 2, 4)))
    model = make(tmp_path / "from", data, w_data=b"1234")
    with pytest.raises(PipelineError, match=r"wants bytes up to 6 of w.data, which has 4"):
        assemble(tmp_path / "c", model, GOLDEN, {})


def domain(number: int) -> bytes:
    return onnx.field(8, onnx.field(1, f"d{number}") + onnx.field(2, 1))


def weight_at(place: int) -> bytes:
    return onnx.initializer(onnx.external("w", "w", place))


def deep(levels: int) -> bytes:
    part = onnx.initializer(onnx.external("w", "w.data"))
    for _level in range(levels):
        part = onnx.in_subgraph(part)
    return onnx.model(part)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is empty"),
        (b"NOT-THE-EVALUATED-MODEL", "not an ONNX model"),
        (b"\x3a\xff\xff\xff\xff\x0f", "a field is longer than what it lies in"),
        (b"\x3a" + b"\xff" * 12, "a number of more than 64 bits"),
        (b"\x3a\x80", "it ends in the middle of a number"),
        (b"\x3b", "of the unknown kind 3"),
        (onnx.field(1, 8), "it has no graph or no opset"),
        (deep(60), "nested deeper"),
        (onnx.model(onnx.initializer(onnx.external("w", "w", "x"))), "is not a number"),
        (b"".join(map(domain, range(101))) + onnx.model(), "more than 100 sets of operators"),
        (onnx.model(*(weight_at(place) for place in range(100_001))), "more than 100000 of its"),
    ],
)
def test_what_is_no_model_is_said(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=sentence):
        describe(make(tmp_path / "m", data))


@pytest.mark.parametrize("name", ["every_type", "two_inputs", "sequence"])
def test_files_of_the_onnx_package_are_read(name: str) -> None:
    found = describe(FIXTURES / f"{name}.onnx")
    assert dict(found.opsets) == {"": 17}
    assert found.ir_version == 8
    assert found.files == ()


def test_a_tensor_in_a_function_or_a_sparse_one_is_found(tmp_path: Path) -> None:
    function = onnx.field(25, onnx.in_attribute(onnx.external("f", "f.data"))[0:0])
    sparse = onnx.field(15, onnx.field(1, onnx.external("s", "s.data")))
    node = onnx.field(
        7, onnx.field(5, onnx.field(5, onnx.external("f", "f.data")))
    )  # node of a function
    function = onnx.field(25, node)
    data = onnx.model(sparse) + function
    assert describe(make(tmp_path / "m", data)).files == ("f.data", "s.data")


@pytest.mark.parametrize("name", ["Fraud", "a/b", "", "a--b", "-a", "a" * 64, "ä"])
def test_a_name_that_cannot_be_a_repository_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="as it also names a repository"):
        check_name(name)
    assert check_name("breast-cancer_2.1") == "breast-cancer_2.1"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "tolerance: found None"),
        ({"tolerance": True, "cases": []}, "tolerance: found True"),
        ({"tolerance": -1, "cases": []}, "tolerance: found -1"),
        ({"tolerance": 1, "cases": []}, "there is no case"),
        ({"tolerance": 1, "cases": [7]}, "case 1: wanted an object"),
        ({"tolerance": 1, "cases": [{"request": {}}]}, "case 1: wanted a request such as"),
        ({"tolerance": 1, "cases": [{"request": REQUEST}]}, "case 1: there is no expected answer"),
        (
            {"tolerance": 1, "cases": [{"request": REQUEST, "expected": {"y": 3}}]},
            "case 1, y: wanted a flat list",
        ),
        (
            {"tolerance": 1, "cases": [{"request": {"inputs": [{"name": "x"}]}}]},
            "case 1: an input lacks shape, datatype, data",
        ),
        (
            {
                "tolerance": 1,
                "cases": [{"request": {"inputs": [{**REQUEST["inputs"][0], "shape": [-1]}]}}],
            },
            r"case 1, x: found the shape \[-1\]",
        ),
    ],
)
def test_golden_answers_of_any_form_give_a_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        check_golden(value, "golden.json")


@pytest.mark.parametrize("text", ["[", "[]", "7", "[" * 100_000])
def test_a_description_that_is_none_gives_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(PipelineError, match=r"is not JSON|wanted an object"):
        read_mapping(tmp_path / "config.json")


def test_a_huge_description_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(PipelineError, match="larger than 16 MiB"):
        read_mapping(tmp_path / "config.json")


def test_a_profile_of_the_training_data_is_carried(tmp_path: Path) -> None:
    model = make(tmp_path / "from", onnx.model())
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"rows": 3}))
    candidate = assemble(tmp_path / "c", model, GOLDEN, {}, profile)
    assert [each.path for each in candidate.files][-1] == "profile.json"
    profile.write_text("[")
    with pytest.raises(PipelineError, match="is not JSON"):
        assemble(tmp_path / "d", model, GOLDEN, {}, profile)
