r"""Dialogs as plain text, played against a proxy between a client and a recording next hop.

Each file in `tests/dialogs/` begins with a comment that says what holds, and goes on line by line:

    C: text         the client sends the text and CRLF; lines in a row are sent in one piece
    C> text         the same without CRLF
    S: pattern      the next line from the proxy; `*` stands for anything, `closed` for the end of the connection
    # text          a comment
    @word values    a directive, before the first line:
        @settings key=value ...     fields of SmtpSettings
        @actions key=value ...      fields of ActionSettings
        @judge ham|spam|unscored    what the judge says
        @on_failure pass|defer      what becomes of a message without a verdict
        @protocol smtp|lmtp         what the next hop speaks
        @extensions A|B C|...       what the next hop announces
        @fault stage kind           what breaks at the next hop, any number of times
        @reply line => reply        what the next hop answers to a line; `.` is the end of a message
    or among the lines:
        @half-close                 the client will send no more
    or at the end:
        @stored number              messages that the next hop has
        @content text               what the last of them holds below our fields
        @field text                 what stands among our fields in it
        @got line                   a command that the next hop was sent, just so
        @never text                 what is in no command that it was sent

In texts, `\r`, `\n`, `\0`, `\\` and `\xHH` mean what they mean in Python, and `{text*count}` repeats a text.
"""

import asyncio
import fnmatch
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from next_hop import EXTENSIONS, Fault, NextHop
from smtp_peers import VERDICTS, FixedJudge, below_our_fields

from spamd.config import ActionSettings

FOLDER = Path(__file__).parent.parent / "dialogs"
TIMEOUT_SECONDS = 10.0


@dataclass
class Dialog:
    """A dialog as written: directives by word, and the lines of both sides in order."""

    directives: dict[str, list[str]] = field(default_factory=dict)
    lines: list[tuple[str, bytes]] = field(default_factory=list)

    def values(self, word):
        """The last `key=value ...` of a directive as a dictionary."""
        pairs = [pair.partition("=") for line in self.directives.get(word, []) for pair in line.split()]
        return {key: [value] if key == "allowed_clients" else value for key, _, value in pairs}

    def one(self, word, usual=""):
        """The value of a directive that is given at most once."""
        return self.directives.get(word, [usual])[-1]


def in_bytes(text):
    """A text of a dialog as bytes."""
    raw = text.encode("utf-8").decode("latin-1").encode("latin-1").decode("unicode_escape").encode("latin-1")
    return re.sub(rb"\{([^{}]+)\*(\d+)\}", lambda match: match[1] * int(match[2]), raw)


def read_dialog(file):
    """Parse a dialog."""
    dialog = Dialog()
    for line in file.read_text(encoding="utf-8").splitlines():
        kind, _, text = line.partition(" ")
        if kind in ("C:", "C>", "S:"):
            dialog.lines.append((kind, in_bytes(text) + (b"\r\n" if kind == "C:" else b"")))
        elif kind == "@half-close":
            dialog.lines.append((kind, b""))
        elif kind.startswith("@"):
            dialog.directives.setdefault(kind[1:], []).append(text)
        else:
            assert not line or kind == "#", f"{file.name}: {line!r} is not a line of a dialog"
    return dialog


async def play(dialog, address):
    """Play both sides; the first difference fails."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for kind, text in dialog.lines:
        if kind == "S:":
            line = await asyncio.wait_for(reader.readline(), TIMEOUT_SECONDS)
            said = line.decode("latin-1").removesuffix("\r\n") if line else "closed"
            assert fnmatch.fnmatchcase(said, text.decode("latin-1").replace("[", "[[]")), (text, said)
        elif kind == "@half-close":
            writer.write_eof()
        else:
            writer.write(text)
    writer.close()
    await writer.wait_closed()


def check(dialog, hop):
    """Look at what the next hop has."""
    stored = hop.messages
    if "stored" in dialog.directives:
        assert int(dialog.one("stored")) == len(stored)
    for text in dialog.directives.get("content", []):
        assert in_bytes(text) == below_our_fields(stored[-1].content)
    for text in dialog.directives.get("field", []):
        assert in_bytes(text) in stored[-1].content.removesuffix(below_our_fields(stored[-1].content))
    for text in dialog.directives.get("got", []):
        assert in_bytes(text) in hop.commands
    for text in dialog.directives.get("never", []):
        assert [] == [line for line in hop.commands if in_bytes(text) in line]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
async def test_dialog(start, file):
    """The dialog goes as written."""
    dialog = read_dialog(file)
    pairs = [one.partition(" => ") for one in dialog.directives.get("reply", [])]
    replies = {in_bytes(line): in_bytes(reply) for line, _, reply in pairs}
    extensions = dialog.one("extensions")
    announced = tuple(in_bytes(extensions).split(b"|")) if extensions else EXTENSIONS
    faults = [Fault(*one.split()) for one in dialog.directives.get("fault", [])]
    async with NextHop(dialog.one("protocol", "smtp"), faults, announced, replies.get) as hop:
        proxy = await start(
            FixedJudge(VERDICTS[dialog.one("judge", "ham")]),
            next_hop=hop,
            next_hop_protocol=dialog.one("protocol", "smtp"),
            actions=ActionSettings(**dialog.values("actions")),
            on_failure=dialog.one("on_failure", "pass"),
            **dialog.values("settings"),
        )
        await play(dialog, proxy.addresses[0])
        check(dialog, hop)


def test_every_dialog_says_what_holds():
    """Each dialog opens with a comment, and there are some."""
    openings = [file.read_text(encoding="utf-8")[:2] for file in FOLDER.glob("*.txt")]

    assert {"# "} == set(openings)
