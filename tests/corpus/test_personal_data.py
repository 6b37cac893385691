from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.dialogue import MASK_OR_SPEAKER
from stages.corpus.personal_data import mask_personal_data
from stages.corpus.tables import read_table

SAMPLE = Path(__file__).parents[2] / "data/sample"

# None of these numbers is anybody's: cards are the test numbers of payment services.
HITS = {
    "PhoneNumber": [
        "010-1234-5678",
        "010 1234 5678",
        "010.1234.5678",
        "01012345678",
        "010-12345678",
        "010) 1234-5678",
        "010 - 1234 - 5678",
        "010–1234–5678",
        "０１０-１２３４-５６７８",
        "011-123-4567",
        "02-123-4567",
        "02-2345-6789",
        "(031) 123-4567",
        "02) 123-4567",
        "064 123 4567",
        "070-1234-5678",
        "0507-1234-5678",
        "02-123-4567~8",
        "+82 10-1234-5678",
        "+82-2-1234-5678",
        "+821012345678",
        "+1 212 555 1234",
    ],
    "SSN": [
        "900101-1234567",
        "900101 - 1234567",
        "900101 1234567",
        "900101.1234567",
        "900101–2345678",
        "9001011234568",
        "050228-3123456",
        "050228-4123456",
        "000229-3123456",
        "850315-5123456",
        "210305-7987654",
        "991231-2345678",
        "750712-1111111",
        "681130-2000000",
        "900101-1******",
    ],
    "CardNumber": [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111 - 1111 - 1111 - 1111",
        "4111111111111111",
        "4012888888881881",
        "5555 5555 5555 4444",
        "5105105105105100",
        "2223 0031 2200 3222",
        "6011-1111-1111-1117",
        "6200 0000 0000 0005",
        "3530-1113-3330-0000",
        "3782-822463-10005",
        "378282246310005",
        "9400 0000 0000 0007",
    ],
    "Email": [
        "kim@example.com",
        "kim.chulsoo@example.com",
        "kim_cs88@example.net",
        "a+b@mail.example.kr",
        "hong@company.example.co.kr",
        "K.LEE@EXAMPLE.ORG",
        "x@y.io",
        "admin-1@sub.domain.example",
        "1234@example.com",
        "j%o@example.com",
        "park2024@example.net",
        "choi.@example.com",
        "to.park@a-b.com",
        "3d@example.kr",
        "lee@xn--3e0b707e.com",
    ],
    "PassportNumber": [
        "M12345678",
        "S12345678",
        "R98765432",
        "G12345678",
        "D12345678",
        "M70689098",
        "M00000001",
        "S00000000",
        "M123A4567",
        "D123B4567",
        "M987Z6543",
        "S999X9999",
        "G001A0001",
        "R555C1234",
        "M111M1111",
    ],
    "CarNumber": [
        "12가 3456",
        "12가3456",
        "123가 4567",
        "123가4567",
        "12 가 3456",
        "34나 5678",
        "55바 1234",
        "서울 12가 3456",
        "경기55바1234",
        "99하 9999",
        "01호 1234",
        "382두 1234",
        "70배 1234",
        "52허 4321",
        "25라 1004",
    ],
}

CLEAR = {
    "PhoneNumber": [
        "3,500원",
        "2만 3000원",
        "2024-01-02",
        "2024.01.02",
        "02-2011-11-05",
        "042-12-12",
        "12:30",
        "1588-1234",
        "080-123-4567",
        "1600-1999년",
        "119",
        "주문번호 20240102-1234",
        "주문번호 0212345678",
        "송장 123456789012",
        "KE 1234",
        "계좌 110-234-567890",
        "계좌 010-12-345678",
        "사업자 123-45-67890",
        "192.168.0.10",
        "3.1415926535",
        "1010-1234-5678",
    ],
    "SSN": [
        "901301-1234567",  # no such month
        "900132-1234567",  # no such day
        "010229-3123456",  # 2001 was no leap year
        "900101-9234567",
        "900101-123456",
        "900101-12345678",
        "1900101-1234567",
        "02-900101-1234567",
        "900101/1234567",
        "20240102-1234567",
        "8801043012345",  # a barcode
        "9001011234567",  # no separator and a wrong check digit
        "900101",
        "1234567",
        "90년 1월 1일",
    ],
    "CardNumber": [
        "4111 1111 1111 1112",
        "1234-5678-9012-3456",
        "1111 2222 3333 4444",
        "2024 0102 1234 5670",
        "7000 0000 0000 0005",
        "4111 1111 1111",
        "4111-1111-1111-1111-1",
        "41111111111111111",
        "주문번호 2024010212345678",
        "송장 6123-4567-8901",
        "ISBN 9791162540649",
        "계좌 110-234-567890",
        "4,111,111원",
        "4111",
        "2023-2024",
    ],
    "Email": [
        "@친구",
        "@user.name",
        "@naver.com",
        "kim@",
        "kim@naver",
        "a@b",
        "3@5",
        "5@ 3.00",
        "a @ b.com",
        "kim at naver.com",
        "naver.com",
        "www.naver.com",
        "골뱅이",
        "한글@한글.한국",
        "2@1000원",
    ],
    "PassportNumber": [
        "KE1234",
        "OZ 12345678",
        "M1234567",
        "M123456789",
        "A12345678",
        "AM12345678",
        "SM12345678",
        "m12345678",
        "M1234-5678",
        "M-12345678",
        "M12345678-01",
        "X-M12345678",
        "M123a4567",
        "M12345678A",
        "iPhone 14",
    ],
    "CarNumber": [
        "12조 3000억 원",
        "10부 2000원",
        "30도 1000미터",
        "105호 1204호",
        "20주 1500달러",
        "10자 2024년",
        "12시 3000원",
        "20대 1500명",
        "3월 2024년",
        "12가 345",
        "12가 34567",
        "2가 3456",
        "1234가 5678",
        "1,200가 3456",
        "12가 3,456",
    ],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in HITS.items() for value in values])
def test_found_in_a_sentence(kind: str, value: str) -> None:
    sentences = [("", ""), ("#Person1#: 제 건 ", "이에요."), ("#Person2#: ", "\n#Person1#: 네.")]
    if ")" not in value:
        sentences.append(("(", "), 맞죠?"))
    for before, after in sentences:
        assert mask_personal_data(f"{before}{value}{after}") == (f"{before}#{kind}#{after}", Counter({kind: 1}))


@pytest.mark.parametrize("value", [value for values in CLEAR.values() for value in values])
def test_not_found(value: str) -> None:
    for text in (value, f"#Person1#: {value}\n#Person2#: 네."):
        assert mask_personal_data(text) == (text, Counter())


def test_several_in_one_dialogue() -> None:
    text = (
        "#Person1#: 010-1234-5678이나 kim@example.com이요, 집은 02-123-4567.\n#Person2#: 차는 12가 3456, #Address#요."
    )
    assert mask_personal_data(text) == (
        "#Person1#: #PhoneNumber#이나 #Email#이요, 집은 #PhoneNumber#.\n#Person2#: 차는 #CarNumber#, #Address#요.",
        Counter({"PhoneNumber": 2, "Email": 1, "CarNumber": 1}),
    )


def test_the_sample_holds_none() -> None:
    for split in ("train", "dev", "test"):
        for dialogue in read_table(SAMPLE / f"{split}.csv", "test")["dialogue"]:
            assert mask_personal_data(dialogue) == (dialogue, Counter())


PIECES = st.one_of(
    st.sampled_from([value for values in HITS.values() for value in values]),
    st.sampled_from(
        ["#PhoneNumber#", "#SSN#", "#Person1#", "\n#Person12#: ", "#CarNumber#", " ", ", ", "1", "-", "가"]
    ),
    st.text(alphabet="0123456789-. @aM가호\n", max_size=12),
    st.text(max_size=5).filter(lambda text: "#" not in text),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_masks_and_tags_stay_and_masking_again_changes_nothing(text: str) -> None:
    masked, found = mask_personal_data(text)
    tokens = Counter(MASK_OR_SPEAKER.findall(text))
    tokens.update({f"#{kind}#": count for kind, count in found.items()})
    assert Counter(MASK_OR_SPEAKER.findall(masked)) == tokens
    assert mask_personal_data(masked) == (masked, Counter())
