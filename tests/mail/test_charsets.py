"""Bytes of unknown honesty to characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spamd.mail.charsets import codec_name, decode_base64, decode_text, decode_transfer, decode_words


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("UTF-8", "utf_8"),
        ('"utf8"', "utf_8"),
        ("us-ascii", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("iso_8859-1:1987", "cp1252"),
        ("iso-8859-9", "cp1254"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("big5", "big5hkscs"),
        ("ks_c_5601-1987", "cp949"),
        ("Shift_JIS", "cp932"),
        ("windows-1251", "cp1251"),
        ("utf-8*en", "utf_8"),
        ("hex", None),
        ("rot13", None),
        ("idna", None),
        ("unicode_escape", None),
        ("x" * 1000, None),
        ("../../x", None),
        ("", None),
    ],
)
def test_charset_names_are_read_as_browsers_read_them(declared, expected):
    """Names map to the codec that readers use, and codecs that are no charsets are unknown."""
    assert codec_name(declared) == expected


@given(st.binary(), st.text(max_size=20), st.text(max_size=20))
def test_decoding_never_raises(content, declared, hint):
    """Any bytes under any name give text."""
    assert isinstance(decode_text(content, declared, hint)[0], str)


@pytest.mark.parametrize("codec", ["utf_8", "gb18030", "koi8_r", "cp1251", "iso2022_jp", "cp1252"])
def test_undeclared_text_is_guessed(codec):
    """Text without a charset is read by what its letters look like."""
    text = {"gb18030": "请您尽快联系我们", "koi8_r": "срочное сообщение", "cp1251": "срочное сообщение", "iso2022_jp": "至急連絡"}
    sample = text.get(codec, "très chère Zoé, voilà l'été")

    assert decode_text(sample.encode(codec)) == (sample, False)


def test_text_whose_last_character_is_cut_stays_utf_8():
    """A long text that was cut inside a character loses that character only."""
    assert decode_text(("ж" * 1000).encode()[:-1], "utf-8") == ("ж" * 999, True)


def test_short_text_loses_nothing():
    """A short text in another charset is not taken for cut UTF-8."""
    assert decode_text(b"caf\xe9", "utf-8") == ("café", False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"=?utf-8?q?a_b?=", "a b"),
        (b"=?UTF-8?B?w6k=?= =?utf-8?Q?=C3=A9?=", "éé"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?utf-8?q?a?=b", "ab"),
        (b"=?utf-8*en?q?a?=", "a"),
        (b"=?nonsense?q?=e9?=", "é"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?utf-8?b?!!!?=", ""),
        (b"=?", "=?"),
        (b"plain", "plain"),
    ],
)
def test_encoded_words_are_decoded(value, expected):
    """Encoded words are decoded, damaged ones as well as can be."""
    assert decode_words(value) == expected


@given(st.binary())
def test_header_values_never_raise(value):
    """Any bytes are a readable header value."""
    assert isinstance(decode_words(b"=?utf-8?" + value + b"?="), str)


@given(st.binary(), st.sampled_from(["base64", "quoted-printable", "x-uuencode", "7bit", "nonsense", ""]))
def test_transfer_decoding_never_raises(content, encoding):
    """Any bytes can be freed of any transfer encoding."""
    assert isinstance(decode_transfer(content, encoding), bytes)


def test_base64_is_forgiving():
    """Foreign characters are skipped and a torn end is dropped."""
    assert decode_base64(b"aGVs\r\nbG8*gd29ybGQ") == b"hello world"
    assert decode_base64(b"aGVsbG8gd29ybGQhI") == b"hello world!"
