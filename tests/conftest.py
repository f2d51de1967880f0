"""Fixtures for every test: a model small enough to train in a blink, and a world without network or an operator's files.

Torch loads inside the fixtures that need it, so that tests of mail, SMTP and the command line stay quick.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

if TYPE_CHECKING:
    from spamd.model.classifier import Classifier
    from spamd.model.gpt2 import GPT2Config
    from spamd.model.tokenizer import Tokenizer

# Before anything imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

LOOPBACK = {"", "::", "::1", "0.0.0.0", "localhost", "None"}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run in the event loop that the daemon runs in."""
    return {"uvloop": uvloop.new_event_loop}


def _is_here(address: Any) -> bool:
    """Whether an address is on this machine: a path, or loopback."""
    if not isinstance(address, tuple):
        return True
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    return host in LOOPBACK or host.startswith("127.")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that leave this machine fail at once; loopback works."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_here(address):
            raise OSError(f"tests use no network, and this one wanted {address}")
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_here(address):
            raise OSError(f"tests use no network, and this one wanted {address}")
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_here((host,)):
            raise socket.gaierror(socket.EAI_NONAME, f"tests use no network, and this one looked up {host}")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """State lies in a fresh folder, and no setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith(("SPAMD_", "HF_ENDPOINT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SPAMD_STATE_DIR", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token of a fleet, which nobody else may read."""
    from contract_server import TOKEN

    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Torch uses one thread, so that sums add up in one order and tests do not fight for cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def byte_tokenizer() -> "Tokenizer":
    """A tokenizer whose tokens are the 256 bytes: ids are readable, any text works; id 256 ends a text."""
    from spamd.model.tokenizer import Tokenizer, vocabulary_bytes

    return Tokenizer(vocabulary_bytes({bytes([value]): value for value in range(256)}), "the byte vocabulary")


@pytest.fixture
def tiny_config() -> "GPT2Config":
    """Sizes of a GPT-2 of two blocks, 32 wide, that reads up to 128 bytes."""
    from spamd.model.gpt2 import GPT2Config

    return GPT2Config(vocab_size=257, n_positions=128, n_embd=32, n_layer=2, n_head=4)


@pytest.fixture
def tiny_classifier(tiny_config: "GPT2Config", _one_thread: None) -> "Classifier":
    """A seeded, untrained classifier with the default head, ready to score or train."""
    import torch

    from spamd.model.classifier import Classifier
    from spamd.model.gpt2 import GPT2
    from spamd.model.heads import LastToken

    with torch.random.fork_rng():
        torch.manual_seed(123)
        return Classifier(GPT2(tiny_config), LastToken(tiny_config.n_embd, 2)).eval()


@pytest.fixture
def tiny_checkpoint(tiny_classifier: "Classifier", byte_tokenizer: "Tokenizer", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint folder that holds `tiny_classifier` and `byte_tokenizer`."""
    from spamd.mail.text import TEXT_VERSION
    from spamd.model.checkpoint import BaseNote, CheckpointCard, HeadNote, save_checkpoint

    card = CheckpointCard(
        trunk=tiny_classifier.trunk.config,
        base=BaseNote(name="tiny"),
        head=HeadNote(name="last-token"),
        text_version=TEXT_VERSION,
        max_tokens=128,
        threshold=0.5,
    )
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints"), tiny_classifier, byte_tokenizer, card)
