from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.pages.histogram import Histograms, bins, histograms, percentages
from tests.parsed_page import in_english, part


def test_bins_have_round_edges_and_percentages_keep_all_that_is_longer() -> None:
    assert bins([2, 3, 3, 7]) == [2, 3, 4, 5, 6]
    assert bins(range(101)) == list(range(0, 100, 5))
    assert percentages([0, 5, 12, 999], [0, 10]) == [50, 50]
    assert percentages([], [0, 10]) == [0, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_bins_are_few_and_hold_every_value(values: list[float]) -> None:
    edges = bins(values)
    assert len(edges) <= 20
    assert sum(percentages(values, edges)) == pytest.approx(100)


def test_series_share_bins_and_a_scale() -> None:
    drawn = histograms({"raw": [0, 1, 1, 2], "clean": [1]})
    assert drawn == Histograms(
        [0, 1],
        {"raw": {"0": 25.0, "1 or more": 75.0}, "clean": {"0": 0.0, "1 or more": 100.0}},
    )
    shown = in_english(part("histograms")(drawn))
    # The plot is 276 wide and 96 high; bars of half its width, less a gap of 1, stand on the line at 108.
    assert 'x="40.5" y="84.0"\n width="137.0" height="24.0">\n<title>0: 25.0%</title>' in shown
    assert 'x="178.5" y="12.0"\n width="137.0" height="96.0">\n<title>1 or more: 100.0%</title>' in shown
    assert 'text-anchor="end">100%</text>' in shown
    assert '<text x="109.0" y="108" dy="15" text-anchor="middle">0</text>' in shown


def test_bins_of_several_numbers_are_named_by_both_ends_and_labelled_where_they_begin() -> None:
    drawn = histograms({"raw": range(0, 2000, 10)})
    assert drawn
    names = list(drawn.series["raw"])
    assert (names[0], names[10], names[-1]) == ("0–99", "1,000–1,099", "1,900 or more")
    assert '<text x="40.0" y="108" dy="15" text-anchor="middle">0</text>' in in_english(part("histograms")(drawn))


def test_no_values_are_said_to_be_none() -> None:
    assert histograms({"raw": [], "clean": []}) is None
    assert in_english(part("histograms")(None)) == "<p>No values.</p>\n"
