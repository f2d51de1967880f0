"""A loader for the processes of a crew that loads no model: its engines do what the texts say.

    CrewLoader(folder, num_places=2)

Texts: `fail` raises, `die` ends the process, `die once` does so the first time that any process sees it, `lose` loses the GPU,
`meet` waits until another process meets it. What is loaded is written to `folder/loads`; nothing loads while
there is `folder/gone`. Used by `inference/test_crew.py`.
"""

import os
import signal
import time
from pathlib import Path

from fake_engine import FakeEngine

from spamd.errors import CheckpointError

PATIENCE_SECONDS = 30.0


class CrewLoader:
    """What a crew loads its engines with.

    Args:
        folder: where the processes leave their traces.
        num_places: processes wanted for each checkpoint.
    """

    shared_modules = ()

    def __init__(self, folder, *, num_places=1):
        self.folder = folder
        self.num_places = num_places

    def prepare(self):
        """Nothing to get ready."""

    def places(self, folder):
        """The CPU, as often as wanted."""
        if folder.name == "unplaced":
            raise CheckpointError(f"{folder.name} has no card.")
        return [("cpu", number) for number in range(self.num_places)]

    def load(self, folder, place):
        """Load what has a good name."""
        if folder.name == "damaged":
            raise CheckpointError(f"{folder.name} is damaged.")
        if (self.folder / "gone").exists():
            raise CheckpointError(f"{folder.name} is gone.")
        if folder.name == "strange":
            raise RuntimeError("torch broke")
        with (self.folder / "loads").open("a") as traces:
            traces.write(f"{folder.name} {place[1]}\n")
        return ObedientEngine(folder.name, self.folder)


class ObedientEngine(FakeEngine):
    """Does as the texts say.

    Args:
        checkpoint: its id.
        folder: where it leaves its traces.
    """

    most_computed = 5

    def __init__(self, checkpoint, folder):
        super().__init__(checkpoint, score=0.25)
        self.folder = folder
        self.has_lost_gpu = False

    def score(self, texts):
        """Score, unless told otherwise."""
        (self.folder / str(os.getpid())).touch()
        has_died = self.folder / "has_died"
        if "die" in texts or ("die once" in texts and not has_died.exists()):
            has_died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "meet" in texts:
            _meet(self.folder)
        self.has_lost_gpu = self.has_lost_gpu or "lose" in texts
        return super().score(texts)


def _meet(folder: Path) -> None:
    """Wait until two processes are here."""
    (folder / f"here-{os.getpid()}").touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.glob("here-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
