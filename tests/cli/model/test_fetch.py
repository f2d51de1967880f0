"""`spamd-admin model fetch`: what the operator sees, and the exit code."""

import hashlib
import os
from collections.abc import Iterator

import pytest
from hub import Hub, serving

from spamd.config import load_settings
from spamd.model import fetch
from spamd.model.fetch import Pin
from spamd.model.tokenizer import convert_published

CONTENT = os.urandom(5_000_000)
VOCABULARY = b'{"!": 0}'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub whose `gpt2-xl` is five megabytes."""
    files = {"/weights": CONTENT, "/vocabulary": VOCABULARY}
    pins = [Pin(path[1:], len(content), hashlib.sha256(content).hexdigest()) for path, content in files.items()]
    monkeypatch.setattr(fetch, "WEIGHTS", {"gpt2-xl": pins[0]})
    monkeypatch.setattr(fetch, "VOCABULARY", pins[1])
    monkeypatch.setattr(fetch, "CONVERTED_SHA256", hashlib.sha256(convert_published(VOCABULARY)).hexdigest())
    with serving(Hub(files)) as hub:
        yield hub


def test_fetch_puts_weights_into_the_state_folder(spamd_admin, hub) -> None:
    """Weights and vocabulary arrive, tenths are told on standard error, and the next command is named."""
    ran = spamd_admin("model", "fetch", "gpt2-xl", "--endpoint", hub.url)

    folder = load_settings().state_dir / "weights" / "gpt2-xl"
    assert (0, f"{folder}: complete, checksums right; train on it with `spamd-admin retrain --base gpt2-xl`.\n") == (
        ran.code,
        ran.out,
    )
    assert "gpt2-xl: 5 of 5 MB" == ran.err.splitlines()[-1]
    assert len(ran.err.splitlines()) <= 11
    assert {"model.safetensors", "vocabulary.tiktoken"} == {file.name for file in folder.iterdir()}


def test_endpoint_comes_from_the_environment_too(spamd_admin, hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that names a mirror to other programs names it to this one."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)

    assert 0 == spamd_admin("model", "fetch", "gpt2-xl").code


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"status": 404}, 69, "the server answered 404"),
        ({"files": {"/weights": CONTENT[::-1], "/vocabulary": VOCABULARY}}, 65, "is not the published file: its sha256 is"),
        ({"cut_after": [10**9, 1000, 0]}, 69, "1,000 of 5,000,000 bytes are here"),
    ],
)
def test_faults_are_one_sentence_and_a_code(spamd_admin, hub, fault, code, words) -> None:
    """Network faults leave with 69, wrong content with 65, and neither with a traceback or a finished file."""
    vars(hub).update(fault)

    ran = spamd_admin("model", "fetch", "gpt2-xl", "--endpoint", hub.url)

    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (code, 1, "") == (ran.code, len(errors), ran.out)
    assert words in errors[0]
    assert not (load_settings().state_dir / "weights" / "gpt2-xl" / "model.safetensors").exists()


def test_no_network_leaves_with_69(spamd_admin) -> None:
    """A machine that may not go out is told so at once."""
    ran = spamd_admin("model", "fetch", "gpt2", "--endpoint", "http://127.0.0.1:1")

    assert 69 == ran.code
    assert "cannot be reached" in ran.err


def test_unknown_model_is_a_usage_error(spamd_admin) -> None:
    """A name that is none of the four leaves with 64 and lists them."""
    ran = spamd_admin("model", "fetch", "gpt4")

    assert 64 == ran.code
    assert "gpt2, gpt2-medium, gpt2-large, gpt2-xl" in ran.err


def test_fetch_shows_a_bar_on_a_terminal(spamd_admin, hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, the name stands before a bar with sizes, and no plain line is printed."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    ran = spamd_admin("model", "fetch", "gpt2-xl", "--endpoint", hub.url)

    assert 0 == ran.code
    assert "gpt2-xl" in ran.err
    assert "5.0/5.0 MB" in ran.err
