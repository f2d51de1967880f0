"""An engine that does as it is told, for tests of all that only passes scores on."""

import threading

from spamd.inference.scored import Scored


class FakeEngine:
    """Gives every text the same score, remembers its batches, and waits for leave where a gate is given.

    Attributes:
        batches: the texts of each call.
        started: set when a call begins.
        is_closed: whether its checkpoint was let go.
    """

    threshold = 0.9
    num_lanes = 1
    is_closed = False

    def __init__(self, checkpoint="one", *, score=0.5, gate=None):
        self.checkpoint = checkpoint
        self.batches = []
        self._score = score
        self.gate = gate
        self.started = threading.Event()

    def estimate_tokens(self, text):
        """One token a character."""
        return len(text)

    def score(self, texts):
        """Score, or fail where a text says so."""
        self.batches.append(list(texts))
        self.started.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if "fail" in texts:
            raise RuntimeError("told to")
        return [Scored(self._score, self.threshold, self.checkpoint, len(text), is_truncated=False) for text in texts]

    def close(self):
        """Let the checkpoint go."""
        self.is_closed = True


class FakeCrew:
    """Loads nothing."""

    def __init__(self, _loader):
        pass

    def load(self, _folder):
        """Give an engine, whatever is asked for."""
        return FakeEngine()

    def close(self):
        """End nothing."""
