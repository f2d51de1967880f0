"""The values that settings may have: addresses, networks, lists, one-line texts.

Each refusal quotes the value and says what to write. Pure functions on strings; no name is resolved and no file touched. Called
by `spamd.config.sections`, through pydantic.
"""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

MAX_PORT = 65_535
MAX_UNIX_PATH_BYTES = 107


def _address(value: str) -> str:
    """Accept `host:port`, `[v6]:port` and `unix:/path`."""
    if value.startswith("unix:/"):
        return _unix_address(value)
    host, _, port = value.rpartition(":")
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        is_fit = re.fullmatch(r"\[.+\]|[A-Za-z0-9._-]+", host) and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= MAX_PORT
    except ValueError:
        is_fit = False
    if not is_fit:
        raise ValueError(f"{value!r} is no address; write host:port, [v6]:port or unix:/path.")
    return value


def _unix_address(value: str) -> str:
    """Accept a path that a UNIX socket can have."""
    path = value.removeprefix("unix:")
    if "\0" in path or path.endswith("/") or len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"{value!r} is no path of a UNIX socket; write unix:/path of at most {MAX_UNIX_PATH_BYTES} bytes.")
    return value


def _address_or_none(value: str) -> str:
    """Accept an address, or nothing."""
    return _address(value) if value else value


def _network(value: str) -> str:
    """Accept an address or a network in CIDR notation."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; write an address, or a network such as 192.0.2.0/24.") from None
    return value


def _split(value: Any) -> Any:
    """Take a list from the environment: `a, b` or a JSON list."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        return _json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _table(value: Any) -> Any:
    """Take a table from the environment, as JSON."""
    return _json(value) if isinstance(value, str) else value


def _json(value: str) -> Any:
    """Read JSON, and say so where it is none."""
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not JSON: {error}.") from None
    except RecursionError:
        raise ValueError("is not JSON that anybody wrote: brackets stand in brackets by the thousand.") from None


def _device(value: str) -> str:
    """Accept `auto`, `cpu`, `cuda`, one of several GPUs and all of them."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+|:all)?", value):
        raise ValueError(f"{value!r} is no device; write auto, cpu, cuda, cuda:1 or cuda:all.")
    return value


def _one_line(value: str) -> str:
    """Accept printable ASCII on one line: the text goes into a header field."""
    if not value.isascii() or not (value.isprintable() or not value):
        raise ValueError(f"{value!r} must be printable ASCII on one line.")
    return value


def _hostname(value: str) -> str:
    """Accept nothing, a host name or an address literal: it goes into greetings and header fields."""
    if not re.fullmatch(r"[A-Za-z0-9._-]*|\[[A-Za-z0-9:.]+\]", value):
        raise ValueError(f"{value!r} is no host name; write mx.example.org, or leave it empty to take the machine's.")
    return value


def _mailbox(value: str) -> str:
    """Accept nothing, or an address as it stands in RCPT TO without the angle brackets."""
    if value and not re.fullmatch(r"[!-;=?A-~]+@[!-;=?A-~]+", value):
        raise ValueError(f"{value!r} is no mail address; write user@domain.")
    return value


def _url(value: str) -> str:
    """Accept nothing, an https:// address, or an http:// one on this machine: mail and token cross no network in plain text."""
    match = re.fullmatch(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(/[A-Za-z0-9._~/-]*)?", value)
    if value and (not match or int(match[3] or 0) > MAX_PORT):
        raise ValueError(f"{value!r} is no address to ask; write https://host:port, with a path behind it where there is one.")
    if match and match[1] == "http" and not re.fullmatch(r"localhost|127\.[0-9.]+|\[::1\]", match[2]):
        raise ValueError(f"{value!r} would carry mail and token over a network in plain text; write https://.")
    return value.rstrip("/")


def _mode(value: str) -> str:
    """Accept permission bits as chmod takes them."""
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f"{value!r} is no mode; write four octal digits such as 0660.")
    return value


def _path(value: Any) -> Any:
    """Refuse what names no file or folder: an empty text would silently mean the folder that spamd was started in."""
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError(f"{value!r} is no path; write an absolute one, or leave the setting out.")
    return value


def _absolute(path: Path) -> Path:
    """Resolve `~` and relative paths, which would mean something else to a daemon started elsewhere."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{path} names the home of a user who is not known here; write an absolute path.") from None


Address = Annotated[str, AfterValidator(_address)]
AddressOrNone = Annotated[str, AfterValidator(_address_or_none)]
Device = Annotated[str, AfterValidator(_device)]
File = Annotated[Path, BeforeValidator(_path), AfterValidator(_absolute)]
Folder = Annotated[Path, BeforeValidator(_path), AfterValidator(_absolute)]
Hostname = Annotated[str, AfterValidator(_hostname)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
Mode = Annotated[str, AfterValidator(_mode)]
Network = Annotated[str, AfterValidator(_network)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Table = Annotated[dict[str, Any], NoDecode, BeforeValidator(_table)]
OneLine = Annotated[str, AfterValidator(_one_line)]
Url = Annotated[str, AfterValidator(_url)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
