"""A process of a crew: loads checkpoints, scores with them as it is asked, and ends when nobody is left to ask.

Knows neither mail nor settings, and leaves signals to the daemon, which lets it finish what is being scored. Requests and answers
are JSON, one at a time: `places FOLDER`, `load KEY FOLDER PLACE`, `score KEY TEXTS`, `forget KEY`. The other end is `crew`.

Security: of an error only type and place are told, unless it is one of ours; its text could quote a message.
"""

import gc
import json
import signal
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spamd.errors import CheckpointError, ScoringError, SpamdError

if TYPE_CHECKING:
    from spamd.inference.crew import Loader
    from spamd.inference.engine import Engine


def serve(connection: Connection, loader: "Loader") -> None:
    """Answer until the other end is closed.

    Args:
        connection: where requests come from.
        loader: what loads checkpoints.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A collection of garbage would write to all that is shared, and so copy it.
    gc.freeze()
    loader.prepare()
    member = Member(loader)
    while True:
        try:
            asked = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(json.dumps(member.answer(json.loads(asked))).encode())


class Member:
    """What a process of a crew has loaded.

    Args:
        loader: what loads checkpoints.
    """

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader
        self._engines: dict[int, Engine] = {}

    def answer(self, request: list[Any]) -> dict[str, Any]:
        """Do what is asked.

        Args:
            request: its name and what it takes.

        Returns:
            `told`, or `error`, the name of one of our errors, and `reason`, its sentence.
        """
        name, *arguments = request
        try:
            return {"told": getattr(self, f"_{name}")(*arguments)}
        except SpamdError as error:
            # A plugin's error may be a kind of its own, of one that the other end knows.
            known = next(kind for kind in type(error).__mro__ if kind.__module__ == SpamdError.__module__)
            return {"error": known.__name__, "reason": str(error)}
        except BaseException as error:  # noqa: BLE001  whatever is raised (a panic of Rust's is no Exception), others go on
            kind = ScoringError if name == "score" else CheckpointError
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
            return {"error": kind.__name__, "reason": f"{type(error).__name__} at {place} when asked to {name}."}

    def _places(self, folder: str) -> list[Any]:
        """Say where a checkpoint is to be computed."""
        return self._loader.places(Path(folder))

    def _load(self, key: int, folder: str, place: tuple[str, int]) -> dict[str, Any]:
        """Load a checkpoint."""
        engine = self._engines[key] = self._loader.load(Path(folder), place)
        # What is loaded now stays: no collection of garbage need walk through it.
        gc.collect()
        gc.freeze()
        return {"checkpoint": engine.checkpoint, "threshold": engine.threshold, "most_tokens": engine.most_computed}

    def _score(self, key: int, texts: list[str]) -> dict[str, Any]:
        """Score texts."""
        engine = self._engines[key]
        scores = [(one.score, one.num_tokens, one.is_truncated) for one in engine.score(texts)]
        return {"scores": scores, "has_lost_gpu": engine.has_lost_gpu}

    def _forget(self, key: int) -> None:
        """Let a checkpoint go; a member that was started anew may never have had it."""
        self._engines.pop(key, None)
