"""Token budgets: names to numbers and back."""

import pytest

from overtrain.config.units import tokens_of, tokens_text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (12, "12"),
        (50_000, "50K"),
        (840_000, "0.84M"),
        (1_680_000, "1.68M"),
        (13.5e6, "13.5M"),
        (128e9, "128B"),
        (3e12, "3T"),
    ],
)
def test_tokens_text(tokens, text):
    assert tokens_text(tokens) == text


@pytest.mark.parametrize("budget", ["4B", "0.84M", "13.5M", "2T"])
def test_a_budget_comes_back(budget):
    assert tokens_of(tokens_text(tokens_of(budget))) == tokens_of(budget)


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("4B", 4_000_000_000), ("0.84M", 840_000), ("13.5M", 13_500_000), ("2T", 2 * 10**12)],
)
def test_tokens_of_a_budgets_name(budget, tokens):
    assert tokens_of(budget) == tokens
