from __future__ import annotations

from pathlib import Path

import pytest

from stages.augment.novelty import Novelty
from stages.augment.quality_gate import Rejected
from stages.core.params import Quality
from stages.corpus.tables import Row, read_table, write_table
from tests.tiny import SAMPLE

QUALITY = Quality(
    min_korean_share=0.5, min_length_ratio=0.5, max_length_ratio=2.0, max_similarity=0.7, max_held_out_similarity=0.3
)


def row(fname: str, dialogue: str) -> Row:
    return {"fname": fname, "dialogue": dialogue}


RAIN = "#Person1#: 우산 챙겼어? 오후에 비 온다는데.\n#Person2#: 아차, 현관에 두고 왔네."
LUNCH = "#Person1#: 점심에 뭐 먹을까요?\n#Person2#: 어제 면을 먹었으니까 오늘은 밥으로 해요."
BANK = "#Person1#: 통장을 새로 만들고 싶은데요.\n#Person2#: 신분증 가져오셨어요?"


@pytest.fixture
def novelty() -> Novelty:
    return Novelty([row("train_0", RAIN), row("train_1", LUNCH)], [row("dev_0", BANK)], QUALITY)


@pytest.mark.parametrize(
    ("dialogue", "origin", "reason"),
    [
        (RAIN.replace("왔네", "왔다"), "train_0", "hardly rewritten"),
        (RAIN.replace("왔네", "왔다"), "train_1", "close to another row"),
        # Who says it makes no difference.
        (RAIN.replace("#Person1#", "#Person3#"), "train_1", "close to another row"),
        (BANK, "train_0", "close to a dev or test row"),
        # Half of it is enough where it must not be seen in training.
        (f"{BANK}\n#Person1#: 네, 여기요.\n#Person2#: 잠시만 기다려 주세요.", "train_0", "close to a dev or test row"),
    ],
)
def test_a_dialogue_close_to_another_is_rejected(novelty: Novelty, dialogue: str, origin: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        novelty.take(row("new", dialogue), origin)
    assert str(rejected.value) == reason


def test_a_row_that_is_taken_is_compared_with_the_next(novelty: Novelty) -> None:
    new = "#Person1#: 주말에 등산 갈래요?\n#Person2#: 무릎이 아파서 산은 좀 그래요."
    novelty.take(row("new_0", new), "train_0")
    with pytest.raises(Rejected, match="close to another row"):
        novelty.take(row("new_1", new), "train_1")


def test_the_sample_and_what_is_generated_already_are_indexed(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write_table(read_table(SAMPLE / f"{split}.csv", split), tmp_path / f"{split}.csv")
    generated = tmp_path / "generated.csv"
    generated.write_text(f'fname,dialogue,summary\nnew_0,"{RAIN}",요약\n', encoding="utf-8")
    novelty = Novelty.of_tables(tmp_path, QUALITY, generated)
    for split, reason in (("train", "close to another row"), ("dev", "close to a dev or test row")):
        dialogue = read_table(tmp_path / f"{split}.csv", split)["dialogue"].iloc[-1]  # type: ignore[arg-type]
        with pytest.raises(Rejected, match=reason):
            novelty.take(row("new_1", dialogue), "")
    with pytest.raises(Rejected, match="close to another row"):
        novelty.take(row("new_2", RAIN), "")
    novelty.take(row("new_3", BANK), "")
