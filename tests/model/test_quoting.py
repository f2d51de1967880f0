"""What a reply quotes, without marks and attribution."""

import pytest

from spamd.model.quoting import unquoted


@pytest.mark.parametrize("quoted", ["> a prize\n> for you", ">> a prize\n>> for you", "> > a prize\n>for you"])
def test_marks_before_quoted_lines_go(quoted: str) -> None:
    """However deep, with blanks or without."""
    assert unquoted(quoted) == "a prize\nfor you"


@pytest.mark.parametrize(
    "line",
    [
        "On 12/3/2026, Mia Berg wrote:",
        "> On Mon, 2 Mar 2026 at 10:20, Mia Berg <mia@berg.example> wrote:  ",
        "wrote:",
        "Am 02.03.2026 um 10:20 schrieb Mia Berg:",
        "Le 2/3/2026, Mia Berg a écrit :",
        "El 2/3/2026, Mia Berg escribió:",
        "Il giorno 2/3/2026 Mia Berg ha scritto:",
        "Op 2-3-2026 schreef Mia Berg:",
        "W dniu 2.3.2026 Mia Berg pisze:",
        "Mia Berg skrev 2026-03-02:",
        "2 марта 2026, Мия Берг написала:",
        "Mia Berg <mia@berg.example> 于2026年3月2日周一 10:20写道\uff1a",
        "2026년 3월 2일 Mia Berg님이 작성:",
    ],
)
def test_lines_that_name_the_writer_go(line: str) -> None:
    """What stands above a quotation, in several languages."""
    assert unquoted(f"Fine.\n\n{line}\n> a prize") == "Fine.\n\n\na prize"


@pytest.mark.parametrize(
    "text",
    [
        "5 > 4",
        "She wrote: come at ten",
        "He wrote a book",
        "Those who underwrote:",
        "Note:",
        f"{'a' * 241} wrote:",
        "",
    ],
)
def test_other_lines_stay(text: str) -> None:
    """A line that goes on behind its colon, one without, other words, and lines that no mail program writes."""
    assert unquoted(text) == text


@pytest.mark.parametrize(
    "text", ["wrote " * 20_000, "> " * 50_000, "wrote\n" * 20_000, "> wrote: " * 12_000 + "!", "写道" * 50_000, ":\n" * 50_000]
)
def test_any_text_takes_linear_time(text: str) -> None:
    """No text makes it look again and again at the same place."""
    assert len(unquoted(text)) <= len(text)
