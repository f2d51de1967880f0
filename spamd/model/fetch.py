"""Published GPT-2 weights and their vocabulary, fetched from the Hugging Face hub: the only code that goes out to the network.

Every file is pinned by revision, size and sha256 below, so it does not matter who serves it. What arrives is written beside its
final name as `.partial` and takes that name only when all of it is there and right; a run that was cut off goes on where it was.
Called by `spamd-admin model fetch` alone; the daemon never fetches.

Security: nothing that a server says is believed but for bytes that have the pinned sha256. No more than the pinned size is ever
written. Proxies are taken from the environment (`https_proxy`), redirections are followed, credentials are not sent.
"""

import contextlib
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spamd import __version__
from spamd.errors import CheckpointError, FetchError, UnknownNameError
from spamd.model.checksum import sha256_of
from spamd.model.tokenizer import convert_published

ENDPOINT = "https://huggingface.co"
TIMEOUT_SECONDS = 30.0
"""How long a connection may take, or stay silent."""

MAX_CONNECTIONS = 6
"""A connection that was cut after it had brought something is opened again, so many in all."""

PAUSE_SECONDS = 1.0
"""Before a connection is opened again."""

FOLDER_MODE, FILE_MODE = 0o755, 0o644
"""Whatever the umask: root fetches, and another user's daemon must read."""

_CHUNK_BYTES = 1 << 20
_MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of one revision of one repository.

    Attributes:
        path: below the endpoint.
        num_bytes: its size.
        sha256: of its content, lower-case hex.
    """

    path: str
    num_bytes: int
    sha256: str


WEIGHTS = {
    "gpt2": Pin(
        "openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors",
        548_105_171,
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": Pin(
        "openai-community/gpt2-medium/resolve/6dcaa7a952f72f9298047fd5137cd6e4f05f41da/model.safetensors",
        1_519_984_962,
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
    ),
    "gpt2-large": Pin(
        "openai-community/gpt2-large/resolve/32b71b12589c2f8d625668d2335a01cac3249519/model.safetensors",
        3_247_159_078,
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
    ),
    "gpt2-xl": Pin(
        "openai-community/gpt2-xl/resolve/15ea56dee5df4983c59b2538573817e1667135e2/model.safetensors",
        6_431_829_964,
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
    ),
}
"""The four published models."""

VOCABULARY = Pin(
    "openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/vocab.json",
    1_042_301,
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
"""The vocabulary that all four share."""

CONVERTED_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
"""Of the same vocabulary as a `.tiktoken` file."""

Progress = Callable[[int, int], None]
"""Told how many bytes of the weights are there, and how many there will be."""


class _CutError(Exception):
    """A connection ended before its time."""


def fetch_weights(name: str, folder: Path, *, endpoint: str = ENDPOINT, progress: Progress | None = None) -> Path:
    """Bring a published model and its vocabulary onto this machine; what is here already is checked and kept.

    Args:
        name: one of `WEIGHTS`.
        folder: where published weights lie, a folder for each model; made if missing.
        endpoint: address of the hub or of a mirror of it.
        progress: told how far the weights are.

    Returns:
        The folder of the model: `model.safetensors` and `vocabulary.tiktoken`.

    Raises:
        UnknownNameError: no published model has this name.
        FetchError: the network or the disk failed; what arrived is kept, and the next call goes on there.
        CheckpointError: what was served is not the published file; none of it is kept.
    """
    if name not in WEIGHTS:
        raise UnknownNameError(f"there is no published model {name!r}; there are: {', '.join(WEIGHTS)}.")
    if not endpoint.startswith(("http://", "https://")):
        raise FetchError(f"{endpoint!r} is no address to fetch from; it must begin with https:// or http://.")
    target = folder / name
    try:
        for place in (folder, target):
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                place.chmod(FOLDER_MODE)
        with _locked(target):
            _fetch_vocabulary(target, endpoint)
            _fetch(WEIGHTS[name], target / "model.safetensors", endpoint, progress or (lambda _done, _total: None))
    except OSError as error:
        raise FetchError(
            f"{target}: cannot be written: {error.strerror or error}; nothing unfinished bears a final name."
        ) from None
    return target


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep a second fetch of the same model out while this one writes."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise FetchError(f"{target}: is being fetched by another process; wait for that one.") from None
    finally:
        os.close(descriptor)


def _fetch_vocabulary(target: Path, endpoint: str) -> None:
    """Fetch the vocabulary and keep it in the form that the tokenizer reads."""
    file = target / "vocabulary.tiktoken"
    if file.is_file() and sha256_of(file) == CONVERTED_SHA256:
        return
    published = target / "vocab.json"
    _fetch(VOCABULARY, published, endpoint, lambda _done, _total: None)
    draft = file.with_suffix(".partial")
    draft.write_bytes(convert_published(published.read_bytes()))
    _finish(draft, file)
    published.unlink()


def _fetch(pin: Pin, file: Path, endpoint: str, progress: Progress) -> None:
    """Bring one file here, unless it is here already and right."""
    if file.is_file() and sha256_of(file) == pin.sha256:
        progress(pin.num_bytes, pin.num_bytes)
        return
    url = f"{endpoint.rstrip('/')}/{pin.path}"
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("ab") as content:
            if content.tell() > pin.num_bytes:
                _empty(content)
            _check_space(pin.num_bytes - content.tell(), file.parent)
            _receive_all(url, content, pin, progress)
        _check_content(partial, pin, url)
    except CheckpointError:
        partial.unlink()
        raise
    except FetchError:
        if partial.stat().st_size == 0:
            partial.unlink()
        raise
    _finish(partial, file)


def _check_content(partial: Path, pin: Pin, url: str) -> None:
    """Refuse a file with another checksum."""
    found = sha256_of(partial)
    if found != pin.sha256:
        raise CheckpointError(f"{url}: is not the published file: its sha256 is {found}, and {pin.sha256} was expected.")


def _receive_all(url: str, content: IO[bytes], pin: Pin, progress: Progress) -> None:
    """Append what is missing, opening the connection again where it was cut on the way."""
    for _ in range(MAX_CONNECTIONS):
        before = content.tell()
        cause = "the server sent less than it had announced"
        try:
            if before < pin.num_bytes:
                _receive(url, content, pin, progress)
        except _CutError as error:
            cause = f"{error}"
        if content.tell() >= pin.num_bytes:
            return
        if content.tell() == before:
            break
        time.sleep(PAUSE_SECONDS)
    content.flush()
    raise FetchError(
        f"{url}: broke off, {cause}; {content.tell():,} of {pin.num_bytes:,} bytes are here; "
        "run the same command again, and it goes on from there."
    )


def _receive(url: str, content: IO[bytes], pin: Pin, progress: Progress) -> None:
    """Append what one connection brings, and never more than the pinned size."""
    with _open(url, content.tell(), pin) as response:
        if response.status != http.client.PARTIAL_CONTENT and content.tell():
            # The server begins at the beginning, and so must we.
            _empty(content)
        while chunk := _read(response, min(_CHUNK_BYTES, pin.num_bytes - content.tell())):
            content.write(chunk)
            progress(content.tell(), pin.num_bytes)


def _empty(content: IO[bytes]) -> None:
    """Begin a file anew."""
    content.seek(0)
    content.truncate()


def _open(url: str, start: int, pin: Pin) -> http.client.HTTPResponse:
    """Ask for a file from a byte on, and refuse answers that cannot be it."""
    headers = {"User-Agent": f"spamd/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310  the scheme was checked
            urllib.request.Request(url, headers=headers),  # noqa: S310
            timeout=TIMEOUT_SECONDS,
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise CheckpointError(f"{url}: is not the published file: it ends before byte {start:,}.") from None
        raise FetchError(f"{url}: the server answered {error.code} {error.reason}; see whether the address is right.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"{url}: cannot be reached: {reason}; see whether this machine may go out, or name a mirror.") from None
    served = response.headers.get("Content-Length")
    begin = start if response.status == http.client.PARTIAL_CONTENT else 0
    if served is not None and served != str(pin.num_bytes - begin):
        response.close()
        size = f"{begin + int(served):,} bytes, and {pin.num_bytes:,} were expected"
        raise CheckpointError(f"{url}: is not the published file: it has {size}.")
    return response


def _read(response: http.client.HTTPResponse, num_bytes: int) -> bytes:
    """Read up to so many bytes; tell a broken network from a broken disk."""
    try:
        return response.read(num_bytes)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(f"{error}" or type(error).__name__) from None


def _check_space(num_bytes: int, folder: Path) -> None:
    """Say at once that the disk is too small, not after an hour."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise FetchError(
            f"{folder}: has {free // _MEGABYTE:,} MB free, and {num_bytes // _MEGABYTE + 1:,} MB are still to come; make room."
        )


def _finish(draft: Path, file: Path) -> None:
    """Bring a complete file to the disk and give it its final name."""
    with draft.open("rb") as content:
        os.fsync(content.fileno())
    draft.chmod(FILE_MODE)
    draft.replace(file)
