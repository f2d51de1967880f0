"""Bytes of unknown honesty to characters: charsets, RFC 2047 encoded words, transfer encodings.

Whatever comes in, something readable comes out: nothing here raises, and every function takes linear time. Names of charsets
are looked up in a closed list, never in Python's codec registry, which would import and remember what a stranger names.
Called by `message` and `text`.
"""

import base64
import binascii
import quopri
import re
from encodings.aliases import aliases

_MAX_NAME = 40
_SAMPLE_BYTES = 65_536
_LONGEST_CHARACTER = 4
_LONG_TEXT = 1_000
_LONG_CODE_LINE = 56
_MAX_UUDECODED = 2_097_152

_ENCODING = re.compile(r"(?:[\s\"]|\([^()]*+\))*+([\w-]++)")

_TEXT_CODECS = frozenset(
    str.split(
        """ascii utf_8 utf_8_sig utf_16 utf_16_le utf_16_be utf_32 utf_32_le utf_32_be utf_7 big5hkscs gb18030 hz shift_jis cp932
        euc_jp euc_jis_2004 iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_3 iso2022_jp_ext iso2022_kr euc_kr cp949 johab
        cp037 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869
        cp874 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6
        iso8859_7 iso8859_8 iso8859_10 iso8859_13 iso8859_14 iso8859_15 iso8859_16 koi8_r koi8_u koi8_t kz1048 ptcp154 tis_620
        mac_roman mac_cyrillic mac_greek mac_latin2 mac_turkish"""
    )
)

# What browsers and mail readers make of a name, where it differs from the letter of the standard.
_READ_AS = {
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "ascii": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb_2312_80": "gb18030",
    "x_gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "x_sjis": "cp932",
    "euc_kr": "cp949",
    "ks_c_5601_1987": "cp949",
    "iso2022_jp": "iso2022_jp_ext",
    "iso_8859_8_i": "iso8859_8",
    "unicode_1_1_utf_7": "utf_7",
    "utf8mb4": "utf_8",
    "windows_874": "cp874",
    "unicode": "utf_16",
}

_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_ESCAPED_JAPANESE = re.compile(rb"\x1b\$[@B]|\x1b\([JI]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_LINE = re.compile(rb"[^\n]+")
_PROSE = re.compile(rb"[^\s][ \t]+[^\s]|[^A-Za-z0-9+/=\s]{2}|://")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def codec_name(declared: str) -> str | None:
    """Name the Python codec for a declared charset, or None where it is unknown or no charset of text."""
    name = declared.strip().strip("\"'").split("*", 1)[0].lower()
    if not name or len(name) > _MAX_NAME:
        return None
    key = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    key = _READ_AS.get(key, key)
    key = aliases.get(key, key)
    key = _READ_AS.get(key, key)
    return key if key in _TEXT_CODECS else None


def decode_text(content: bytes, declared: str = "", hint: str = "") -> tuple[str, bool]:
    """Decode the bytes of a text.

    Args:
        content: the bytes, transfer encoding already removed.
        declared: the charset that the message names for them; empty where it names none.
        hint: a charset named elsewhere in the message, tried where nothing else is known.

    Returns:
        The text, and whether the declared charset is known and fits the bytes (true where none was needed).
    """
    codec = codec_name(declared)
    if content.isascii() and codec not in _NOT_ASCII_CODECS and not _ESCAPED_JAPANESE.search(content):
        return content.decode("ascii"), codec is not None or not declared
    if codec:
        # Western European fits any bytes, so that UTF-8 wrongly declared as such must be asked for first.
        text = _decode_strictly(content, "utf_8") if codec == "cp1252" else None
        text = text or _decode_strictly(content, codec)
        if text is not None:
            return text, True
    return _decode_undeclared(content, codec or codec_name(hint)), False


_NOT_ASCII_CODECS = frozenset(
    {"utf_7", "hz", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "cp037", "cp500"}
) | {name for name in _TEXT_CODECS if name.startswith("iso2022")}


def _decode_strictly(content: bytes, codec: str) -> str | None:
    """Decode, or None where the bytes do not fit; of a long text, a character that the end cuts in two may be missing."""
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        is_cut = len(content) > _LONG_TEXT and len(content) - error.start < _LONGEST_CHARACTER
        return content[: error.start].decode(codec, "replace") if is_cut else None
    except UnicodeError:
        return None


def _decode_undeclared(content: bytes, likely: str | None) -> str:
    """Decode bytes that carry no charset or a wrong one: UTF-8 where it fits, then what the letters look like."""
    if _ESCAPED_JAPANESE.search(content[:_SAMPLE_BYTES]):
        return content.decode("iso2022_jp_ext", "replace")
    text = _decode_strictly(content, "utf_8")
    if text is not None:
        return text
    if _mostly_utf_8(content[:_SAMPLE_BYTES]):
        return content.decode("utf_8", "replace")
    codec = likely if likely and likely not in {"utf_8", "cp1252"} else _guess_codec(content[:_SAMPLE_BYTES])
    return content.decode(codec, "replace")


def _mostly_utf_8(sample: bytes) -> bool:
    """Whether text is UTF-8 with a few broken places, a cut last character say."""
    text = sample.decode("utf_8", "replace")
    broken = text.count("\ufffd")
    sound = sum(1 for character in text if character > "\x7f") - broken
    return sound > 4 * broken


def _guess_codec(sample: bytes) -> str:
    """Guess a charset from its high bytes: Chinese in pairs, Cyrillic in words, Western European one by one."""
    runs = _HIGH_RUN.findall(sample)
    total = sum(map(len, runs))
    letters = total + sum(1 for byte in sample if 65 <= byte <= 90 or 97 <= byte <= 122)  # noqa: PLR2004  ASCII letters
    paired = sum(len(run) for run in runs if len(run) % 2 == 0 and min(run) > 0xA0)  # noqa: PLR2004  GB 2312's bytes
    if paired >= 0.9 * total and total >= 2 * len(runs):
        return "gb18030"
    if total > 0.5 * letters and total >= 3 * len(runs):
        low, high = (sum(first <= byte < first + 32 for byte in b"".join(runs)) for first in (0xC0, 0xE0))
        return "cp1251" if high > low else "koi8_r"
    return "cp1252"


def decode_words(value: bytes, hint: str = "") -> str:
    """Decode a header value: raw 8-bit text and RFC 2047 encoded words, damaged ones included.

    Neighbouring encoded words in one charset are joined before they are decoded, because senders cut characters in two.
    """
    text = decode_text(value, hint=hint)[0]
    if "=?" not in text:
        return text
    pieces: list[str] = []
    pending: list[bytes] = []
    charset = ""
    position = 0
    for match in _ENCODED_WORD.finditer(text):
        between = text[position : match.start()]
        position = match.end()
        if pending and (between.strip() or match[1].lower() != charset):
            pieces.append(decode_text(b"".join(pending), charset, hint)[0])
            pending = []
        if between.strip() or not pieces:
            pieces.append(between)
        charset = match[1].lower()
        pending.append(_decode_word(match[2], match[3]))
    if pending:
        pieces.append(decode_text(b"".join(pending), charset, hint)[0])
    return "".join(pieces) + text[position:]


def _decode_word(encoding: str, payload: str) -> bytes:
    """Decode the payload of one encoded word."""
    content = payload.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(content)
    return quopri.decodestring(content.replace(b"_", b"=20").replace(b" ", b"=20"), header=False)


def decode_base64(content: bytes) -> bytes:
    """Decode base64 the way mail readers do: foreign characters are skipped, a torn end is dropped."""
    letters = _NOT_BASE64.sub(b"", content)
    letters = letters[: len(letters) - (1 if len(letters) % 4 == 1 else 0)]
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4))
    except binascii.Error:
        return b""


def _decode_base64_lines(content: bytes) -> bytes:
    """Decode a base64 body; prose in it, such as footers that lists append, stays as it is.

    Behind a line of prose only a long line without blanks is base64 again.
    """
    if not _PROSE.search(content):
        return decode_base64(content)
    decoded: list[bytes] = []
    letters = bytearray()
    is_open = True
    for match in _LINE.finditer(content):
        line = match[0]
        is_open = not _PROSE.search(line) and (is_open or len(line) >= _LONG_CODE_LINE)
        if is_open:
            letters += line
            continue
        decoded += [decode_base64(bytes(letters)), b"\n" if letters else b"", line, b"\n"]
        letters.clear()
    return b"".join([*decoded, decode_base64(bytes(letters))])


def decode_transfer(content: bytes, encoding: str) -> bytes:
    """Undo a Content-Transfer-Encoding, of which the first word counts; an unknown one leaves the bytes as they are."""
    match = _ENCODING.match(encoding)
    name = match[1].lower() if match else ""
    if name == "base64":
        return _decode_base64_lines(content)
    if name == "quoted-printable":
        return quopri.decodestring(content)
    if name in {"x-uuencode", "uuencode", "x-uue", "uue"}:
        return _decode_uuencode(content)
    return content


def _decode_uuencode(content: bytes) -> bytes:
    """Decode the lines between `begin` and `end`, skipping broken ones."""
    decoded = bytearray()
    for match in _LINE.finditer(content):
        line = match[0]
        if line.strip() == b"end" or len(decoded) > _MAX_UUDECODED:
            break
        if line.startswith(b"begin "):
            continue
        try:
            decoded += binascii.a2b_uu(line)
        except binascii.Error:
            continue
    return bytes(decoded)
