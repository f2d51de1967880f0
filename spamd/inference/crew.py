"""Engines in processes of their own: the process that holds the mail never waits for torch, and does not die with it.

Python computes one thing at a time in each process. Where torch shares one with the SMTP sessions, both wait for each other at
every step; and what ends an engine, be it a fault of a driver or the kernel out of memory, ends the sessions too. A member of
the crew that has ended is started anew, with all that it had loaded, and is asked again.

Members are forked from a process that has torch loaded and nothing else (`forkserver` of the standard library), so that they
share its memory and start fast. What passes between the daemon and them is JSON through a socket pair; the other end is
`crew_member`. Knows no torch and no settings. Blocking, like every scorer. Built by `daemon`.
"""

import contextlib
import itertools
import json
import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import structlog

from spamd import errors
from spamd.inference.crew_member import serve
from spamd.inference.scored import Scored, estimate_tokens

if TYPE_CHECKING:
    from spamd.inference.engine import Engine

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""Where an engine computes: the device, and how many threads it has where that is the CPU."""

MOST_TRIES = 4
"""So often a request is made before it is given up, where each time the process ends over it."""

END_SECONDS = 1.0
"""A member that is told to end and has not by then is killed."""


class Loader(Protocol):
    """What members load engines with. It is sent to each of them, so it can be pickled.

    Attributes:
        shared_modules: what all members import, and therefore have in memory together.
    """

    shared_modules: ClassVar[Sequence[str]]

    def prepare(self) -> None:
        """Get a new process ready."""
        ...

    def places(self, folder: Path) -> list[Place]:
        """Say where a checkpoint is to be computed, at one place or more, each in a process of its own."""
        ...

    def load(self, folder: Path, place: Place) -> "Engine":
        """Load a checkpoint at one of its places."""
        ...


class Crew:
    """Processes that load checkpoints and score with them; the first starts at once.

    Args:
        loader: what they load with.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._members = [_Member(loader)]
        self._keys = itertools.count()

    def load(self, folder: Path) -> "CrewScorer":
        """Load a checkpoint in as many processes as it has places.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            ConfigError: a device cannot be used.
            PluginError: a plugin cannot be used.
        """
        places = self._members[0].ask("places", str(folder))
        key = next(self._keys)
        members = self._members_for(len(places))
        with ThreadPoolExecutor(len(members)) as threads:
            loads = [threads.submit(member.load, key, str(folder), place) for member, place in zip(members, places, strict=True)]
        try:
            told = [load.result() for load in loads]
            return CrewScorer(key, members, told[0])
        except BaseException:
            for member in members:
                member.forget(key)
            raise

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for member in self._members:
            member.end_for_good()

    def _members_for(self, number: int) -> "list[_Member]":
        """Return the first members, as many as are wanted, and start those that are not there."""
        while len(self._members) < number:
            self._members.append(_Member(self._loader))
        return self._members[:number]


class CrewScorer:
    """A checkpoint that members of a crew have loaded; each call is computed by one of them.

    Args:
        key: what they know it by.
        members: at least one.
        told: what the first of them told about it.

    Attributes:
        checkpoint: id of the checkpoint.
        threshold: its operating point.
    """

    def __init__(self, key: int, members: "Sequence[_Member]", told: dict[str, Any]) -> None:
        self.checkpoint: str = told["checkpoint"]
        self.threshold: float = told["threshold"]
        self._most_tokens: int = told["most_tokens"]
        self._key = key
        self._members = tuple(members)
        self._num_working = len(members)
        self._lock = threading.Lock()
        self._idle: SimpleQueue[_Member] = SimpleQueue()
        for member in members:
            self._idle.put(member)

    @property
    def num_lanes(self) -> int:
        """One call at once for each member that works."""
        return self._num_working

    def estimate_tokens(self, text: str) -> int:
        """Tell roughly, and at no cost, how many tokens a text will take."""
        return estimate_tokens(text, self._most_tokens)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts by the first member that is idle; the answer has their order.

        Raises:
            ScoringError: it computed something that is no score, or several members ended over these texts.
        """
        member = self._idle.get()
        has_lost_gpu = False
        try:
            told = member.ask("score", self._key, list(texts))
            has_lost_gpu = told["has_lost_gpu"]
        finally:
            if not (has_lost_gpu and self._leaves_others()):
                self._idle.put(member)
        return [Scored(score, self.threshold, self.checkpoint, *rest) for score, *rest in told["scores"]]

    def _leaves_others(self) -> bool:
        """Let a member go that has only its CPU left and would keep the others waiting; the last one goes on."""
        with self._lock:
            if self._num_working == 1:
                return False
            self._num_working -= 1
        log.error("scoring goes on with fewer GPUs", num_gpus=self._num_working)
        return True

    def close(self) -> None:
        """Forget the checkpoint, once no call computes any more."""
        for member in self._members:
            member.forget(self._key)


class _Member:
    """One process, asked one thing at a time; started anew where it has ended."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        # By key: what a process that is started anew has to load.
        self._loaded: dict[int, tuple[Any, ...]] = {}
        self._has_ended = False
        self._start()

    def ask(self, *request: Any) -> Any:
        """Ask for something; where the process has ended, ask another one.

        Raises:
            SpamdError: it cannot be done, as the process says.
            ScoringError: several ended over it, or it was ended by us.
        """
        with self._lock:
            for _ in range(MOST_TRIES):
                try:
                    return self._exchange(request)
                except (EOFError, OSError):
                    self._start_again()
        raise errors.ScoringError(f"the process that scores ended {MOST_TRIES} times when asked to {request[0]}.")

    def load(self, key: int, folder: str, place: Place) -> dict[str, Any]:
        """Load a checkpoint, and again wherever the process has to be started anew.

        Returns:
            What is told about it.
        """
        request = ("load", key, folder, place)
        told: dict[str, Any] = self.ask(*request)
        self._loaded[key] = request
        return told

    def forget(self, key: int) -> None:
        """Let a checkpoint go, loaded or not."""
        if self._loaded.pop(key, None):
            self.ask("forget", key)

    def end_for_good(self) -> None:
        """End the process, whatever it is doing, and start no other."""
        self._has_ended = True
        self._end()

    def _end(self) -> None:
        """End the process."""
        # It ends when nobody is there to ask it any more.
        self._connection.close()
        self._process.join(END_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        """Start a process: forked, or from nothing where that is not possible."""
        try:
            self._start_by(multiprocessing.get_context("forkserver"))
        except (EOFError, OSError) as error:
            # The process that forks has just ended, or the temporary folder cannot be written, or was cleaned up with our socket.
            log.warning("processes that score take more memory and longer to start", reason=str(error))
            self._start_by(multiprocessing.get_context("spawn"))

    def _start_by(self, context: ForkServerContext | SpawnContext) -> None:
        """Start a process in one of the two ways."""
        context.set_forkserver_preload(list(self._loader.shared_modules))
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._loader), daemon=True)
        with theirs:
            process.start()
        # Only now: what could not be started cannot be ended either.
        self._connection, self._process = ours, process

    def _start_again(self) -> None:
        """Replace a process that has ended by one that has loaded the same.

        Raises:
            SpamdError: it cannot be loaded.
            ScoringError: we are stopping.
        """
        if self._has_ended:
            raise errors.ScoringError("no message is scored any more, because spamd is stopping.")
        with contextlib.suppress(OSError):
            self._end()
        log.error("the process that scores has ended and is started anew", exit_code=self._process.exitcode)
        try:
            self._start()
            for request in self._loaded.values():
                self._exchange(request)
        except (EOFError, OSError):
            # It could not be started, or ended while it loaded; whoever asks it finds out.
            return
        except errors.SpamdError:
            # Whoever asks next tries anew, instead of asking a process that has nothing loaded.
            self._end()
            raise

    def _exchange(self, request: Sequence[Any]) -> Any:
        """Send a request and wait for its answer.

        Raises:
            EOFError: the process ended.
            OSError: it had ended before.
            SpamdError: it cannot be done.
        """
        self._connection.send_bytes(json.dumps(request).encode())
        answer = json.loads(self._connection.recv_bytes())
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["reason"])
        return answer["told"]
