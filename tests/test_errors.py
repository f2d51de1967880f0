"""The error tree is whole: each class is drawn, has an exit code and a reply, and is temporary unless proven otherwise."""

import os
import re

import pytest

from spamd import errors
from spamd.cli import EXIT_CODES
from spamd.smtp.replies import REPLIES


def tree(kind: type[errors.SpamdError] = errors.SpamdError) -> list[type[errors.SpamdError]]:
    """A class and all below it that spamd itself defines."""
    below = [found for child in kind.__subclasses__() if child.__module__.startswith("spamd.") for found in tree(child)]
    return [kind, *below]


def drawn() -> dict[str, str]:
    """The classes of the drawing in the module's docstring, each with the one that it hangs from."""
    found: dict[str, str] = {}
    last: dict[int, str] = {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"((?:\s|\|)*)(?:[|`]- )?([A-Z]\w+(?:Error|Timeout))\b", line):
            depth = line.index(match[2]) // 3
            last[depth] = match[2]
            found[match[2]] = last.get(depth - 1, "")
    return found


def test_each_class_is_drawn_where_it_belongs():
    """The drawing shows every class below the one that it is derived from, and no other."""
    expected = {kind.__name__: "" if kind is errors.SpamdError else kind.__base__.__name__ for kind in tree()}

    assert expected == drawn()


def test_all_errors_live_in_one_module():
    """No other module of spamd defines an error of its own."""
    assert {"spamd.errors"} == {kind.__module__ for kind in tree()}


@pytest.mark.parametrize("kind", tree())
def test_each_class_has_an_exit_code(kind):
    """The command line says by its exit code what kind of failure it was, as sysexits.h has it."""
    assert os.EX_USAGE <= EXIT_CODES[kind] <= os.EX_CONFIG


@pytest.mark.parametrize("kind", tree())
def test_each_class_has_a_reply(kind):
    """The proxy answers each class, and never with a refusal for good: a wrong 5xx loses mail, a wrong 4xx does not."""
    assert 400 <= REPLIES[kind].code < 500


@pytest.mark.parametrize("kind", tree())
def test_nothing_is_permanent(kind):
    """No error is permanent by itself."""
    assert not kind.permanent


@pytest.mark.parametrize("kind", tree())
def test_each_class_says_when_it_is_raised(kind):
    """Each class has a docstring of its own."""
    assert kind.__doc__
    assert "\n" not in kind.__doc__.splitlines()[0]


def test_a_refusal_carries_the_reply():
    """What the next hop said stays with the error, byte for byte, and is absent where it said nothing."""
    assert b"452 4.2.2 mailbox full" == errors.RelayError("refused.", b"452 4.2.2 mailbox full").reply
    assert errors.RelayError("silent.").reply is None
    assert "refused." == str(errors.RelayError("refused.", b"452"))
