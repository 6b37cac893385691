from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.augment.privacy import refuse_personal_data
from stages.core.errors import UserError
from stages.core.params import Llm, load_params

ROOT = Path(__file__).parents[2]
TABLE = Path("data/checked/train.csv")
PERSONAL = "제 번호는 010-1234-5678이고, 메일은 minsu@example.com이에요."


def settings(*, allow: bool) -> Llm:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    return load_params(ROOT / "params.yaml").augment.llm.model_validate(
        params["augment"]["llm"] | {"base_url": "http://localhost:8000/v1", "allow_personal_data": allow}
    )


def test_rows_are_named_once_with_the_kinds_and_never_the_data() -> None:
    texts = [("train_1", "#Person1#: 안녕하세요."), ("train_2", PERSONAL), ("train_2", PERSONAL), ("train_3", "a@b.kr")]
    with pytest.raises(UserError) as error:
        refuse_personal_data(TABLE, texts, settings(allow=False))
    assert str(error.value) == (
        "data/checked/train.csv: unmasked personal data would be sent to http://localhost:8000/v1: "
        "train_2 (Email, PhoneNumber), train_3 (Email); "
        "set check.personal_data: mask, or augment.llm.allow_personal_data: true"
    )


def test_of_many_rows_ten_are_named() -> None:
    with pytest.raises(UserError, match=r"train_9 \(Email, PhoneNumber\) and 15 more; set check") as error:
        refuse_personal_data(TABLE, [(f"train_{i}", PERSONAL) for i in range(25)], settings(allow=False))
    assert "train_10" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "allow", "expected"),
    [("제 번호는 #PhoneNumber#이에요.", False, False), (PERSONAL, True, False), (PERSONAL, False, True)],
)
def test_masks_pass_and_so_does_what_the_user_allows(text: str, allow: bool, expected: bool) -> None:
    refused = False
    try:
        refuse_personal_data(TABLE, [("train_1", text)], settings(allow=allow))
    except UserError:
        refused = True
    assert refused == expected
