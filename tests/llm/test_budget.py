from __future__ import annotations

from typing import Any

import pytest

from stages.core.errors import UserError
from stages.llm.budget import Usage, check_budget, estimate, reached_limit
from tests.llm_settings import llm_settings

PRICES = {"price_per_million_input": 0.15, "price_per_million_output": 0.6}
URL = "http://localhost:8000/v1"


def test_usage_is_told_in_tokens_and_money() -> None:
    usage = Usage(2, 1_200_000, 340_000)
    assert usage.describe(llm_settings(base_url=URL)) == "1,200,000 prompt and 340,000 completion tokens"
    settings = llm_settings(base_url=URL, **PRICES)
    assert usage.describe(settings) == "1,200,000 prompt and 340,000 completion tokens, cost 0.3840"
    assert usage.metrics(settings) == {
        "answers": 2,
        "prompt_tokens": 1_200_000,
        "completion_tokens": 340_000,
        "cost": 0.384,
    }


def test_estimate_takes_the_answer_for_as_long_as_the_longest_message_but_the_systems() -> None:
    messages = [
        {"role": "system", "content": "가" * 400},  # 1,200 bytes
        {"role": "user", "content": "짧게"},
        {"role": "assistant", "content": "가" * 40},
        {"role": "user", "content": ""},
    ]
    assert estimate(messages, 2048) == Usage(1, 401 + 3 + 41 + 1, 41)
    assert estimate(messages, 20).completion_tokens == 20


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, None),
        ({"max_total_tokens": 1001}, None),
        ({"max_total_tokens": 1000}, "augment.llm.max_total_tokens = 1000"),
        (PRICES | {"max_cost": 0.0004}, None),
        (PRICES | {"max_cost": 0.00024}, "augment.llm.max_cost = 0.00024"),
    ],
)
def test_limit_is_named_once_it_is_reached(changes: dict[str, Any], limit: str | None) -> None:
    assert reached_limit(Usage(1, 800, 200), llm_settings(base_url=URL, **changes)) == limit


def test_cost_cannot_be_limited_without_a_price() -> None:
    with pytest.raises(UserError) as error:
        check_budget(llm_settings(base_url=URL, max_cost=5.0))
    assert str(error.value) == (
        "augment.llm.max_cost = 5: there is no price to count with; set "
        "augment.llm.price_per_million_input and price_per_million_output, or max_cost: 0"
    )
