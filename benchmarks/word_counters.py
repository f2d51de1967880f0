"""The filters that count words, which spamd is compared with: TF-IDF with two linear models, and bogofilter.

Each learns from texts and labels and gives each text a score from 0 to 1; none knows of corpora and protocols. Called by
`peers.py`. bogofilter is a program of its own (Debian: bogofilter); where it is absent it is left out.
"""

import atexit
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.special import expit
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from spamd.mail.wording import keep_ends
from spamd.training.metrics import Numbers

NUM_FEATURES = 2**21
MAX_CHARACTERS = 6000
"""Of longer texts they read head and tail, as spamd does of texts a quarter as long."""

_LAST_NUMBER = re.compile(r"([\d.]+(?:e[-+]?\d+)?)\s*$")


class Peer(Protocol):
    """A filter that learns once and then scores."""

    def fit(self, texts: Sequence[str], labels: Numbers) -> None:
        """Learn from texts, 0 for ham and 1 for spam."""

    def scores(self, texts: Sequence[str]) -> Numbers:
        """Score texts, 0.0 to 1.0, higher for spam."""


class Features:
    """TF-IDF of word 1- and 2-grams and of character 3- to 5-grams; what was computed last is kept for the next model."""

    def __init__(self) -> None:
        hashing: dict[str, Any] = {"n_features": NUM_FEATURES, "alternate_sign": False, "norm": None, "dtype": np.float32}
        self._union = make_union(
            make_pipeline(HashingVectorizer(ngram_range=(1, 2), **hashing), TfidfTransformer(sublinear_tf=True)),
            make_pipeline(HashingVectorizer(analyzer="char", ngram_range=(3, 5), **hashing), TfidfTransformer(sublinear_tf=True)),
        )
        self._learned: list[str] = []
        self._kept: list[tuple[list[str], Any]] = []

    def learn(self, texts: Sequence[str]) -> Any:
        """Learn how rare each feature is; returns the matrix of these texts."""
        if self._learned != list(texts):
            self._learned, self._kept = list(texts), []
            self._keep(self._learned, self._union.fit_transform([_cut(text) for text in texts]))
        return self.matrix(texts)

    def matrix(self, texts: Sequence[str]) -> Any:
        """Compute the matrix of texts, (texts, features)."""
        wanted = list(texts)
        if not any(known == wanted for known, _ in self._kept):
            self._keep(wanted, self._union.transform([_cut(text) for text in texts]))
        return next(matrix for known, matrix in self._kept if known == wanted)

    def _keep(self, texts: list[str], matrix: Any) -> None:
        """Keep a matrix, and the one of the learned texts; others go."""
        self._kept = [*self._kept[:1], (texts, matrix)]


class Linear:
    """A linear model on such features.

    Args:
        features: computes them; models that learn from the same texts share it.
        model: the model; has `decision_function`.
    """

    def __init__(self, features: Features, model: Any) -> None:
        self._features = features
        self._model = model

    def fit(self, texts: Sequence[str], labels: Numbers) -> None:
        """Learn."""
        self._model.fit(self._features.learn(texts), labels)

    def scores(self, texts: Sequence[str]) -> Numbers:
        """Score; what a support vector machine decides is squeezed between 0 and 1."""
        found: Numbers = expit(self._model.decision_function(self._features.matrix(texts)))
        return found


class Bogofilter:
    """bogofilter with its own defaults and a database of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bogofilter-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._database = self._folder / "database"
        self._database.mkdir()

    def fit(self, texts: Sequence[str], labels: Numbers) -> None:
        """Register ham, then spam."""
        for option, label in (("-n", 0), ("-s", 1)):
            self._run(option, [text for text, one in zip(texts, labels, strict=True) if one == label])

    def scores(self, texts: Sequence[str]) -> Numbers:
        """Score."""
        lines = self._run("-TT", texts).splitlines()
        found = [_LAST_NUMBER.search(line) for line in lines]
        if len(lines) != len(texts) or None in found:
            raise RuntimeError(f"bogofilter answered {len(lines)} lines to {len(texts)} messages: {lines[:3]}")
        return np.array([float(match[1]) for match in found if match])

    def _run(self, option: str, texts: Sequence[str]) -> str:
        """Write texts as files and let bogofilter read them in one call."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            files = [Path(folder) / f"{number:06d}" for number in range(len(texts))]
            for file, text in zip(files, texts, strict=True):
                file.write_text(_cut(text), encoding="utf-8", errors="replace")
            names = "".join(f"{file}\n" for file in files)
            command = ["bogofilter", "-C", "-d", str(self._database), option, "-b"]
            ran = subprocess.run(command, input=names, capture_output=True, text=True, check=False)
        # 0, 1 and 2 are spam, ham and unsure.
        if ran.returncode not in {0, 1, 2}:
            raise RuntimeError(f"bogofilter failed with {ran.returncode}: {ran.stderr.strip()}")
        return ran.stdout


def _cut(text: str) -> str:
    """Keep head and tail of a long text."""
    return keep_ends(text, MAX_CHARACTERS)


def peers() -> dict[str, Callable[[], Peer]]:
    """Name the filters that are here; those of one call share their features."""
    features = Features()
    found: dict[str, Callable[[], Peer]] = {
        "tfidf_svm": lambda: Linear(features, LinearSVC(C=1.0)),
        "tfidf_lr": lambda: Linear(features, LogisticRegression(C=10.0, solver="liblinear")),
    }
    if shutil.which("bogofilter"):
        found["bogofilter"] = Bogofilter
    else:
        print("bogofilter is not here (Debian: apt-get install bogofilter) and is left out")
    return found
