from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.engines.chains import Greedy, Samples
from stages.engines.search import Proposals
from stages.engines.settings import Ending

STOP = 0
PROPOSED = st.lists(st.floats(-20, 0), min_size=2, max_size=8).map(lambda values: sorted(values, reverse=True))


def ending(least: int = 0, most: int = 4, limit: int = 4) -> Ending:
    return Ending(stop_id=STOP, least=least, most=most, limit=limit)


def proposals(*scores: list[float]) -> Proposals:
    """Ids are 0, the stop token, 1, 2 and so on, best first."""
    return Proposals(np.array(scores), np.array([list(range(len(row))) for row in scores]))


@given(first=PROPOSED, temperature=st.sampled_from([0.3, 0.7, 1.0]), seed=st.integers(0, 99))
def test_samples_draw_as_python_chooses(first: list[float], temperature: float, seed: int) -> None:
    samples = Samples(ending(), [random.Random(seed + i) for i in range(5)], temperature)
    samples.advance(proposals(first))
    weights = np.exp(np.array(first) / temperature - first[0] / temperature)
    chosen = [random.Random(seed + i).choices(range(len(first)), weights.tolist())[0] for i in range(5)]
    assert [ids[0] for ids in samples.running] == chosen
    assert samples.parents == [0] * 5
    assert [hypothesis.score for hypothesis in samples.results()[0]] == [first[token] for token in chosen]
    assert [hypothesis.ids for hypothesis in samples.results()[0]] == [[token][: token > 0] for token in chosen]


def test_a_stop_that_comes_too_early_is_not_drawn() -> None:
    samples = Samples(ending(least=2), [random.Random(i) for i in range(20)], 1.0)
    samples.advance(proposals([-0.001, -7.0, -8.0]))
    samples.advance(proposals(*[[-0.001, -7.0, -8.0]] * 20))
    assert all(STOP not in ids and len(ids) == 2 for ids in samples.running)
    samples.advance(proposals(*[[0.0, -99.0, -99.0]] * 20))
    assert samples.done
    assert all(ids[2:] == [STOP] for ids in samples.running)


def test_samples_end_where_they_have_to() -> None:
    samples = Samples(ending(most=2), [random.Random(i) for i in range(3)], 1.0)
    for row in ([-99.0, 0.0], *[[-99.0, 0.0]] * 2):
        samples.advance(proposals(*[row] * (3 if samples.running[0] else 1)))
    assert samples.done
    assert samples.possible() == [[1, 1]] * 3
    assert [hypothesis.score for hypothesis in samples.results()[0]] == [0.0] * 3


def test_samples_that_ended_draw_nothing() -> None:
    samples = Samples(ending(limit=9, most=9), [random.Random(1), random.Random(2)], 1.0)
    samples.advance(proposals([-99.0, 0.0]))
    samples.advance(Proposals(np.array([[0.0, -99.0], [0.0, -99.0]]), np.array([[STOP, 1], [2, 1]])))
    assert (samples.done, samples.running) == (False, [[1, STOP], [1, 2]])
    samples.advance(Proposals(np.array([[0.0, -99.0], [0.0, -99.0]]), np.array([[5, 6], [STOP, 1]])))
    assert (samples.done, samples.possible()) == (True, [[1], [1, 2]])


def test_greedy_takes_the_best_that_may_follow() -> None:
    greedy = Greedy(ending(least=1))
    assert greedy.wanted == 2
    greedy.advance(proposals([-0.1, -3.0]))
    assert (greedy.running, greedy.done) == ([[1]], False)
    greedy.advance(proposals([-0.2, -3.0]))
    assert (greedy.done, greedy.possible(), greedy.score) == (True, [[1]], -3.2)
