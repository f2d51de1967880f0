"""Ways in which a message is rewritten so that a filter that reads text lets it pass.

Each takes a message, words borrowed from ham and a source of chance, and gives the rewritten message.
A reader still understands it. Structure, other parts and header are left as they were, save where they are the trick. Called by
`attacks.py`, which scores.
"""

import base64
import binascii
import email
import html
import quopri
import random
import re
from collections.abc import Callable, Iterator
from email.message import Message

from spamd.mail.charsets import decode_text
from spamd.mail.text import message_text
from spamd.model.tokenizer import END_OF_TEXT

WORDS_DISGUISED = 0.5
WORDS_SPACED = 0.3
NUM_MARKS = 40
"""How often the end-of-text mark is strewn in."""

FILES = (
    *(("application/pdf", "overview_q3.pdf"), ("application/zip", "drawings.zip"), ("image/png", "image003.png")),
    *(("application/pgp-signature", "OpenPGP_signature.asc"), ("application/octet-stream", "data.bin")),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "Minutes final.docx"),
)
"""What may hang on any message, and says nothing about it."""
FOOTERS = (
    "Sent from my tablet, please excuse typing errors.",
    "The information in this mail is for its addressee alone. Whoever gets it by error should destroy it.",
    "You are on this list because you asked to be. Leave it or change what you get: lists.mail.example/settings",
    "Checked by the mail server of the company. It found nothing harmful.",
    "Kind regards,\nThe customer service team\n12 Harbour Road, Unit 4 - phone 555 0100 - www.service-team.example",
)
"""What stands below many a message."""

Change = Callable[[str], str]
Encode = Callable[[Message, str], None]
Attack = Callable[[bytes, str, random.Random], bytes]
"""From a message, words of ham, as many as wanted, and chance to the rewritten message."""

_WORD = re.compile(r"[A-Za-z]{3,}")
_MARKUP = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)\s*>|<!--.*?-->|<[^>]*>|&#?\w+;)", re.IGNORECASE | re.DOTALL)
_BODY = re.compile(r"<body\b[^>]*>", re.IGNORECASE)
_LOOKALIKES = str.maketrans("aceopxyijsABCEHKMOPTXY", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455"
                            "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425\u0423")  # fmt: skip
_FIGURES = str.maketrans("aeiostAEIOST", "431057431057")
_INVISIBLE = ("\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\ufeff")
_HIDDEN = (
    '<div style="display:none">{}</div>',
    '<div style="font-size:0px;line-height:0">{}</div>',
    '<p style="color:#ffffff;background-color:#ffffff">{}</p>',
    '<span style="visibility:hidden">{}</span>',
    "<div hidden>{}</div>",
)


def rewrite(raw: bytes, change: Change, *, page: Change | None = None, encode: Encode | None = None) -> bytes:
    """Change the text of a message, subject included.

    Args:
        raw: the message.
        change: applied to plain text, to what stands between the tags of pages, and to the subject.
        page: applied to whole pages instead.
        encode: puts the text into its part; without it as quoted-printable UTF-8.

    Returns:
        The rewritten message.
    """
    mail = email.message_from_bytes(raw)
    change_page = page or (lambda text: _between_tags(text, change))
    for part in _readable(mail):
        is_page = part.get_content_subtype() == "html"
        (encode or _as_quoted_printable)(part, (change_page if is_page else change)(_text(part)))
    if page is None:
        _change_subject(mail, change)
    if "MIME-Version" not in mail:
        mail["MIME-Version"] = "1.0"
    return mail.as_bytes()


def by_word(change: Callable[[str], str], share: float, chance: random.Random) -> Change:
    """Apply a change to a share of the words."""
    return lambda text: _WORD.sub(lambda word: change(word[0]) if chance.random() < share else word[0], text)


def unchanged(raw: bytes, _ham: str, _chance: random.Random) -> bytes:
    """No disguise: what writing the message anew does by itself."""
    return rewrite(raw, lambda text: text)


def homoglyphs(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Cyrillic letters that look like Latin ones, in half of the words."""
    return rewrite(raw, by_word(lambda word: word.translate(_LOOKALIKES), WORDS_DISGUISED, chance))


def zero_width(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Invisible characters between the letters of half of the words."""
    return rewrite(raw, by_word(lambda word: chance.choice(_INVISIBLE).join(word), WORDS_DISGUISED, chance))


def leet(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Figures for letters in half of the words."""
    return rewrite(raw, by_word(lambda word: word.translate(_FIGURES), WORDS_DISGUISED, chance))


def spaced(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Blanks between the letters of some words."""
    return rewrite(raw, by_word(" ".join, WORDS_SPACED, chance))


def hidden_ham(raw: bytes, ham: str, chance: random.Random) -> bytes:
    """Words of ham that the page hides, as many as it shows."""

    def hide(page: str) -> str:
        hidden = chance.choice(_HIDDEN).format(html.escape(_as_long(ham, len(page))))
        return _BODY.sub(lambda tag: tag[0] + hidden, page, count=1) if _BODY.search(page) else hidden + page

    has_page = any(part.get_content_subtype() == "html" for part in _readable(email.message_from_bytes(raw)))
    encode = None if has_page else lambda part, text: _as_page(part, text, hide)
    return rewrite(raw, lambda text: text, page=hide, encode=encode)


def ham_added(times: int, *, is_before: bool) -> Attack:
    """Words of ham before the message or behind it, so many times its length."""

    def attack(raw: bytes, ham: str, _chance: random.Random) -> bytes:
        words = _as_long(ham, times * len(message_text(raw).text))
        change, change_page = _above(words) if is_before else _below(words)
        return rewrite(raw, change, page=change_page)

    return attack


def quoted_reply(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """The message as what a reply quotes."""
    above = chance.choice(("Hi,\n\nsee below please.\n", "Thanks, noted.\n", "FYI\n", "As discussed on the phone:\n"))
    line = f"\nOn {chance.randint(1, 28)} March {chance.randint(2019, 2026)}, Chris Miller wrote:\n"

    def quote(text: str) -> str:
        return above + line + "\n".join(f"> {one}" for one in text.splitlines())

    def quote_page(page: str) -> str:
        return f"<p>{above}</p><p>{line}</p><blockquote type=cite>{page}</blockquote>"

    mail = email.message_from_bytes(rewrite(raw, quote, page=quote_page))
    _change_subject(mail, lambda subject: f"Re: {subject}")
    return mail.as_bytes()


def footer(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Lines below the message, such as devices, companies and lists put there."""
    change, change_page = _below(chance.choice(FOOTERS))
    return rewrite(raw, change, page=change_page)


def reply_address(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Replies go elsewhere: to a freemail address, or to another host of a company."""
    mail = email.message_from_bytes(rewrite(raw, lambda text: text))
    del mail["Reply-To"]
    mail["Reply-To"] = chance.choice(("r.miller.office@gmail.com", "answers@desk.customer-mail.com"))
    return mail.as_bytes()


def attached(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """A file that says nothing hangs on the message."""
    mail = email.message_from_bytes(rewrite(raw, lambda text: text))
    inner, file = Message(), Message()
    for name in [name for name in mail if name.lower().startswith("content-")]:
        inner[name] = mail[name]
        del mail[name]
    inner.set_payload(mail.get_payload())
    content_type, name = chance.choice(FILES)
    file["Content-Type"] = f'{content_type}; name="{name}"'
    file["Content-Disposition"] = f'attachment; filename="{name}"'
    file["Content-Transfer-Encoding"] = "base64"
    file.set_payload(base64.encodebytes(chance.randbytes(600)).decode("ascii"))
    mail["Content-Type"] = f'multipart/mixed; boundary="=_{chance.getrandbits(64):016x}"'
    mail.set_payload([inner, file])
    return mail.as_bytes()


def encodings(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """Base64 of UTF-16, charsets that do not exist or do not fit, every letter as quoted-printable."""

    def encode(part: Message, text: str) -> None:
        match chance.randrange(4):
            case 0:
                _put(part, base64.encodebytes(text.encode("utf-16", "replace")), "utf-16", "base64")
            case 1:
                _put(part, base64.encodebytes(text.encode("utf-8", "replace")), "x-unknown-8bit", "base64")
            case 2:
                _put(part, base64.encodebytes(text.encode("utf-8", "replace")), "us-ascii", "BASE64 ")
            case _:
                codes = binascii.hexlify(text.encode("utf-8", "replace"), "=").upper()
                lines = [b"=" + codes[start : start + 71] for start in range(0, len(codes), 72)]
                _put(part, b"=\r\n".join(lines), "utf-8", "quoted-printable")

    return rewrite(raw, lambda text: text, encode=encode)


def picture(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """One picture that shows the message; its words stand in the alternative text alone."""
    old, new = email.message_from_bytes(raw), email.message_from_bytes(b"")
    for name in ("From", "Reply-To", "To", "Subject", "Date", "Message-ID"):
        if name in old:
            new[name] = old[name]
    body = message_text(raw).text.partition("\n\n")[2]
    page = f'<html><body><a href="https://picture.example/"><img src="cid:1" alt="{html.escape(body)}"></a></body></html>'
    edge = f"=_{chance.getrandbits(64):016x}"
    new["MIME-Version"] = "1.0"
    new["Content-Type"] = f'multipart/related; boundary="{edge}"'
    parts = (
        "Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(page.encode("utf-8", "replace")).decode("ascii"),
        'Content-Type: image/png; name="image001.png"\nContent-ID: <1>\nContent-Transfer-Encoding: base64\n\n'
        + base64.encodebytes(b"\x89PNG\r\n\x1a\n" + chance.randbytes(400)).decode("ascii"),
    )
    lines = "".join(f"--{edge}\n{part}\n" for part in parts)
    return new.as_bytes() + f"{lines}--{edge}--\n".encode("ascii")


def end_of_text(raw: bytes, _ham: str, chance: random.Random) -> bytes:
    """The mark that ends a text in training, strewn in and in a row at the end."""

    def strew(text: str) -> str:
        words = text.split(" ")
        for _ in range(min(NUM_MARKS, len(words))):
            words[chance.randrange(len(words))] += f" {END_OF_TEXT}"
        return " ".join(words) + f" {END_OF_TEXT}" * NUM_MARKS

    def strew_page(page: str) -> str:
        return _between_tags(page, lambda text: f"{text}{html.escape(END_OF_TEXT)}" if text.strip() else text)

    return rewrite(raw, strew, page=strew_page)


ATTACKS: dict[str, Attack] = {
    "unchanged": unchanged,
    "homoglyphs": homoglyphs,
    "zero-width": zero_width,
    "l33t": leet,
    "spaced letters": spaced,
    "hidden ham": hidden_ham,
    "ham appended 1x": ham_added(1, is_before=False),
    "ham appended 3x": ham_added(3, is_before=False),
    "ham prepended 1x": ham_added(1, is_before=True),
    "ham prepended 3x": ham_added(3, is_before=True),
    "quoted reply": quoted_reply,
    "footer": footer,
    "reply address": reply_address,
    "attached file": attached,
    "encodings": encodings,
    "picture": picture,
    "end of text": end_of_text,
}
"""The attacks by name; `unchanged` is the measure of the others."""


def _readable(mail: Message) -> Iterator[Message]:
    """Yield the parts that a reader is shown."""
    for part in mail.walk():
        if part.get_content_type() in {"text/plain", "text/html"} and part.get_content_disposition() != "attachment":
            yield part


def _text(part: Message) -> str:
    """Decode a part."""
    content = part.get_payload(decode=True)
    return decode_text(content if isinstance(content, bytes) else b"", str(part.get_param("charset", "")))[0]


def _between_tags(page: str, change: Change) -> str:
    """Apply a change to what stands between the tags of a page."""
    return "".join(piece if number % 2 else change(piece) for number, piece in enumerate(_MARKUP.split(page)))


def _put(part: Message, content: bytes, charset: str, encoding: str, subtype: str = "") -> None:
    """Put encoded text into a part."""
    subtype = subtype or part.get_content_subtype()
    for name in ("Content-Type", "Content-Transfer-Encoding"):
        del part[name]
    part["Content-Type"] = f'text/{subtype}; charset="{charset}"'
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(content.decode("ascii"))


def _as_quoted_printable(part: Message, text: str) -> None:
    """Put text into a part as most mailers do."""
    _put(part, quopri.encodestring(text.encode("utf-8", "replace")), "utf-8", "quoted-printable")


def _as_page(part: Message, text: str, change: Change) -> None:
    """Put plain text into a part as a page."""
    text = change(f"<html><body><p>{html.escape(text).replace(chr(10), '<br>')}</p></body></html>")
    _put(part, quopri.encodestring(text.encode("utf-8", "replace")), "utf-8", "quoted-printable", "html")


def _change_subject(mail: Message, change: Change) -> None:
    """Change the subject, decoded as a reader sees it."""
    fields = mail.get_all("Subject")
    if not fields:
        return
    plain = message_text(b"Subject: " + str(fields[0]).replace("\n", " ").encode("utf-8", "surrogateescape") + b"\n\n").text
    subject = change(plain.partition("Subject: ")[2].strip())
    encoded = base64.b64encode(subject.encode("utf-8", "replace")).decode("ascii")
    del mail["Subject"]
    mail["Subject"] = f"=?utf-8?b?{encoded}?="


def _above(words: str) -> tuple[Change, Change]:
    """Return what puts words above a text, and above what a page shows."""
    paragraph = _paragraph(words)

    def change_page(page: str) -> str:
        return _BODY.sub(lambda tag: tag[0] + paragraph, page, count=1) if _BODY.search(page) else paragraph + page

    return lambda text: f"{words}\n\n{text}", change_page


def _below(words: str) -> tuple[Change, Change]:
    """Return what puts words below a text, and below what a page shows."""
    paragraph = _paragraph(words)

    def change_page(page: str) -> str:
        head, end, tail = page.rpartition("</body>")
        return head + paragraph + end + tail if end else page + paragraph

    return lambda text: f"{text}\n\n{words}", change_page


def _paragraph(words: str) -> str:
    """Write words as a paragraph of a page."""
    return f"<p>{html.escape(words).replace(chr(10), '<br>')}</p>"


def _as_long(words: str, length: int) -> str:
    """Repeat or cut words to a length."""
    return (f"{words} " * (length // (len(words) + 1) + 1))[:length]
