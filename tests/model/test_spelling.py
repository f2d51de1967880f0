"""Disguised words and what they are spelled as."""

import pytest

from spamd.model.spelling import spelled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("you h4v3 w0n 70d4y", "you have won today"),
        ("G1FT f0r y0u: FR33", "GIFT for you: FREE"),
        ("y0u w0n 4nd c45h, the m057", "you won and cash, the most"),
        ("F R E E gift, v-i-a-g-r-a, w.i.n, l_o_a_n", "FREE gift, viagra, win, loan"),
        ("ш л ю з", "шлюз"),
    ],
)
def test_disguised_words_are_spelled(text: str, expected: str) -> None:
    """Figures that play letters become those, and letters that stand apart move together."""
    assert expected == spelled(text)


@pytest.mark.parametrize(
    "text",
    [
        "an mp3 of 5pm, room A4, the 1st and 3rd of 10 items",
        "call 0170 1234567 or write to B2B sales about H264",
        "plan a or b, e.g. this - or - that * item",
        "order 4711-2026, code 734501",
        "你 好 2026",
        "",
    ],
)
def test_other_words_stay(text: str) -> None:
    """Figures at the end of a word or alone, other figures, and runs of two letters are what they are."""
    assert text == spelled(text)


@pytest.mark.parametrize("text", ["a " * 50_000, "a1" * 50_000, "1a" * 50_000 + "!", "a.b-" * 25_000, "a" * 100_000 + "1"])
def test_any_text_takes_linear_time(text: str) -> None:
    """No text of the largest size makes it look again and again at the same place."""
    assert len(spelled(text)) <= len(text)
