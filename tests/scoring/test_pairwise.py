from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.scoring.pairwise import PAIRS, finals
from stages.scoring.rouge import Text

TEXTS = st.lists(st.lists(st.sampled_from("가나다라."), max_size=12).map(" ".join), min_size=1, max_size=6)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)
@given(texts=TEXTS)
def test_all_pairs_score_as_one_by_one(pair, texts: list[str]) -> None:  # type: ignore[no-untyped-def]
    analysed = [Text.of(text) for text in texts]
    alone = [[pair(hypothesis, reference).final for reference in analysed] for hypothesis in analysed]
    assert np.array_equal(finals(analysed, pair), alone)
