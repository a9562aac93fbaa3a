# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people may write about workloads, and the sentence for everything they may not."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._demand.growth import Growth
from ansible_collections.mlops.onprem.plugins.module_utils._demand.offers import (
    Shape,
    ShapeGpus,
    parse_shapes,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.quantities import quantity
from ansible_collections.mlops.onprem.plugins.module_utils._demand.what_if import parse_what_if
from ansible_collections.mlops.onprem.plugins.module_utils._demand.words import parse_labels
from ansible_collections.mlops.onprem.plugins.module_utils._demand.workloads import (
    Known,
    Limit,
    Request,
    Spec,
    parse_workloads,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import DiskNeed
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._planner.model import GpuNeed
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import fuzz_workloads

KNOWN = Known(
    frozenset(("all", "gpu", "edge")),
    frozenset(("gpu1", "gpu2")),
    frozenset((("rack", "a"), ("rack", "b"))),
)
CHAT: dict[str, Any] = {"name": "chat", "kind": "serving", "requests": {"cpu_cores": 2}}
TODAY = datetime.date(2026, 1, 1)


def read(*rows: Any) -> tuple[tuple[Spec, ...], tuple[str, ...]]:
    return parse_workloads(list(rows), KNOWN)


def chat(**changes: Any) -> Spec:
    found, problems = read({**CHAT, **changes})
    assert problems == ()
    return found[0]


def refused(**changes: Any) -> str:
    found, problems = read({**CHAT, **changes})
    assert found == ()
    [problem] = problems
    return problem


def test_everything_that_can_be_said_is_understood() -> None:
    spec = chat(
        requests={"cpu_cores": 2, "memory": "8GiB", "disks": [{"path": "/srv/m/", "size_gib": 2}]},
        limits={"cpu_cores": 4, "memory_gib": 16},
        replicas=3,
        hosts={"groups": ["gpu"], "labels": {"rack": "a"}, "names": ["gpu1"]},
        gpu={"share": 0.5, "models": ["A100", "H100"]},
        anti_affinity=True,
        growth={"percent_per_year": 40, "linear": True, "since": "2025-07-01"},
        priority=7,
    )
    assert spec == Spec(
        "chat",
        "serving",
        Request(2.0, 8192.0, (DiskNeed("/srv/m", 2048.0),)),
        Limit(4.0, 16384.0),
        3,
        GpuNeed(share=0.5, models=frozenset(("A100", "H100"))),
        ("gpu",),
        (("rack", "a"),),
        ("gpu1",),
        "workload chat",
        Growth("replicas", 40.0, True, datetime.date(2025, 7, 1)),
        7,
    )


def test_little_has_to_be_said() -> None:
    spec = chat()
    assert (spec.replicas, spec.gpu.wanted, spec.spread, spec.growth.grows) == (1, False, "", False)


@pytest.mark.parametrize(
    ("written", "mib"),
    [
        ("8GiB", 8192),
        ("8 gib", 8192),
        ("512MiB", 512),
        ("1.5TiB", 1.5 * 2**20),
        ("1024KiB", 1),
        ("1GB", 1e9 / 2**20),
        ("2tb", 2e12 / 2**20),
    ],
)
def test_amounts_have_a_unit(written: str, mib: float) -> None:
    assert quantity(written) == pytest.approx(mib)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("memory", "2GiB"),
        ("memory_mib", 2048),
        ("memory_gib", 2),
        ("memory_bytes", 2**31),
        ("memory_tib", 2**-9),
        ("memory_mb", "2147.483648"),
    ],
)
def test_the_same_amount_in_any_unit_is_the_same(key: str, written: object) -> None:
    assert chat(requests={key: written}).request.memory_mib == pytest.approx(2048, rel=1e-15)


@pytest.mark.parametrize("written", ["500m", " 500m ", "0.5", 0.5])
def test_cores_are_also_written_in_thousandths(written: object) -> None:
    assert chat(requests={"cpu_cores": written}).request.cpu_cores == 0.5


@pytest.mark.parametrize("written", [True, "yes", "True", " true "])
def test_yes_may_be_a_text(written: object) -> None:
    assert chat(growth={"percent_per_year": 3, "linear": written}).growth.linear


@pytest.mark.parametrize(
    ("gpu", "need"),
    [
        ({"count": 2}, GpuNeed(count=2)),
        ({"share": 0.25}, GpuNeed(share=0.25)),
        ({"memory": "10GiB"}, GpuNeed(memory_mib=10240)),
        ({"memory_mib": 512}, GpuNeed(memory_mib=512)),
        ({"profile": "3g.40gb"}, GpuNeed(profile="3g.40gb")),
        ({"profile": "1g.10gb+me"}, GpuNeed(profile="1g.10gb+me")),
    ],
)
def test_gpus_are_asked_for_in_one_of_four_ways(gpu: Any, need: GpuNeed) -> None:
    assert chat(gpu=gpu).gpu == need


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"gpu": {"share": 1.4}},
            "gpu.share: 1.4 is more than one GPU; ask for gpu.count: 2",
        ),
        ({"gpu": {"share": 1}}, "gpu.share: 1 is one whole GPU; ask for gpu.count: 1"),
        ({"gpu": {"share": 0}}, "gpu.share: must be above 0 and below 1, but is 0"),
        ({"gpu": {"share": -0.5}}, "gpu.share: must be at least 0, but is -0.5"),
        ({"gpu": {"share": float("nan")}}, "gpu.share: must be a finite number, but is nan"),
        (
            {"gpu": {"share": 1e12}},
            "gpu.share: 1000000000000.0 is more than one GPU; ask for gpu.count instead",
        ),
        (
            {"gpu": {"count": 0.5}},
            "gpu.count: 0.5 is a part of a GPU; ask for gpu.share: 0.5",
        ),
        ({"gpu": {"count": 0}}, "gpu.count: must be at least 1, but is 0"),
        ({"gpu": {"count": 2.5}}, "gpu.count: must be a whole number, but is 2.5"),
        (
            {"gpu": {"count": 1, "share": 0.5}},
            "gpu.share: cannot stand beside count; keep one of count, share, memory and profile",
        ),
        ({"gpu": {"models": ["A100"]}}, "gpu: must have one of count, share, memory and profile"),
        ({"gpu": {"count": 1, "models": []}}, "gpu.models: must name at least one"),
        (
            {"gpu": {"count": 1, "models": ["A100", "A100"]}},
            "gpu.models[1]: 'A100' is there twice",
        ),
        (
            {"gpu": {"profile": "1c.3g.20gb"}},
            "gpu.profile: '1c.3g.20gb' is a compute instance; ask for the whole instance, such "
            "as 3g.20gb",
        ),
        (
            {"gpu": {"profile": "half"}},
            "gpu.profile: must be a MIG profile such as 3g.40gb, but is 'half'",
        ),
        ({"gpu": {"memory": "0GiB"}}, "gpu.memory: must be above 0"),
        (
            {"gpu": 1},
            "gpu: must be a mapping, but is a number",
        ),
        (
            {"requests": {"memory": 8}},
            "requests.memory: 8 has no unit; write it like 8GiB or 512MiB",
        ),
        (
            {"requests": {"memory": "8G"}},
            "requests.memory: '8G' has an unknown unit; known are KiB, MiB, GiB, TiB, PiB, kB, "
            "MB, GB, TB, PB",
        ),
        (
            {"requests": {"memory": "-8GiB"}},
            "requests.memory: must be an amount such as 8GiB, but is '-8GiB'",
        ),
        (
            {"requests": {"memory_mib": 1, "memory_gib": 1}},
            "requests.memory_gib: says the same as memory_mib; keep one of them",
        ),
        (
            {"requests": {"memory_mib": 1e30}},
            "requests.memory_mib: 1e+30 is more than can be planned, in MiB (1,099,511,627,776)",
        ),
        (
            {"requests": {"cpu_cores": "many"}},
            "requests.cpu_cores: must be a number, but is 'many'",
        ),
        (
            {"requests": {"cpu_cores": float("inf")}},
            "requests.cpu_cores: must be a finite number, but is inf",
        ),
        (
            {"requests": {"cpu": 1}},
            "requests: has the unknown key 'cpu'; known are cpu_cores, memory, memory_bytes, "
            "memory_kib, memory_mib, memory_gib, memory_tib, memory_mb, memory_gb, memory_tb, "
            "disks",
        ),
        (
            {"requests": {"disks": [{"path": "srv", "size": "1GiB"}]}},
            "requests.disks[0].path: must be an absolute path, but is 'srv'",
        ),
        ({"requests": {"disks": [{"path": "/srv"}]}}, "requests.disks[0].size: is missing"),
        (
            {
                "requests": {
                    "disks": [{"path": "/a", "size_mib": 1}, {"path": "/a/", "size_mib": 1}]
                }
            },
            "requests.disks[1].path: '/a' is there twice",
        ),
        ({"requests": {}}, "asks for nothing; give it requests or gpu"),
        (
            {"limits": {"cpu_cores": 1}},
            "limits.cpu_cores: 1 cores is less than the 2 cores of requests.cpu_cores",
        ),
        (
            {"requests": {"memory": "8GiB"}, "limits": {"memory": "4GiB"}},
            "limits.memory: 4,096 MiB is less than the 8,192 MiB of requests.memory",
        ),
        ({"replicas": "0,5"}, "replicas: must be a number, but is '0,5'; write 0.5"),
        ({"replicas": -1}, "replicas: must be at least 0, but is -1"),
        ({"replicas": 1.5}, "replicas: must be a whole number, but is 1.5"),
        ({"replicas": 10**9}, "replicas: must be at most 1,000,000, but is 1000000000"),
        ({"replicas": True}, "replicas: must be a number, but is a boolean"),
        ({"replicas": 10**5000}, "replicas: must be a number, but is a number"),
        ({"name": None}, "name: is missing"),
        (
            {"name": "Chat"},
            "name: must be 1 to 63 small letters, digits and inner hyphens, but is 'Chat'",
        ),
        (
            {"kind": "servng"},
            "kind: must be one of serving, training, batch, dataset, service, user, but is "
            "'servng'; did you mean serving?",
        ),
        (
            {"hosts": {"groups": ["gpus"]}},
            "hosts.groups[0]: the inventory has no group 'gpus'; did you mean gpu?",
        ),
        ({"hosts": {"groups": "gpu"}}, "hosts.groups: must be a list, but is a text"),
        (
            {"hosts": {"names": ["gpu3"]}},
            "hosts.names[0]: the inventory has no host 'gpu3'; did you mean gpu2?",
        ),
        (
            {"hosts": {"labels": {"rack": "c"}}},
            "hosts.labels.rack: no host has the label rack=c in mlops_host_labels; they have a, b",
        ),
        ({"anti_affinity": 3.5}, "anti_affinity: must be 1 to 63 small letters, digits and inner"),
        (
            {"growth": {"percent_per_year": -3}},
            "growth.percent_per_year: must be at least 0, but is -3",
        ),
        ({"growth": {}}, "growth: must have percent_per_year or steps"),
        (
            {"growth": {"percent_per_year": 3, "steps": []}},
            "growth.steps: cannot stand beside percent_per_year; keep one of them",
        ),
        (
            {"growth": {"steps": [{"date": "2027-13-01", "factor": 2}]}},
            "growth.steps[0].date: must be a day such as 2027-01-31, but is '2027-13-01'",
        ),
        (
            {"growth": {"steps": [{"date": "2027-01-01", "factor": f} for f in (2, 3)]}},
            "growth.steps: has two factors for 2027-01-01",
        ),
        (
            {"growth": {"percent_per_year": 3, "since": "1817-01-01"}},
            "growth.since: must lie between 2000-01-01 and 2100-01-01, but is 1817-01-01",
        ),
        (
            {"growth": {"percent_per_year": 3, "linear": "maybe"}},
            "growth.linear: must be true or false, but is 'maybe'",
        ),
        ({"priority": -1}, "priority: must be at least 0, but is -1"),
        (
            {"kind": "dataset", "gpu": {"count": 1}},
            "gpu: a dataset needs disks and no GPU; describe its reader by itself",
        ),
        ({"kind": "dataset"}, "requests.disks: is missing; a dataset is on a disk"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(changes: Any, problem: str) -> None:
    said = refused(**changes)
    joint = ": " if problem.startswith("asks") else "."
    assert said.startswith(f"mlops_workloads[0]{joint}{problem}")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"requests": {"memory": "16Gi"}}, "; write 16GiB"),
        ({"requests": {"memory": "512Mi"}}, "; write 512MiB"),
        ({"requests": {"memory": "16G"}}, "; write 16GB"),
        ({"requests": {"memory": "1,5GiB"}}, "; write 1.5GiB"),
        ({"requests": {"memory": "1,5 Gi"}}, "; write 1.5GiB"),
        ({"requests": {"memory": ".5GiB"}}, "; write 0.5GiB"),
        ({"requests": {"disks": [{"path": "/srv", "size": "2Ti"}]}}, "; write 2TiB"),
        ({"requests": {"cpu_cores": "0,5"}}, "; write 0.5"),
        ({"requests": {"cpu_cores": "50%"}}, "; write 0.5"),
        ({"gpu": {"share": "33%"}}, "; write 0.33"),
        ({"gpu": {"share": "33,5 %"}}, "; write 0.335"),
        ({"gpu": {"share": "1/3"}}, "; write 0.3333"),
        ({"gpu": {"count": "2000m"}}, "; write 2"),
        (
            {"requests": {"cpu_cores": 0, 5: None}},
            "a comma within braces begins a new key, so write 0.5 for 0,5",
        ),
    ],
)
def test_what_is_written_otherwise_elsewhere_is_refused_with_how_it_is_written_here(
    changes: Any, hint: str
) -> None:
    assert refused(**changes).endswith(hint)


@pytest.mark.parametrize("written", ["a lot", "16 Gigs", "GiB", "1,2,3", "m", "%", "1/0", "/3"])
def test_no_hint_is_given_where_nothing_is_known(written: str) -> None:
    assert "write" not in refused(requests={"memory": written})
    assert "; write" not in refused(requests={"cpu_cores": written})


def test_thousandths_of_cores_are_read_and_paused_work_has_no_replicas() -> None:
    spec = chat(requests={"cpu_cores": "2000m"}, replicas=0)
    assert (spec.request.cpu_cores, spec.replicas) == (2, 0)


def test_every_wrong_entry_is_told_and_the_others_are_read() -> None:
    found, problems = read({**CHAT, "name": "a"}, 7, {**CHAT, "name": "a"}, {**CHAT, "name": "b"})
    assert [spec.name for spec in found] == ["a", "b"]
    assert problems == (
        "mlops_workloads[1]: must be a mapping, but is a number",
        "mlops_workloads[2].name: 'a' is taken by mlops_workloads[0]",
    )


@pytest.mark.parametrize("value", ["chat", 7, {"name": "chat"}, True])
def test_anything_but_a_list_is_refused(value: Any) -> None:
    found, [problem] = parse_workloads(value, KNOWN)
    assert found == ()
    assert problem.startswith("mlops_workloads: must be a list, but is ")


def test_a_list_that_is_wrong_throughout_is_cut_short() -> None:
    _found, problems = parse_workloads([1] * 5000, KNOWN)
    assert len(problems) == 21
    assert problems[-1] == "mlops_workloads: 4,980 more entries are wrong as well"


def test_more_replicas_than_can_be_planned_are_refused() -> None:
    rows = [{**CHAT, "name": name, "replicas": 1_000_000} for name in "abc"]
    _found, problems = parse_workloads(rows, KNOWN)
    assert problems == (
        "mlops_workloads: 3,000,000 replicas in all are more than can be planned (2,000,000)",
    )


def test_growth_follows_its_formula() -> None:
    compound = chat(growth={"percent_per_year": 50}).growth
    linear = chat(growth={"percent_per_year": 50, "linear": True}).growth
    day = TODAY + datetime.timedelta(days=731)  # twice 365.25 days, rounded up
    assert compound.factor(TODAY, TODAY) == 1.0
    assert compound.factor(TODAY, day) == pytest.approx(1.5 ** (731 / 365.25))
    assert linear.factor(TODAY, day) == pytest.approx(1 + 0.5 * 731 / 365.25)


def test_growth_since_a_day_has_begun_already() -> None:
    growth = chat(growth={"percent_per_year": 100, "since": "2025-01-01"}).growth
    assert growth.factor(TODAY, TODAY) == pytest.approx(2 ** (365 / 365.25))


def test_steps_count_from_their_day_and_never_fall() -> None:
    steps = [{"date": "2027-01-01", "factor": 3}, {"date": datetime.date(2028, 1, 1), "factor": 2}]
    growth = chat(growth={"steps": steps}).growth
    days = [datetime.date(2026, 12, 31), datetime.date(2027, 1, 1), datetime.date(2029, 1, 1)]
    assert [growth.factor(TODAY, day) for day in days] == [1, 3, 3]


def test_replicas_of_people_and_requests_of_data_grow() -> None:
    growth = {"percent_per_year": 1}
    disks = {"disks": [{"path": "/d", "size": "1GiB"}]}
    kinds = {
        kind: chat(kind=kind, requests=disks, growth=growth).growth.of
        for kind in ("serving", "training", "user", "dataset", "service")
    }
    assert kinds == {
        "serving": "replicas",
        "training": "replicas",
        "user": "replicas",
        "dataset": "requests",
        "service": "requests",
    }


def test_workloads_can_be_kept_apart_from_each_other() -> None:
    assert chat(anti_affinity="front").spread == "group front"
    assert chat(anti_affinity=False).spread == ""


# -- offers, labels, what if --------------------------------------------------------------------

OFFER: dict[str, Any] = {"name": "box", "cpu_cores": 64, "memory": "512GiB"}


def test_an_offer_is_read() -> None:
    offer = {
        **OFFER,
        "disks": [{"path": "/", "size": "1TiB"}],
        "gpus": {"count": 8, "model": "NVIDIA H100 80GB HBM3", "memory": "80GiB", "mig": True},
        "groups": ["gpu"],
        "labels": {"rack": "n"},
        "price": 250000,
        "most": 2,
    }
    assert parse_shapes([offer], KNOWN.groups) == (
        (
            Shape(
                "box",
                64,
                2**19,
                (DiskNeed("/", 2**20),),
                ShapeGpus(8, "NVIDIA H100 80GB HBM3", 81920, True),
                ("gpu",),
                (("rack", "n"),),
                250000,
                2,
            ),
        ),
        (),
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"memory": None}, "mlops_host_offers[0].memory: is missing"),
        ({"cpu_cores": None}, "mlops_host_offers[0].cpu_cores: is missing"),
        ({"gpus": {"count": 1}}, "mlops_host_offers[0].gpus.model: is missing"),
        ({"price": -1}, "mlops_host_offers[0].price: must be at least 0, but is -1"),
        (
            {"groups": ["gpux"]},
            "mlops_host_offers[0].groups[0]: the inventory has no group 'gpux'; did you mean gpu?",
        ),
    ],
)
def test_an_offer_that_cannot_be_meant_is_refused(changes: Any, problem: str) -> None:
    assert parse_shapes([{**OFFER, **changes}], KNOWN.groups) == ((), (problem,))


def test_labels_are_short_words() -> None:
    found, problems = parse_labels({"a": {"rack": 1, "fast": True}, "b": {"rack": []}, "c": 3})
    assert found == {"a": (("fast", "true"), ("rack", "1"))}
    assert problems == (
        "mlops_host_labels.rack: must be a text, but is a list (b)",
        "mlops_host_labels: must be a mapping, but is a number (c)",
    )


def test_changes_to_try_are_read() -> None:
    specs, _problems = read(CHAT)
    shapes, _problems = parse_shapes([OFFER], KNOWN.groups)
    found, problems = parse_what_if(
        {
            "add_hosts": [{"offer": "box", "count": 2}, {**OFFER, "name": "other"}],
            "remove_hosts": ["gpu1"],
            "remove_workloads": ["chat"],
            "add_workloads": [{**CHAT, "replicas": 9}],
        },
        KNOWN,
        specs,
        shapes,
    )
    assert problems == ()
    assert [(shape.name, count) for shape, count in found.add_hosts] == [("box", 2), ("other", 1)]
    assert (found.remove_hosts, found.remove_workloads) == (("gpu1",), ("chat",))
    assert found.add_workloads[0].replicas == 9


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"add_hosts": [{"offer": "bax"}]},
            "assess_what_if.add_hosts[0].offer: mlops_host_offers has no 'bax'; did you mean box?",
        ),
        (
            {"remove_hosts": ["gpu9"]},
            "assess_what_if.remove_hosts[0]: there is no host 'gpu9'; did you mean gpu2?",
        ),
        (
            {"add_workloads": [CHAT]},
            "assess_what_if.add_workloads[0].name: 'chat' is there already; remove it by "
            "remove_workloads first",
        ),
        ([], "assess_what_if: must be a mapping, but is a list"),
    ],
)
def test_changes_that_cannot_be_made_are_refused(changes: Any, problem: str) -> None:
    specs, _problems = read(CHAT)
    shapes, _problems = parse_shapes([OFFER], KNOWN.groups)
    assert parse_what_if(changes, KNOWN, specs, shapes)[1] == (problem,)


# -- anything at all ----------------------------------------------------------------------------


def test_a_small_number_of_garbled_inputs_gives_sentences_only() -> None:
    outcome = fuzz_workloads.run(cases=1500, seed=2)
    assert outcome.crashes == []
    assert outcome.refused > 500
    assert outcome.accepted > 50
    assert outcome.planned == 15


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_any_data_is_read_or_refused_in_lines_of_bounded_length(value: Any) -> None:
    _found, problems = parse_workloads([value], KNOWN)
    assert len(problems) == 1
    assert "\n" not in problems[0]
    assert len(problems[0]) < 400


@given(st.floats(0.001, 1000), st.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_units_only_move_the_decimal_point(amount: float, unit: str) -> None:
    places = {"KiB": -10, "MiB": 0, "GiB": 10, "TiB": 20}
    assert quantity(f"{amount:.6f}{unit}") == pytest.approx(
        float(f"{amount:.6f}") * 2.0 ** places[unit]
    )


def test_a_quantity_that_is_none_says_what_one_looks_like() -> None:
    with pytest.raises(ShapeError, match="must be an amount such as 8GiB, but is a list"):
        quantity([])
