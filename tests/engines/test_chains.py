from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.engines.chains import Greedy, Samples, draw
from stages.engines.search import Proposals
from stages.engines.settings import Ending

STOP = 0
PROPOSED = st.lists(st.floats(-20, 0), min_size=2, max_size=8).map(lambda values: sorted(values, reverse=True))


def ending(least: int = 0, most: int = 4, limit: int = 4) -> Ending:
    return Ending(stop_id=STOP, least=least, most=most, limit=limit)


def proposals(*scores: list[float]) -> Proposals:
    """Ids are 0, the stop token, 1, 2 and so on, best first."""
    return Proposals(np.array(scores), np.array([list(range(len(row))) for row in scores]))


def advance(searches: list[Samples], *scores: list[list[float]]) -> None:
    """A step of all searches, by the log probabilities after each of their hypotheses, or after the prompt."""
    values = torch.tensor(scores, dtype=torch.double)
    ids = torch.arange(values.shape[2]).expand_as(values)
    drawn, tokens = draw(values, ids, searches)
    for row, search in enumerate(searches):
        search.advance(Proposals(drawn[row].numpy(), tokens[row].numpy()))


@given(first=PROPOSED, temperature=st.sampled_from([0.3, 0.7, 1.0]), seed=st.integers(0, 99))
def test_samples_draw_as_python_chooses(first: list[float], temperature: float, seed: int) -> None:
    fewer = Samples(ending(), [random.Random(seed + i) for i in range(3)], temperature)
    samples = Samples(ending(), [random.Random(seed + i) for i in range(5)], temperature)
    advance([fewer, samples], [first], [first])
    weights = np.exp((np.array(first) - first[0]) / temperature).tolist()
    chosen = [random.Random(seed + i).choices(range(len(first)), weights)[0] for i in range(5)]
    assert [ids[0] for ids in samples.running] == chosen
    assert [ids[0] for ids in fewer.running] == chosen[:3]
    assert samples.parents == [0] * 5
    assert [hypothesis.score for hypothesis in samples.results()[0]] == [first[token] for token in chosen]
    assert [hypothesis.ids for hypothesis in samples.results()[0]] == [[token][: token > 0] for token in chosen]


def test_ranks_that_change_change_no_draw() -> None:
    values = torch.tensor([[[-1.0, -1.0, -2.0]]], dtype=torch.double)
    drawn = []
    for ids in ([4, 2, 3], [2, 4, 3]):
        samples = Samples(ending(), [random.Random(i) for i in range(40)], 1.0)
        drawn.append(draw(values, torch.tensor([[ids]]), [samples])[1].flatten().tolist())
    assert drawn[0] == drawn[1]
    assert {*drawn[0]} == {2, 3, 4}


def test_a_stop_that_comes_too_early_is_not_drawn() -> None:
    samples = Samples(ending(least=2), [random.Random(i) for i in range(20)], 1.0)
    advance([samples], [[-0.001, -7.0, -8.0]])
    advance([samples], [[-0.001, -7.0, -8.0]] * 20)
    assert all(STOP not in ids and len(ids) == 2 for ids in samples.running)
    advance([samples], [[0.0, -99.0, -99.0]] * 20)
    assert samples.done
    assert all(ids[2:] == [STOP] for ids in samples.running)


def test_samples_end_where_they_have_to() -> None:
    samples = Samples(ending(most=2), [random.Random(i) for i in range(3)], 1.0)
    advance([samples], [[-99.0, 0.0]])
    for _ in range(2):
        advance([samples], [[-99.0, 0.0]] * 3)
    assert samples.done
    assert samples.possible() == [[1, 1]] * 3
    assert [hypothesis.score for hypothesis in samples.results()[0]] == [0.0] * 3


def test_samples_that_ended_go_no_further() -> None:
    samples = Samples(ending(limit=9, most=9), [random.Random(1), random.Random(2)], 1.0)
    advance([samples], [[-99.0, 0.0]])
    assert samples.parents == [0, 0]
    advance([samples], [[0.0, -99.0], [-99.0, 0.0]])
    assert (samples.done, samples.running, samples.parents) == (False, [[1, STOP], [1, 1]], [0, 1])
    assert samples.numbers()[0] == 0
    advance([samples], [[-99.0, 0.0], [0.0, -99.0]])
    assert (samples.done, samples.possible()) == (True, [[1], [1, 1]])


def test_greedy_takes_the_best_that_may_follow() -> None:
    greedy = Greedy(ending(least=1))
    assert greedy.wanted == 2
    greedy.advance(proposals([-0.1, -3.0]))
    assert (greedy.running, greedy.done) == ([[1]], False)
    greedy.advance(proposals([-0.2, -3.0]))
    assert (greedy.done, greedy.possible(), greedy.score) == (True, [[1]], -3.2)
