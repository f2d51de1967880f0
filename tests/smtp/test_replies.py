"""The proxy's own replies."""

import re

import pytest

from spamd import errors
from spamd.smtp import replies
from spamd.smtp.replies import REPLIES, Reply, reply_to

OWN_REPLIES = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


def error_classes(root=errors.SpamdError):
    """All classes of the error tree."""
    return {root}.union(*(error_classes(below) for below in root.__subclasses__()))


def test_every_error_has_a_reply():
    """The table holds each class of the error tree and nothing else."""
    ours = {one for one in error_classes() if one.__module__ == errors.__name__}

    assert ours == set(REPLIES)


def test_every_error_is_temporary():
    """No error of ours makes a client give a message up."""
    assert {4} == {reply.code // 100 for reply in REPLIES.values()}


@pytest.mark.parametrize("error", [ValueError("secret"), MemoryError(), errors.RelayError("secret")])
def test_errors_do_not_leak(error):
    """The reply to an error is temporary and says nothing of its text."""
    reply = reply_to(error)

    assert (4, False) == (reply.code // 100, b"secret" in reply.wire)


@pytest.mark.parametrize("name", OWN_REPLIES)
def test_replies_are_well_formed(name):
    """Each own reply is one line of ASCII with an enhanced code of its own class, where RFC 2034 allows one."""
    reply = OWN_REPLIES[name]

    assert re.fullmatch(rb"\d{3} [ -~]{1,500}", reply.wire)
    assert reply.code == 354 or reply.wire[4:6] == reply.wire[:1] + b"."


def test_foreign_replies_are_cleaned():
    """What a next hop says becomes printable ASCII, while code and lines stay."""
    reply = Reply(550, "550-Non désiré\x07\r\n550 \x00fin".encode())

    assert b"550-Non d??sir???\r\n550 ?fin" == reply.clean().wire


def test_several_lines():
    """All lines but the last bear a hyphen."""
    assert b"250-a\r\n250-b\r\n250 c" == Reply.of_lines(250, ["a", "b", "c"]).wire
