"""Cards that are set: what nvidia-smi is told, and what the cards say afterwards."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver import settings
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.settings import (
    Instance,
    Wanted,
)

A, B = "GPU-a", "GPU-b"
TABLE = f"""0, {A}, Disabled, 400.00, 100.00, 400.00, Enabled, Enabled, Disabled, Disabled
1, {B}, Enabled, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]
"""
ON = TABLE.replace("Disabled, Disabled\n1", "Enabled, Enabled\n1")
WAITS = TABLE.replace("Disabled, Disabled\n1", "Disabled, Enabled\n1")
# The table of the MIG user guide.
INSTANCES = """
+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
|   0  MIG 1g.5gb          19        9          2:1     |
+-------------------------------------------------------+
|   0  MIG 3g.20gb          9        2          4:4     |
+-------------------------------------------------------+
"""
PLACEMENT = [
    {"workload": "a", "replica": 0, "gpu_ids": [A], "profile": "3g.20gb", "slice": 4},
    {"workload": "a", "replica": 1, "gpu_ids": [A], "profile": "1g.5gb", "slice": 2},
    {"workload": "b", "replica": 0, "gpu_ids": [B], "profile": "", "slice": -1},
]
PLAN = settings.layout(PLACEMENT)


def told(cards: str, instances: str = "", **more: object) -> list[str]:
    now = settings.state(cards, instances)
    goal = settings.wanted(now, more.pop("plan", {}), **more)  # type: ignore[arg-type]
    return [" ".join(step.argv) for step in settings.steps(now, goal)]


def test_the_layout_of_the_plan_has_whole_cards_left_out() -> None:
    assert {A: (Instance("1g.5gb", 2), Instance("3g.20gb", 4))} == PLAN


def test_mig_is_turned_on_before_its_instances_are_made_where_the_plan_has_them() -> None:
    assert told(TABLE, plan=PLAN) == [
        f"nvidia-smi -i {A} -mig 1",
        f"nvidia-smi mig -i {A} -cgi 1g.5gb:2 -C",
        f"nvidia-smi mig -i {A} -cgi 3g.20gb:4 -C",
    ]


def test_a_mode_that_waits_for_a_reset_is_not_asked_for_again() -> None:
    assert told(WAITS, plan=PLAN) == []


def test_nothing_is_done_twice() -> None:
    assert told(ON, INSTANCES, plan=PLAN) == []
    assert told(TABLE, persistence=False, ecc=True, power={"0": 400}) == [
        f"nvidia-smi -i {B} -pm 0"
    ]


def test_what_nobody_asks_for_is_left_alone() -> None:
    assert told(TABLE) == []
    assert told(ON, INSTANCES) == []


def test_limits_are_by_uuid_then_index_then_for_all() -> None:
    now = settings.state(TABLE, "")
    goal = settings.wanted(now, {}, power={"all": 300, A: 250})
    assert goal[A].power == 250
    assert goal[B].power == 300
    assert settings.refusals(now, goal) == (
        f"GPU 1 ({B}) has no power limit that could be set (gpu_driver_power_limits)",
    )


def test_a_limit_that_the_card_does_not_take_is_refused() -> None:
    now = settings.state(TABLE, "")
    assert settings.refusals(now, settings.wanted(now, {}, power={"0": 500})) == (
        f"the power limit 500 W of GPU 0 ({A}) lies outside of 100 to 400 W "
        "(gpu_driver_power_limits)",
    )


def test_a_card_that_is_divided_otherwise_is_never_emptied() -> None:
    now = settings.state(ON, INSTANCES)
    goal = settings.wanted(now, {A: (Instance("3g.20gb", 4),)})
    assert settings.steps(now, goal) == ()
    (said,) = settings.refusals(now, goal)
    assert "is divided otherwise than the plan has it: 1g.5gb at 2 are there" in said
    assert "nvidia-smi mig -i 0 -dci, then -dgi" in said


def test_a_card_without_mig_cannot_be_divided() -> None:
    now = settings.state(TABLE, "")
    (said,) = settings.refusals(now, settings.wanted(now, {B: (Instance("1g.5gb", 0),)}))
    assert said.startswith(f"the plan divides GPU 1 ({B}), and this card has no MIG")


def test_an_answer_of_nvidia_smi_counts_for_nothing_and_the_card_for_everything() -> None:
    goal = settings.wanted(settings.state(TABLE, ""), PLAN)
    (said,) = settings.missing(settings.state(TABLE, ""), goal)
    assert said.startswith(f"MIG is not on for GPU 0 ({A}), though nvidia-smi was told so: end")
    (said,) = settings.missing(settings.state(WAITS, ""), goal)
    assert "it waits for a reset of the card" in said
    (said,) = settings.missing(settings.state(ON, ""), goal)
    assert said == f"GPU 0 ({A}) lacks the MIG instances 1g.5gb at 2, 3g.20gb at 4 of the plan"
    assert settings.missing(settings.state(ON, INSTANCES), goal) == ()


def test_a_card_that_is_gone_afterwards_is_told() -> None:
    goal = settings.wanted(settings.state(TABLE, ""), {})
    (said,) = settings.missing(settings.state(TABLE.splitlines()[0], ""), goal)
    assert said == f"GPU {B} is no longer told by the driver"


def test_ecc_that_waits_is_no_change_and_still_missing() -> None:
    waits = TABLE.replace("Enabled, Enabled, Disabled", "Enabled, Disabled, Disabled")
    now = settings.state(waits, "")
    goal = settings.wanted(now, {}, ecc=False)
    del goal[B]
    assert settings.steps(now[:1], goal) == ()
    (said,) = settings.missing(now[:1], goal)
    assert "is to change at the next reset of the card" in said


def test_the_script_of_a_start_does_everything_but_ecc() -> None:
    now = settings.state(ON, INSTANCES)
    goal = settings.wanted(now, PLAN, persistence=True, ecc=True, power={"0": 250})
    rows = [row for row in settings.script(now, goal).splitlines() if row.startswith("nvidia")]
    assert rows == [
        f"nvidia-smi -i {A} -pm 1 || true",
        f"nvidia-smi -i {A} -pl 250 || true",
        f"nvidia-smi -i {A} -mig 1 || true",
        f"nvidia-smi mig -i {A} -cgi 1g.5gb:2 -C || true",
        f"nvidia-smi mig -i {A} -cgi 3g.20gb:4 -C || true",
        f"nvidia-smi -i {B} -pm 1 || true",
    ]


def test_the_way_back_undoes_what_was_made_and_nothing_else() -> None:
    before = settings.original(settings.state(TABLE, ""))
    now = settings.state(ON.replace("400.00, 100", "250.00, 100"), INSTANCES)
    made = settings.goal_as_data({A: Wanted(power=250.0, mig=True, instances=PLAN[A])})
    assert [" ".join(step.argv) for step in settings.back(now, before, made)] == [
        f"nvidia-smi mig -i {A} -dci",
        f"nvidia-smi mig -i {A} -dgi",
        f"nvidia-smi -i {A} -mig 0",
        f"nvidia-smi -i {A} -pl 400",
    ]
    strange = INSTANCES.replace("MIG 1g.5gb ", "MIG 2g.10gb")
    kept = settings.back(settings.state(ON, strange), before, made)
    assert not any("-dgi" in step.argv for step in kept)
    assert settings.back(now, before, {}) == ()
