"""A message to the text that the model reads: one function, for training and scoring alike.

The text of a message, line by line; a line whose field the message lacks is left out:

    From: Display Name @domain
    Reply-To: @domain                     only where it differs from From's domain
    Subject: the subject                  without tags of other filters such as [SPAM]
                                          an empty line, if any line stands above
    the body                              see below
                                          an empty line, if any line stands below
    [link shown.example -> real.example]  a link whose text shows another site than it leads to; at most 10
    [attachment type/subtype name]        for each attached part; at most 20
    [disguised letters]                   lookalike letters or invisible characters inside Latin words
    [hidden text]                         a page hides words from its reader that it does not also show
    [plain part differs]                  the plain alternative says something else than the page
    [picture only]                        a page with pictures and next to no words

The body is the text of all readable parts in order, without empty lines. Of alternatives one is read: the page as its
reader sees it, or the plain text where there is no page or nothing to see on it. An embedded message gives its own From,
Subject and body in its place. Paragraphs of plain text are joined to one line each, so that plain text and pages read alike.

Everywhere: NFKC; white space collapsed; invisible and control characters dropped; letters of other scripts that play Latin ones
folded, in mixed words only; every URL cut to its host; addresses of the message's recipients become `[recipient]`; decoration and
long codes shortened; GPT-2's mark for the end of a text dropped. At most `MAX_CHARACTERS`; the middle of longer texts is left
out. No Received, List-*, X-* and no date, for they give the class away in every public corpus.

Whoever changes what this module or those below it produce raises `TEXT_VERSION`: checkpoints are bound to it. Called by
`service`, `training` and `cli`. Security: hostile input; never raises, linear time.
"""

import base64
import re
from dataclasses import dataclass
from itertools import pairwise

from spamd.mail.addresses import recipients_of, split_address, without_recipients, without_tags
from spamd.mail.charsets import decode_text
from spamd.mail.html import Page, read_page
from spamd.mail.message import Message, Part, parse_message, walk
from spamd.mail.wording import drop_invisible, keep_ends, plain_wording

TEXT_VERSION = 2

MAX_CHARACTERS = 50_000
"""Length of the longest text."""

_MAX_SUBJECT = 500
_MAX_NAME = 120
_MAX_LINKS = 10
_MAX_ATTACHMENTS = 20
_MAX_TEXT_PARTS = 50
_MAX_ATTACHED_TEXT = 4_000
_MAX_DECODED = 1_000_000
_MIN_INVISIBLE = 3
_FEW_LETTERS = 30

_UNREAD_TEXT = frozenset(
    {"text/calendar", "text/vcard", "text/x-vcard", "text/directory", "text/rfc822-headers", "text/css", "text/csv"}
)
_PAGE_START = re.compile(r"\s*+<(?:!doctype html|html)\b", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}")
_WRAPPED = range(50, 91)
_FIRST_WORDS = 61


@dataclass(frozen=True, slots=True)
class MessageText:
    """What the model reads of a message, and what was seen on the way.

    Attributes:
        text: the text, as the module describes it; may be empty.
        defects: short names of what is wrong with the message, sorted: those of `message.Message`, and `charset`, `wild-html`.
        num_hidden: characters that HTML hides from its reader.
        num_invisible: invisible characters inside Latin words.
        num_lookalikes: words in which letters of other scripts play Latin ones.
        num_images: pictures that pages show.
        is_html: whether a page was read, and not plain text alone.
    """

    text: str
    defects: tuple[str, ...] = ()
    num_hidden: int = 0
    num_invisible: int = 0
    num_lookalikes: int = 0
    num_images: int = 0
    is_html: bool = False


def message_text(raw: bytes) -> MessageText:
    """Make the text that the model reads of a message.

    Args:
        raw: the message as bytes, headers first, any line ends.

    Returns:
        The text and what was seen on the way. Never raises; the same bytes give the same text.
    """
    message = parse_message(raw)
    return _Writer(message).write()


def text_message(text: str, subject: str = "") -> bytes:
    """Make a message of a bare text, for sources that have no more: its `message_text` is that text, made plain.

    Args:
        text: the body.
        subject: the subject; empty leaves the field out.

    Returns:
        A minimal message.
    """
    fields = [b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit"]
    if subject.strip():
        encoded = base64.b64encode(subject.strip().encode("utf-8", "replace"))
        fields.insert(0, b"Subject: =?utf-8?b?" + encoded + b"?=")
    return b"\n".join([*fields, b"", text.encode("utf-8", "replace")])


class _Writer:
    """Writes the text of one message, counting what it sees."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.hint = message.charset
        self.defects = set(message.defects)
        self.links: dict[tuple[str, str], None] = {}
        self.notes: set[str] = set()
        self.is_html = False
        self.num_hidden = self.num_invisible = self.num_lookalikes = self.num_images = self.num_parts = 0

    def write(self) -> MessageText:
        """Write everything in order."""
        root = self.message.root
        head = self._head(root)
        body = self._body(root)
        paragraphs = ["\n".join(head), body, "\n".join(self._tail())]
        text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        return MessageText(
            text=keep_ends(without_recipients(text, recipients_of(root.fields)), MAX_CHARACTERS),
            defects=tuple(sorted(self.defects)),
            num_hidden=self.num_hidden,
            num_invisible=self.num_invisible,
            num_lookalikes=self.num_lookalikes,
            num_images=self.num_images,
            is_html=self.is_html,
        )

    def _head(self, part: Part) -> list[str]:
        """Write the lines for who sent it and what about."""
        lines: list[str] = []
        name, domain = self._sender(part, "from")
        if name or domain:
            lines.append(" ".join(["From:", *filter(None, [name, domain and f"@{domain}"])]))
        reply_domain = self._sender(part, "reply-to")[1]
        if reply_domain and reply_domain != domain:
            lines.append(f"Reply-To: @{reply_domain}")
        subject = without_tags(self._plain(part.header("subject", self.hint), _MAX_SUBJECT).replace("\n", " "))
        if subject:
            lines.append(f"Subject: {subject}")
        return lines

    def _sender(self, part: Part, field: str) -> tuple[str, str]:
        """Read display name and domain of an address field."""
        value = part.fields.get(field, b"")
        if b"@" not in value:
            text = part.header(field, self.hint)
            if "@" not in text:
                return self._plain(text.replace('"', ""), _MAX_NAME), ""
        else:
            text = decode_text(value, hint=self.hint)[0]
        name, address = split_address(text)
        name = Part({"name": name.encode("utf-8", "replace")}, "").header("name", self.hint)
        domain = address.rpartition("@")[2].strip().lower() if "@" in address else ""
        if name.strip("'\" ").lower() == address.strip().lower():
            name = ""
        return self._plain(name, _MAX_NAME).replace("\n", " "), self._plain(domain, _MAX_NAME).partition(" ")[0]

    def _plain(self, text: str, max_characters: int) -> str:
        """Make a text plain and count what that took."""
        wording = plain_wording(text, max_characters)
        self.num_invisible += wording.num_invisible
        self.num_lookalikes += wording.num_lookalikes
        return wording.text

    def _body(self, part: Part) -> str:
        """Write the text of a part and all below it."""
        if part.content_type == "multipart/alternative" and part.children:
            return self._alternative(part)
        if part.content_type in {"message/rfc822", "message/global"} and part.children:
            inner = part.children[0]
            return "\n".join(filter(None, [*self._head(inner), self._body(inner)]))
        if part.children:
            return "\n".join(filter(None, (self._body(child) for child in part.children)))
        return self._leaf(part)

    def _leaf(self, part: Part) -> str:
        """Write the text of one readable part; empty for any other."""
        if not _is_readable(part) or self.num_parts >= _MAX_TEXT_PARTS:
            return ""
        text, fits = decode_text(part.content[:_MAX_DECODED], part.charset or _declared_in(part), self.hint)
        if not fits:
            self.defects.add("charset")
        limit = _MAX_ATTACHED_TEXT if part.disposition == "attachment" else MAX_CHARACTERS
        if part.content_type == "text/html" or _PAGE_START.match(text):
            page = read_page(text)
            body = self._plain(page.text, limit)
            self._note_page(page, body)
        else:
            body = self._plain(_unwrap(text), limit)
        self.num_parts += bool(body)
        return body

    def _note_page(self, page: Page, body: str) -> None:
        """Count what a page hides and shows."""
        self.is_html = True
        self.links.update(page.links)
        self.num_hidden += page.num_hidden
        self.num_images += page.num_images
        if page.is_stripped:
            self.defects.add("wild-html")
        if _says_something_else(" ".join(page.hidden), body):
            self.notes.add("hidden text")
        if page.num_images and len(body) < _FEW_LETTERS:
            self.notes.add("picture only")

    def _alternative(self, part: Part) -> str:
        """Choose one of several forms of the same text: the last that shows anything, as mail readers do."""
        chosen = ""
        for child in reversed(part.children):
            text = self._body(child)
            if not chosen:
                chosen = text
            elif child.content_type == "text/plain" and _says_something_else(text, chosen):
                self.notes.add("plain part differs")
        return chosen

    def _tail(self) -> list[str]:
        """Write the lines for links, attachments and notes."""
        lines = [f"[link {shown} -> {drop_invisible(host)[:_MAX_NAME]}]" for shown, host in list(self.links)[:_MAX_LINKS]]
        attached = [part for part in walk(self.message.root)[1:] if _is_attachment(part)]
        for part in [*attached, *([self.message.root] if _is_attachment(self.message.root) else [])][:_MAX_ATTACHMENTS]:
            name = self._plain(part.filename, _MAX_NAME).replace("\n", " ")
            lines.append(f"[{f'attachment {part.content_type[:60]} {name}'.rstrip()}]")
        if self.num_lookalikes or self.num_invisible >= _MIN_INVISIBLE:
            self.notes.add("disguised letters")
        return lines + [f"[{note}]" for note in sorted(self.notes)]


def _is_readable(part: Part) -> bool:
    """Whether a part is text for people."""
    return part.content_type.startswith("text/") and part.content_type not in _UNREAD_TEXT


def _is_attachment(part: Part) -> bool:
    """Whether a part is attached rather than shown."""
    if part.children or part.content_type.startswith("multipart/"):
        return bool(part.filename) and part.content_type == "message/rfc822"
    return not _is_readable(part) or part.disposition == "attachment" or bool(part.filename)


def _declared_in(part: Part) -> str:
    """The charset that a page declares about itself."""
    if part.content_type != "text/html":
        return ""
    match = re.search(rb"charset\s{0,5}=\s{0,5}[\"']?([\w.:-]{2,40})", part.content[:4096], re.IGNORECASE)
    return match[1].decode("ascii") if match else ""


def _unwrap(text: str) -> str:
    """Join the lines of paragraphs that were wrapped for a narrow screen."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    joined = [line + (" " if _is_wrapped(line, behind) else "\n") for line, behind in pairwise([*lines, ""])]
    return "".join(joined)


def _is_wrapped(line: str, behind: str) -> bool:
    """Whether a line goes on in the one behind it: as long as lines are made, and neither a quotation nor an item of a list."""
    return len(line) in _WRAPPED and line[0] not in ">|#*+-" and " " in line[:_FIRST_WORDS] and behind[:1].isalnum()


def _says_something_else(plain: str, page: str) -> bool:
    """Whether a text of some length shares few of its words with what the page shows."""
    words = set(_WORD.findall(plain[:5_000].lower()))
    if len(words) < 20:  # noqa: PLR2004  too few to tell
        return False
    return len(words & set(_WORD.findall(page.lower()))) < 0.3 * len(words)
