"""A text's language is guessed well enough to count by."""

import pytest

from spamd.training.languages import guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The meeting is on Monday, please tell me if you can come.", "en"),
        ("Das Treffen ist am Montag, bitte sagen Sie mir, ob Sie nicht kommen und wer mit Ihnen kommt.", "de"),
        ("La réunion est lundi, dites-nous si vous ne pouvez pas venir avec les autres.", "fr"),
        ("La reunión es el lunes, por favor diga si no puede venir con los demás.", "es"),
        ("A reunião é na segunda-feira, por favor diga se não pode vir com os outros.", "pt"),
        ("La riunione è lunedì, per favore dite se non potete venire con gli altri.", "it"),
        ("De vergadering is op maandag, laat het ons weten als u niet kunt komen met de anderen.", "nl"),
        ("Spotkanie jest w poniedziałek, prosimy o informację, czy państwo nie mogą być na nim.", "pl"),
        ("Bu bir deneme ve size çok teşekkür ederim, lütfen hemen cevap verin.", "tr"),
        ("Rapat pada hari Senin, kami akan mulai dengan laporan dan anda bisa datang ke kantor.", "id"),
        ("Встреча в понедельник, сообщите, пожалуйста, сможете ли вы прийти.", "cyrillic"),
        ("会议定于星期一举行请告知是否能够参加", "zh"),
        ("会議は月曜日です。参加できるかどうかお知らせください。", "ja"),
        ("회의는 월요일입니다. 참석 여부를 알려 주세요.", "ko"),
        ("الاجتماع يوم الاثنين، يرجى إخبارنا", "ar"),
        ("ok", "?"),
        ("", "?"),
        ("https://example.org 12345", "?"),
    ],
)
def test_languages(text, language):
    """One sentence of each is enough; a word or a link is not."""
    assert language == guess_language(text)
