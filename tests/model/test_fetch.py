"""Fetching against a server on loopback: whole, cut, wrong, missing, silent; and nothing unfinished under a final name."""

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub import Hub, serving

from spamd.errors import CheckpointError, FetchError, UnknownNameError
from spamd.model import fetch
from spamd.model.fetch import Pin, fetch_weights
from spamd.model.gpt2 import PUBLISHED
from spamd.model.tokenizer import END_OF_TEXT, Tokenizer, _byte_level_values, convert_published

CONTENT = bytes(range(256)) * 40
WEIGHTS_PATH, VOCABULARY_PATH = "/gpt2/resolve/abc/model.safetensors", "/gpt2/resolve/abc/vocab.json"
VOCABULARY = json.dumps(_byte_level_values() | {END_OF_TEXT: 256}).encode()


def _pin(path: str, content: bytes) -> Pin:
    """The pin of a file with this content."""
    return Pin(path.lstrip("/"), len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a small `gpt2`, pinned as it is; no pauses, short waits."""
    monkeypatch.setattr(fetch, "WEIGHTS", {"gpt2": _pin(WEIGHTS_PATH, CONTENT)})
    monkeypatch.setattr(fetch, "VOCABULARY", _pin(VOCABULARY_PATH, VOCABULARY))
    monkeypatch.setattr(fetch, "CONVERTED_SHA256", hashlib.sha256(convert_published(VOCABULARY)).hexdigest())
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "_CHUNK_BYTES", 1000)
    with serving(Hub({WEIGHTS_PATH: CONTENT, VOCABULARY_PATH: VOCABULARY})) as hub:
        yield hub


def _names(folder: Path) -> set[str]:
    """Names of the files of the fetched model."""
    return {file.name for file in (folder / "gpt2").iterdir()}


def _weights_requests(hub: Hub) -> list[str | None]:
    """Range headers of the requests for the weights."""
    return [wanted for path, wanted in hub.requests if path == WEIGHTS_PATH]


def test_model_and_vocabulary_arrive(hub: Hub, tmp_path: Path) -> None:
    """Weights and vocabulary lie in the folder of the model, and nothing else does."""
    seen: list[tuple[int, int]] = []

    folder = fetch_weights("gpt2", tmp_path, endpoint=hub.url, progress=lambda *state: seen.append(state))

    assert tmp_path / "gpt2" == folder
    assert {"model.safetensors", "vocabulary.tiktoken"} == _names(tmp_path)
    assert CONTENT == (folder / "model.safetensors").read_bytes()
    assert 257 == Tokenizer.from_file(folder / "vocabulary.tiktoken").vocab_size
    assert (len(CONTENT), len(CONTENT)) == seen[-1]
    assert sorted(seen) == seen


def test_another_user_may_read_what_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Under a strict umask, too, folders and files of published weights are there for the daemon's user to read."""
    before = os.umask(0o077)
    try:
        folder = fetch_weights("gpt2", tmp_path / "weights", endpoint=hub.url)
    finally:
        os.umask(before)

    assert [0o755, 0o755] == [path.stat().st_mode & 0o777 for path in (folder.parent, folder)]
    assert {0o644} == {path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_what_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    """A second call checks the files and asks for nothing."""
    fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    hub.requests.clear()
    seen: list[tuple[int, int]] = []

    fetch_weights("gpt2", tmp_path, endpoint=hub.url, progress=lambda *state: seen.append(state))

    assert [] == hub.requests
    assert [(len(CONTENT), len(CONTENT))] == seen


def test_damaged_files_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    """Files that lost their content on this disk are replaced."""
    folder = fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    (folder / "model.safetensors").write_bytes(CONTENT[:-1] + b"?")
    (folder / "vocabulary.tiktoken").write_bytes(b"")

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert CONTENT == (folder / "model.safetensors").read_bytes()
    assert 257 == Tokenizer.from_file(folder / "vocabulary.tiktoken").vocab_size


def test_redirections_are_followed(hub: Hub, tmp_path: Path) -> None:
    """The hub sends on to where the files lie."""
    fetch_weights("gpt2", tmp_path, endpoint=f"{hub.url}/moved/")

    assert {"model.safetensors", "vocabulary.tiktoken"} == _names(tmp_path)


def test_cut_connection_goes_on_by_itself(hub: Hub, tmp_path: Path) -> None:
    """A connection that breaks after it brought something is opened again where it broke."""
    hub.cut_after = [10**9, 3000, 2500]

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [None, "bytes=3000-", "bytes=5500-"] == _weights_requests(hub)
    assert CONTENT == (tmp_path / "gpt2" / "model.safetensors").read_bytes()


def test_next_call_goes_on_where_the_last_was_cut(hub: Hub, tmp_path: Path) -> None:
    """A fetch that broke off says how far it came, and the same command goes on from there."""
    hub.cut_after = [10**9, 4000, 0]

    with pytest.raises(FetchError, match=r"broke off, .*; 4,000 of 10,240 bytes are here; run the same command again"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    assert {"model.safetensors.partial", "vocabulary.tiktoken"} == _names(tmp_path)
    hub.requests.clear()
    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [(WEIGHTS_PATH, "bytes=4000-")] == hub.requests
    assert CONTENT == (tmp_path / "gpt2" / "model.safetensors").read_bytes()


def test_server_that_always_cuts_is_given_up(hub: Hub, tmp_path: Path) -> None:
    """After a few cut connections the fetch ends with a sentence and keeps what came."""
    hub.cut_after = [10**9, *[100] * 50]

    with pytest.raises(FetchError, match="600 of 10,240 bytes are here"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)


def test_server_that_knows_no_parts_begins_anew(hub: Hub, tmp_path: Path) -> None:
    """A server that answers a request for the rest with the whole does not damage the file."""
    hub.cut_after = [10**9, 3000]
    hub.has_ranges = False

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [None, "bytes=3000-"] == _weights_requests(hub)
    assert CONTENT == (tmp_path / "gpt2" / "model.safetensors").read_bytes()


def test_answers_without_a_length_are_read(hub: Hub, tmp_path: Path) -> None:
    """A server that does not say how long its answer is serves as well."""
    hub.has_lengths = False

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert CONTENT == (tmp_path / "gpt2" / "model.safetensors").read_bytes()


def test_endless_answer_is_not_read_beyond_the_pinned_size(hub: Hub, tmp_path: Path) -> None:
    """A server cannot fill the disk."""
    hub.has_lengths = False
    hub.files[WEIGHTS_PATH] = CONTENT * 100
    sizes: list[int] = []

    fetch_weights("gpt2", tmp_path, endpoint=hub.url, progress=lambda done, _total: sizes.append(done))

    assert len(CONTENT) == max(sizes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-1] + b"?", "is not the published file: its sha256 is"),
        (b"<html>log in first</html>", "is not the published file: it has 25 bytes, and 10,240 were expected"),
        (CONTENT * 2, "is not the published file: it has 20,480 bytes"),
    ],
)
def test_wrong_content_is_not_kept(hub: Hub, tmp_path: Path, content: bytes, words: str) -> None:
    """Corrupt, foreign and overlong files are refused and leave nothing behind."""
    hub.files[WEIGHTS_PATH] = content

    with pytest.raises(CheckpointError, match=words):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert {"vocabulary.tiktoken"} == _names(tmp_path)


def test_wrong_vocabulary_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    """A vocabulary with another checksum is refused before the weights are asked for."""
    hub.files[VOCABULARY_PATH] = VOCABULARY.replace(b" ", b"\t", 1)

    with pytest.raises(CheckpointError, match=r"vocab\.json: is not the published file"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert set() == _names(tmp_path)
    assert [] == _weights_requests(hub)


def test_file_that_shrank_is_not_the_published_one(hub: Hub, tmp_path: Path) -> None:
    """A server that cannot serve the rest of a file serves another file; the part that is here is dropped."""
    hub.cut_after = [10**9, 4000, 0]
    with pytest.raises(FetchError, match="4,000 of 10,240"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    hub.files[WEIGHTS_PATH] = CONTENT[:3000]

    with pytest.raises(CheckpointError, match="is not the published file: it ends before byte 4,000"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert {"vocabulary.tiktoken"} == _names(tmp_path)


def test_too_large_a_part_is_dropped(hub: Hub, tmp_path: Path) -> None:
    """A partial file that is larger than the whole is begun anew."""
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "model.safetensors.partial").write_bytes(CONTENT + b"more")

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [None] == _weights_requests(hub)
    assert CONTENT == (tmp_path / "gpt2" / "model.safetensors").read_bytes()


def test_complete_part_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    """A file that was whole when the machine went down is only checked and named."""
    fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    hub.requests.clear()
    (tmp_path / "gpt2" / "model.safetensors").rename(tmp_path / "gpt2" / "model.safetensors.partial")

    fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [] == hub.requests


@pytest.mark.parametrize("status", [404, 403, 429, 500, 503])
def test_refusals_are_one_sentence(hub: Hub, tmp_path: Path, status: int) -> None:
    """What the server answered is in the sentence, and no file is left."""
    hub.status = status

    with pytest.raises(FetchError, match=f"the server answered {status} "):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert set() == _names(tmp_path)


def test_no_network_is_one_quick_sentence(tmp_path: Path) -> None:
    """A port that nobody listens on is answered at once, not after many retries."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        start = time.monotonic()

        with pytest.raises(FetchError, match=r"cannot be reached: .*Connection refused.*; see whether this machine may go out"):
            fetch_weights("gpt2", tmp_path, endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")

    assert time.monotonic() - start < 1.0
    assert set() == _names(tmp_path)


def test_name_that_does_not_resolve_is_one_sentence(tmp_path: Path) -> None:
    """A machine without name service is told so."""
    with pytest.raises(FetchError, match=r"cannot be reached: .*nowhere"):
        fetch_weights("gpt2", tmp_path, endpoint="https://nowhere.invalid")


def test_silent_server_is_given_up(hub: Hub, tmp_path: Path) -> None:
    """A server that accepts and says nothing is given up after the time limit."""
    hub.is_silent = True

    with pytest.raises(FetchError, match=r"cannot be reached: .*timed out"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)


@pytest.mark.parametrize("endpoint", ["file:///etc", "ftp://host", "huggingface.co", ""])
def test_only_http_is_spoken(tmp_path: Path, endpoint: str) -> None:
    """Other schemes are refused before anything is opened."""
    with pytest.raises(FetchError, match="is no address to fetch from"):
        fetch_weights("gpt2", tmp_path, endpoint=endpoint)


def test_unknown_model_lists_the_names(tmp_path: Path) -> None:
    """A name that is none of the four is answered with the four."""
    with pytest.raises(UnknownNameError, match="no published model 'gpt3'; there are: gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        fetch_weights("gpt3", tmp_path)


def test_full_disk_is_told_before_it_is_full(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free space is one sentence with both numbers, before anything is fetched."""
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=9))

    with pytest.raises(FetchError, match="has 0 MB free, and 1 MB are still to come; make room"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert [] == hub.requests


def test_disk_that_fills_up_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    """A write that fails on the way ends in a sentence, with nothing under the final name."""
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "model.safetensors.partial").symlink_to("/dev/full")

    with pytest.raises(FetchError, match="gpt2: cannot be written: No space left on device"):
        fetch_weights("gpt2", tmp_path, endpoint=hub.url)

    assert "model.safetensors" not in _names(tmp_path)


def test_folder_that_cannot_be_made_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    """A file in place of the folder is named."""
    (tmp_path / "weights").write_text("")

    with pytest.raises(FetchError, match=r"weights/gpt2: cannot be written: (Not a directory|File exists)"):
        fetch_weights("gpt2", tmp_path / "weights", endpoint=hub.url)


def test_two_fetches_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    """While one process fetches a model, a second is sent away."""
    (tmp_path / "gpt2").mkdir()
    descriptor = os.open(tmp_path / "gpt2", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(FetchError, match="is being fetched by another process"):
            fetch_weights("gpt2", tmp_path, endpoint=hub.url)
    finally:
        os.close(descriptor)


def test_every_published_size_is_pinned() -> None:
    """Each model that the trunk knows can be fetched, from a revision and with a checksum that cannot change."""
    assert list(PUBLISHED) == list(fetch.WEIGHTS)
    for name, pin in fetch.WEIGHTS.items():
        assert pin.path.startswith(f"openai-community/{name}/resolve/")
        assert 40 == len(pin.path.split("/")[3])
        assert 64 == len(pin.sha256)


@pytest.mark.parametrize("name", PUBLISHED)
def test_pinned_sizes_hold_the_parameters(name: str) -> None:
    """Each pinned size is that of the parameters, the causal masks beside them, and a header of a few kilobytes."""
    config = PUBLISHED[name]
    width, blocks = config.n_embd, config.n_layer
    num_parameters = (50257 + 1024) * width + blocks * (12 * width**2 + 13 * width) + 2 * width
    num_masks = blocks * 1024 * 1024

    rest = fetch.WEIGHTS[name].num_bytes - 4 * (num_parameters + num_masks)

    assert 1000 * blocks < rest < 1300 * blocks
