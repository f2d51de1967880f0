"""Look the written mail over: texts that repeat each other, kinds not on the list, and surface that gives the class away.

Knows nothing of how sittings are stored and built; called by `written_mail.py --check`, which hands it texts and bytes.
"""

import email
import email.policy
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from email.message import EmailMessage
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.model_selection import GroupKFold, cross_val_predict

from spamd.training import metrics
from spamd.training.metrics import Measure, Numbers

NEAR = 0.5
"""Texts are near-duplicates from this Jaccard similarity of their runs of words on."""
RUN_WORDS = 5
FOLDS = 5

# Scripts that put no blanks between words count by letters.
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]|[^\W\d_\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]+")
_EMOJI = re.compile("[\u2190-\u27ff\u2b00-\u2bff\U0001f000-\U0001faff]")
_MONEY = re.compile(r"[$€£¥₹₽]")


def runs(text: str) -> set[tuple[str, ...]]:
    """Collect the runs of five words of a text, digits and case aside; a shorter text is one run."""
    words = tuple(_WORD.findall(text.casefold()))
    return {words[start : start + RUN_WORDS] for start in range(max(len(words) - RUN_WORDS + 1, 1))}


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Find the pairs of texts that repeat each other.

    Returns:
        Number of the later text, of the earlier one that it is most like, and their similarity, `NEAR` to 1.0.
    """
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes: list[int] = []
    found = []
    for number, text in enumerate(texts):
        mine = runs(text)
        shared = Counter(other for run in mine for other in seen[run])
        likeness = {other: count / (len(mine) + sizes[other] - count) for other, count in shared.items()}
        nearest = max(likeness, key=likeness.__getitem__, default=None)
        if nearest is not None and likeness[nearest] >= NEAR:
            found.append((number, nearest, likeness[nearest]))
        for run in mine:
            seen[run].append(number)
        sizes.append(len(mine))
    return found


DRAWN = ("structure", "charset", "encoding", "mailer", "hour")
"""Features that `written_mail.build` draws."""
COUNTED = (
    *("has reply-to", "links", "attachments", "hidden preheader", "subject length", "body length", "subject emoji", "emoji"),
    *("subject capitals", "capitals", "subject digits", "digits"),
)
"""Features that count what was written."""


def surface(raw: bytes) -> dict[str, Any]:
    """Describe a message by its header and structure alone, without any of its words.

    Returns:
        Name of a feature -> number, or a word for a kind.
    """
    mail = email.message_from_bytes(raw, _class=EmailMessage, policy=email.policy.default)
    leaves = [part for part in mail.walk() if not part.is_multipart()]
    bodies = [part for part in leaves if not part.is_attachment()]
    text, subject = _content(bodies[0]), str(mail["Subject"])
    page = next((_content(part) for part in bodies if part.get_content_subtype() == "html"), "")
    sender = mail["From"].addresses[0]
    return {
        "structure": "+".join(part.get_content_subtype() for part in bodies),
        "charset": bodies[0].get_content_charset(),
        "encoding": bodies[0]["Content-Transfer-Encoding"],
        "mailer": str(mail["X-Mailer"]),
        "hour": mail["Date"].datetime.hour,
        "has reply-to": "Reply-To" in mail,
        "sender name length": len(sender.display_name),
        "sender host length": len(sender.domain),
        "sender host labels": sender.domain.count("."),
        "sender digits": _count(str.isdigit, sender.addr_spec),
        "links": page.count("<a href") if page else text.count("://"),
        "attachments": len(leaves) - len(bodies),
        "hidden preheader": "display:none" in page,
        "subject length": len(subject),
        "subject capitals": _share(str.isupper, subject),
        "subject digits": _share(str.isdigit, subject),
        "subject marks": subject.count("!") + subject.count("?"),
        "subject emoji": len(_EMOJI.findall(subject)),
        "is reply": subject.lower().startswith(("re:", "fw", "aw:", "sv:", "odp:")),
        "body length": len(text),
        "lines": text.count("\n"),
        "quoted lines": text.count("\n>") + text.count("&gt;"),
        "capitals": _share(str.isupper, text),
        "digits": _share(str.isdigit, text),
        "marks": text.count("!") / (len(text) + 1),
        "emoji": len(_EMOJI.findall(text)),
        "money": len(_MONEY.findall(text)),
    }


def surface_judgement(
    described: Sequence[dict[str, Any]], labels: Numbers, sittings: Sequence[str], features: Collection[str]
) -> Measure:
    """Ask how well surface alone parts ham from spam in sittings that the classifier has not seen.

    Args:
        described: `surface` of each message.
        labels: 0 for ham, 1 for spam.
        sittings: which sitting each message comes from.
        features: those that it may look at.

    Returns:
        (1-ROCA) %; 50 is chance.
    """
    chosen = [{name: value for name, value in one.items() if name in features} for one in described]
    matrix = DictVectorizer(sparse=False).fit_transform(chosen)
    folds = GroupKFold(min(FOLDS, len(set(sittings))))
    model = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, random_state=0)
    scores = cross_val_predict(model, matrix, labels, groups=list(sittings), cv=folds, method="predict_proba")[:, 1]
    return metrics.bootstrap(labels, scores, metrics.one_minus_roca)


def telling(described: Sequence[dict[str, Any]], labels: Numbers) -> list[tuple[str, float]]:
    """Rank features by how well each alone parts ham from spam.

    Returns:
        Name and (1-ROCA) %, those farthest from 50 first; below 50 means more of it in spam.
    """
    vectorizer = DictVectorizer(sparse=False)
    matrix = vectorizer.fit_transform(described)
    found = [
        (str(name), metrics.one_minus_roca(matrix[labels == 0, column], matrix[labels == 1, column]))
        for column, name in enumerate(vectorizer.get_feature_names_out())
    ]
    return sorted(found, key=lambda one: -abs(one[1] - 50.0))


def as_labels(labels: Iterable[str]) -> Numbers:
    """Write `ham` and `spam` as 0 and 1."""
    return np.array([label == "spam" for label in labels], dtype=np.int64)


def _content(part: EmailMessage) -> str:
    """Return the text of a part."""
    return str(part.get_content())


def _count(is_one: Any, text: str) -> int:
    """Count the characters for which something holds."""
    return sum(map(is_one, text))


def _share(is_one: Any, text: str) -> float:
    """Compute the share of characters for which something holds."""
    return _count(is_one, text) / (len(text) + 1)
