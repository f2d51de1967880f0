"""Make `.eml` files of the written mail, so that it can train and test like any other corpus.

    python benchmarks/written_mail.py FOLDER          writes FOLDER/sitting_01/{ham,spam}/001.eml, ...
    python benchmarks/written_mail.py --count         prints counts by label and language instead
    python benchmarks/written_mail.py --check         prints near-duplicates, counts by kind, and what surface gives away

What a message says comes from the sitting files (format: `benchmarks/written_mail/README.md`). How it is built (plain, HTML or
both; charset; transfer encoding; mailer; date) is drawn from a hash of what it says, never from its label, so that structure does
not give the label away. The same text always becomes the same bytes.
"""

import argparse
import hashlib
import html
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "written_mail"
SEPARATOR = "====="
REPEATABLE = ("link", "attachment")
SINGLE = ("label", "kind", "language", "from", "reply-to", "subject", "preheader")
REQUIRED = ("label", "kind", "language", "from", "subject")
MAILERS = ("", "Apple Mail (2.3774)", "Microsoft Outlook 16.0", "Mozilla Thunderbird", "Roundcube Webmail/1.6", "PHPMailer 6.9")
LEGACY_CHARSETS = ("iso-8859-1", "iso-8859-2", "windows-1252", "koi8-r", "gb18030", "iso-2022-jp", "euc-kr")
FIRST_DATE = datetime(2020, 1, 6, 7, 0, tzinfo=UTC)
DATE_RANGE_MINUTES = 6 * 365 * 24 * 60
PICTURES_SHOWN = 0.6
"""How often a page shows the pictures that come with it; otherwise they are attached."""


@dataclass
class WrittenMessage:
    """One message of a sitting, as written: single fields, links (text, URL), attachments (type, name) and the body."""

    where: str
    fields: dict[str, str] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)
    attachments: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""


def read_sitting(file: Path) -> Iterator[WrittenMessage]:
    """Yield the messages of one sitting.

    Raises:
        ValueError: a message lacks a field, has an unknown one, or has no body; names the file and the message's number.
    """
    text = f"\n{file.read_text(encoding='utf-8')}\n"
    for number, block in enumerate(text.split(f"\n{SEPARATOR}\n")[1:], start=1):
        yield _read_message(block, f"{file.name} message {number}")


def _read_message(block: str, where: str) -> WrittenMessage:
    """Parse one message."""
    head, _, body = block.strip("\n").partition("\n\n")
    message = WrittenMessage(where, body=body.strip("\n") + "\n")
    for line in head.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "link":
            shown, _, url = value.rpartition("->")
            message.links.append((shown.strip(), url.strip()))
        elif key == "attachment":
            content_type, _, name = value.partition(" ")
            message.attachments.append((content_type, name.strip()))
        elif key in SINGLE:
            message.fields[key] = value
        else:
            raise ValueError(f"{where}: unknown field {key!r}")
    # People do send mail without a subject.
    missing = [key for key in REQUIRED if not message.fields.get(key) and (key != "subject" or key not in message.fields)]
    if missing or not body.strip() or message.fields["label"] not in ("ham", "spam"):
        raise ValueError(f"{where}: lacks {', '.join(missing) or 'a body or a label of ham or spam'}")
    return message


def build(message: WrittenMessage) -> bytes:
    """Build the message; structure is drawn from its content's hash, regardless of its label."""
    content = "\0".join([message.fields["from"], message.fields["subject"], message.body])
    draw = random.Random(hashlib.sha256(content.encode()).digest())  # noqa: S311  a seeded draw, not a secret
    mail = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
    _add_header(mail, message, draw)
    structure = draw.choices(("plain", "html", "both"), weights=(40, 20, 40))[0]
    charset = _charset(_plain(message) + message.fields.get("preheader", ""), draw)
    encoding = draw.choice(("8bit", "quoted-printable", "base64"))
    files = [(*_type(content_type), name, draw.randbytes(draw.randint(200, 900))) for content_type, name in message.attachments]
    pictures = [one for one in files if one[0] == "image"]
    if pictures and (structure == "plain" or draw.random() > PICTURES_SHOWN):
        pictures = []
    page = _html(message, len(pictures))
    if structure in ("plain", "both"):
        mail.set_content(_plain(message), charset=charset, cte=encoding)
    if structure == "html":
        mail.set_content(page, subtype="html", charset=charset, cte=encoding)
    elif structure == "both":
        mail.add_alternative(page, subtype="html", charset=charset, cte=encoding)
    for number, (maintype, subtype, name, data) in enumerate(pictures):
        shown_by = mail.get_body(("related", "html")) or mail
        shown_by.add_related(data, maintype, subtype, filename=name, cid=f"<{number}@picture.example>", disposition="inline")
    for maintype, subtype, name, data in files:
        if (maintype, subtype, name, data) not in pictures:
            mail.add_attachment(data, maintype=maintype, subtype=subtype, filename=name)
    for part in mail.walk():
        if part.is_multipart():
            # The standard library would draw one that nobody can draw again.
            part.set_boundary(f"=_{draw.getrandbits(96):024x}")
    return mail.as_bytes()


def _type(written: str) -> tuple[str, str]:
    """Part a content type; what stands in a message or a multipart would have to be messages itself."""
    maintype, _, subtype = written.partition("/")
    return ("application", "octet-stream") if maintype in ("message", "multipart") else (maintype, subtype or "octet-stream")


def _add_header(mail: EmailMessage, message: WrittenMessage, draw: random.Random) -> None:
    """Set the fields that every message has."""
    mail["From"] = _address(message.fields["from"])
    mail["To"] = Address("", "someone", "mailbox.example")
    mail["Subject"] = message.fields["subject"]
    sent = FIRST_DATE + timedelta(minutes=draw.randrange(DATE_RANGE_MINUTES))
    mail["Date"] = format_datetime(sent)
    mail["Message-ID"] = f"<{draw.getrandbits(64):016x}@{mail['From'].addresses[0].domain}>"
    if "reply-to" in message.fields:
        mail["Reply-To"] = _address(message.fields["reply-to"])
    mailer = draw.choice(MAILERS)
    if mailer:
        mail["X-Mailer"] = mailer


def _address(written: str) -> Address:
    """Read `Name <local@host>`; the name is written as its reader sees it, commas and all."""
    name, _, address = written.rstrip("> ").rpartition("<")
    local, _, host = address.rpartition("@")
    return Address(name.strip(' "'), local, host)


def _charset(text: str, draw: random.Random) -> str:
    """UTF-8 mostly; sometimes an older charset that holds the whole text."""
    fitting = [charset for charset in LEGACY_CHARSETS if _fits(text, charset)]
    return draw.choice(fitting) if fitting and draw.random() < 0.2 else "utf-8"  # noqa: PLR2004


def _fits(text: str, charset: str) -> bool:
    """Whether a charset holds every character."""
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _plain(message: WrittenMessage) -> str:
    """The body with its links below it, as plain-text mailers put them."""
    links = "".join(f"\n{shown}: {url}\n" if shown != url else f"\n{url}\n" for shown, url in message.links)
    return message.body + links


def _html(message: WrittenMessage, num_pictures: int) -> str:
    """The body as simple HTML, with a hidden preheader where one was written, and so many of the message's own pictures."""
    preheader = message.fields.get("preheader", "")
    hidden = f'<div style="display:none;max-height:0">{html.escape(preheader)}</div>\n' if preheader else ""
    paragraphs = "\n".join(f"<p>{html.escape(part).replace(chr(10), '<br>')}</p>" for part in message.body.strip().split("\n\n"))
    links = "\n".join(f'<p><a href="{html.escape(url)}">{html.escape(shown or url)}</a></p>' for shown, url in message.links)
    pictures = "".join(f'<p><img src="cid:{number}@picture.example"></p>\n' for number in range(num_pictures))
    return f"<!DOCTYPE html>\n<html><body>\n{hidden}{paragraphs}\n{links}\n{pictures}</body></html>\n"


def main() -> None:
    """Write the messages as files, or count them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to write the messages")
    parser.add_argument("--count", action="store_true", help="print counts by label and language")
    parser.add_argument("--check", action="store_true", help="print near-duplicates, counts by kind, and what surface gives away")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of --check to this file too")
    options = parser.parse_args()
    if not options.folder and not options.count and not options.check:
        parser.error("name a folder to write to, or ask for --count or --check")
    if options.folder:
        write(options.folder)
    if options.check:
        figures = check(list(read_all()))
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    counts = Counter((message.fields["language"], message.fields["label"]) for _, _, message in read_all())
    for (language, label), count in sorted(counts.items()):
        print(f"{language}\t{label}\t{count}")
    print(f"total\t{counts.total()}")


def check(messages: Sequence[tuple[str, int, WrittenMessage]]) -> dict[str, Any]:
    """Look the messages over and print what is found.

    Returns:
        The figures.
    """
    import written_check

    names = [f"{sitting} message {number}" for sitting, number, _ in messages]
    written = [message for _, _, message in messages]
    labels = written_check.as_labels(message.fields["label"] for message in written)
    allowed = kinds()
    unknown = [name for name, one in zip(names, written, strict=True) if one.fields["kind"] not in allowed[one.fields["label"]]]
    pairs = written_check.near_duplicates([f"{one.fields['subject']}\n{one.body}" for one in written])
    for later, earlier, likeness in pairs:
        print(f"{names[later]} repeats {names[earlier]} ({likeness:.0%})")
    for name in unknown:
        print(f"{name} is of a kind that is not on the list")
    _print_kinds(written)
    print(f"near-duplicates: {len(pairs)} of {len(written)} ({len(pairs) / len(written):.1%})")
    described = [written_check.surface(build(message)) for message in written]
    looked_at = {
        "what is drawn": written_check.DRAWN,
        "drawn and counted": written_check.DRAWN + written_check.COUNTED,
        "all of the surface, sender and marks too": tuple(described[0]),
    }
    rocas: dict[str, Any] = {}
    for name, features in looked_at.items():
        found = written_check.surface_judgement(described, labels, [sitting for sitting, _, _ in messages], features)
        print(f"{name}, across sittings: (1-ROCA) {found.value:.1f} % ({found.low:.1f} to {found.high:.1f}); chance is 50")
        rocas[name] = asdict(found)
    ranked = written_check.telling(described, labels)
    print("most telling alone:", ", ".join(f"{name} {value:.1f}" for name, value in ranked[:12]))
    return {
        "messages": len(written),
        "near_duplicates": [[names[later], names[earlier], likeness] for later, earlier, likeness in pairs],
        "unknown_kinds": unknown,
        "surface_one_minus_roca_percent": rocas,
        "features_one_minus_roca_percent": dict(ranked),
    }


def _print_kinds(written: Sequence[WrittenMessage]) -> None:
    """Print how many messages there are of each kind."""
    for label in ("ham", "spam"):
        found = Counter(one.fields["kind"] for one in written if one.fields["label"] == label)
        print(f"{len(found)} kinds of {label}:", ", ".join(f"{kind} {count}" for kind, count in found.most_common()))


def kinds() -> dict[str, frozenset[str]]:
    """Read the names that the kind of a message may bear, by label."""
    lines = (FOLDER / "kinds.txt").read_text(encoding="utf-8").splitlines()
    listed = (line.partition(": ") for line in lines)
    return {label: frozenset(names.split(", ")) for label, _, names in listed}


def read_all() -> Iterator[tuple[str, int, WrittenMessage]]:
    """Yield every message with its sitting and its number there."""
    for file in sorted(FOLDER.glob("sitting_*.txt")):
        for number, message in enumerate(read_sitting(file), start=1):
            yield file.stem, number, message


def is_never_trained_on(sitting: str) -> bool:
    """Whether a sitting is held out whole: every third is."""
    return int(sitting.rpartition("_")[2]) % 3 == 0


def write(folder: Path, *, is_held_out: bool | None = None) -> None:
    """Write messages as `folder/SITTING/LABEL/NUMBER.eml`.

    Args:
        folder: where to.
        is_held_out: True for the sittings that are never trained on (every third), False for the others, None for all.
    """
    for sitting, number, message in read_all():
        if is_held_out is not None and is_held_out != is_never_trained_on(sitting):
            continue
        target = folder / sitting / message.fields["label"] / f"{number:03d}.eml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(build(message))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
