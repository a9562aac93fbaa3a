# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests share memory in turn; nobody waits for ever, and nothing set aside is lost."""

from __future__ import annotations

import asyncio
import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
admission = importlib.import_module("mlops_serving.admission")


def test_what_does_not_fit_waits_for_what_goes() -> None:
    async def story() -> list[str]:
        budget, seen = admission.Budget(10), []
        first = await budget.acquire(7)

        async def ask(name: str, amount: int) -> Any:
            lease = await budget.acquire(amount)
            seen.append(name)
            return lease

        large = asyncio.create_task(ask("large", 8))
        small = asyncio.create_task(ask("small", 1))
        await asyncio.sleep(0)
        # The small one would fit, but whoever came first goes first: large ones do not starve.
        assert (seen, budget.waiting) == ([], 2)
        first.shrink(2)
        await asyncio.sleep(0)
        (await large).release()
        (await small).release()
        first.release()
        first.release()
        assert budget.used == 0
        return seen

    assert asyncio.run(story()) == ["large", "small"]


def test_more_than_there_is_goes_alone() -> None:
    async def story() -> None:
        budget = admission.Budget(10)
        lease = await budget.acquire(50)
        assert (lease.amount, budget.used) == (10, 10)

    asyncio.run(story())


def test_waiting_is_bounded_in_number_and_time() -> None:
    async def story() -> None:
        budget = admission.Budget(10, waiting_max=1, patience=0.05)
        held = await budget.acquire(10)
        waiter = asyncio.create_task(budget.acquire(1))
        await asyncio.sleep(0)
        with pytest.raises(admission.Busy):
            await budget.acquire(1)
        with pytest.raises(admission.Busy):
            await waiter
        assert budget.waiting == 0
        held.release()
        assert budget.used == 0

    asyncio.run(story())


def test_a_smaller_total_lets_those_who_wait_go_alone() -> None:
    async def story() -> None:
        budget = admission.Budget(10)
        held = await budget.acquire(10)
        waiter = asyncio.create_task(budget.acquire(8))
        await asyncio.sleep(0)
        budget.resize(4)
        held.release()
        (await waiter).release()
        assert budget.used == 0

    asyncio.run(story())


def test_whatever_is_cancelled_nothing_is_lost() -> None:
    async def story(seed: int) -> None:
        dice = random.Random(seed)
        budget = admission.Budget(100, waiting_max=50, patience=0.01)
        most = 0

        async def request() -> None:
            nonlocal most
            lease = await budget.acquire(dice.randint(1, 120))
            most = max(most, budget.used)
            try:
                await asyncio.sleep(dice.random() / 500)
                lease.shrink(dice.randint(0, 20))
                await asyncio.sleep(dice.random() / 500)
            finally:
                lease.release()

        tasks = [asyncio.create_task(request()) for _number in range(200)]
        for task in tasks:
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() / 1000)
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (budget.used, budget.waiting) == (0, 0)
        assert 0 < most <= 100

    for seed in range(10):
        asyncio.run(story(seed))


def test_requests_take_three_quarters_of_what_is_left() -> None:
    assert admission.share(512 * 2**20, 112 * 2**20) == 300 * 2**20
    assert admission.share(100 * 2**20, 112 * 2**20) == admission.LEAST


def test_small_requests_do_not_wait_for_large_ones() -> None:
    async def story() -> None:
        lanes = admission.Lanes()
        lanes.resize(800)
        large = [await lanes.large.acquire(700)]
        waiter = asyncio.create_task(lanes.large.acquire(700))
        await asyncio.sleep(0)
        small = await lanes.small.acquire(100)
        assert (lanes.total, lanes.used, lanes.waiting) == (800, 800, 1)
        small.release()
        large[0].release()
        (await waiter).release()
        assert lanes.used == 0

    asyncio.run(story())


def test_a_model_that_loads_goes_before_those_who_wait() -> None:
    async def story() -> list[str]:
        budget, seen = admission.Budget(10, waiting_max=1), []
        held = await budget.acquire(10)

        async def ask(name: str, first: bool) -> None:
            lease = await budget.acquire(10, first=first)
            seen.append(name)
            lease.release()

        tasks = [asyncio.create_task(ask("request", False))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask("model", True)))
        await asyncio.sleep(0)
        held.release()
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(story()) == ["model", "request"]
