from __future__ import annotations

from stages.decoding.postprocess_effects import rule_effects
from stages.scoring.objective import Objective


def test_each_rule_is_measured_by_what_is_lost_without_it() -> None:
    answers = [
        {"first": "둘은 만납니다. 둘은 만납니다. 그리고", "text": "둘은 만납니다. 둘은 만납니다. 그리고"},
        {"first": "They meet.", "text": "둘은 만납니다."},
    ]
    effects = rule_effects(answers, [["둘은 만납니다."]] * 2, ["repeated", "unfinished"], Objective("published"))
    assert effects["samples"] == 2
    assert effects["processed"] == 100.0
    # A repeated sentence costs but the pair of words where it begins, since words and pairs are counted once.
    assert effects["rules"]["repeated"] == {"changed": 1, "without": 97.619}
    assert effects["rules"]["unfinished"]["changed"] == 1
    assert 50 < effects["rules"]["unfinished"]["without"] < 100
    assert effects["rules"]["regenerated"] == {"changed": 1, "without": 50.0}
    assert effects["raw"] < 50
