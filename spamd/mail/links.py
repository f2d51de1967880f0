"""Hosts of links: what a URL leads to, what a text shows, and texts with their URLs cut down to hosts.

Parses no more of a URL than its host. Called by `html` and `wording`.
"""

import re

_MAX_URL = 2_000
_SCHEME = re.compile(r"\s*(?:[a-z][a-z0-9+.-]{0,20}:)?[/\\]{2,}([^/\\?#\s]*)", re.IGNORECASE)
_URL = re.compile(r"(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+", re.IGNORECASE)
_SHOWN = re.compile(r"\s*(?:https?://)?((?:[\w-]{1,63}\.){1,8}[a-z]{2,24})(?:[/?#:][^\s]*)?\s*", re.IGNORECASE)
_NOT_HOSTS = frozenset(
    str.split(
        """exe pdf doc docx xls xlsx zip rar txt html htm php jpg png gif asp aspx js py sh cfg md csv xml json yml yaml conf cpp
        hpp java rst log bin"""
    )
)


def host_of(url: str) -> str:
    """The host that a URL leads to, in lower case and without `www.`; empty where it names none (mailto:, #top)."""
    match = _SCHEME.match(url[:_MAX_URL])
    return _plain_host(match[1]) if match else ""


def _plain_host(authority: str) -> str:
    """Take user, port and `www.` from the authority of a URL."""
    host = authority.rpartition("@")[2].lower()
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return host.removeprefix("www.").strip(".")


def shown_host(text: str) -> str:
    """The host that a link's text claims to lead to, if the text is an address of the web; else empty."""
    match = _SHOWN.fullmatch(text)
    if not match or match[1].rpartition(".")[2].lower() in _NOT_HOSTS:
        return ""
    return _plain_host(match[1])


def shorten_urls(text: str) -> str:
    """Put the host in the place of every URL of a text."""
    if "://" not in text and "www." not in text.lower():
        return text
    return _URL.sub(_shorten, text)


def _shorten(match: re.Match[str]) -> str:
    """Keep a URL's host, and the punctuation that ends the sentence around it."""
    url = match[0]
    kept = url.rstrip(".,;:!?)]}>'*_")
    return (host_of(kept if "://" in kept else f"//{kept}") or "") + url[len(kept) :]


def is_same_site(first: str, second: str) -> bool:
    """Whether two hosts belong to one registered name, as far as one can tell without a list of registries."""
    return _site(first) == _site(second)


def _site(host: str) -> str:
    """The last two labels of a host, or three where the second last is short as in `co.uk`."""
    labels = host.split(".")
    is_short = len(labels) > 2 and len(labels[-2]) <= 3 and len(labels[-1]) == 2  # noqa: PLR2004  labels and letters
    return ".".join(labels[-3:] if is_short else labels[-2:])
