"""Address and subject fields as text: who a message claims to be from, who it is for, and what it claims to be about.

Called by `text`. Patterns only, in linear time: addresses in spam follow no grammar.
"""

import re
from collections.abc import Mapping

_MAX_RECIPIENTS = 3

_ADDRESS = re.compile(r"<([^<>]*)>[^<>]*$")
_ANY_ADDRESS = re.compile(r"(?<![\w.+=-])[\w.+=-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,8}")
_BRACKETED = re.compile(r"\s*[\[({*]+([^\])}*\[({]{1,40})[\])}*]+:?\s*")
_FILTER_TAG = re.compile(
    r"\W*(?:(?:suspected|possible|probable|probably|likely|potential) )?(?:spam|junk|bulk)(?:mail|score|hits|[\W\d])*",
    re.IGNORECASE,
)


def split_address(text: str) -> tuple[str, str]:
    """Split an address field into display name and address."""
    match = _ADDRESS.search(text)
    if match:
        return text[: match.start()].strip().strip('"').replace('\\"', '"').replace('"', ""), match[1]
    address, _, comment = text.partition("(")
    return comment.rpartition(")")[0].strip(), address


def without_tags(subject: str) -> str:
    """Take the tags of other filters from the front of a subject: `[SPAM]`, `***SPAM***`, `{Spam?}`."""
    while (match := _BRACKETED.match(subject)) and _FILTER_TAG.fullmatch(match[1]):
        subject = subject[match.end() :]
    return subject


def recipients_of(fields: Mapping[str, bytes]) -> frozenset[str]:
    """The addresses that a message is for, in lower case; lists left out; none where they are so many that they tell nothing."""
    found: set[str] = set()
    for name in ("to", "delivered-to", "x-original-to", "envelope-to"):
        found.update(_ANY_ADDRESS.findall(fields.get(name, b"")[:2_000].decode("utf-8", "replace").lower()))
    found = {address for address in found if "@list" not in address}
    return frozenset(found) if len(found) <= _MAX_RECIPIENTS else frozenset()


def without_recipients(text: str, recipients: frozenset[str]) -> str:
    """Put `[recipient]` in the place of the recipients' addresses."""
    if not recipients or "@" not in text:
        return text
    return _ANY_ADDRESS.sub(lambda match: "[recipient]" if match[0].lower() in recipients else match[0], text)
