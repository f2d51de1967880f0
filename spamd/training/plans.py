"""What the operator wants of a retraining, made to fit the mail at hand.

Some wishes can be met only when the mail is known: the longest message, the share of spam. Trains nothing. Called by
`retraining`.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from spamd.errors import TrainingError
from spamd.model.windows import LongMail
from spamd.training.gathering import Mail
from spamd.training.parts import Part
from spamd.training.recipe import Recipe
from spamd.training.starts import Start

USUAL_MAX_TOKENS = 512
"""What a trunk that judged no mail yet is taught to read of a message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator wants.

    Attributes:
        recipe: how to train.
        max_tokens: budget of one message, within the positions of the trunk.
        max_ham_lost: share of ham that the threshold may lose.
        is_balanced: whether labels were balanced, for the card.
        pad: what every message is filled up to with `<|endoftext|>` that is read like text: the `longest` of the training mail,
            or so many tokens; 0 for nothing, the default.
        is_weighted: whether each label weighs the same in the loss, however many messages bear it.
        spam_share: share of spam that scores should expect; None for that of the training mail.
        long_mail: what the candidate will read of longer messages; it is trained on head and tail, and calibrated in this way.
        is_table_kept: whether a table of n-grams stays as it is, instead of learning what the mail's words say.
    """

    recipe: Recipe
    max_tokens: int
    max_ham_lost: float
    is_balanced: bool = False
    pad: int | Literal["longest"] = 0
    is_weighted: bool = False
    spam_share: float | None = None
    long_mail: LongMail = "head-tail"
    is_table_kept: bool = False


def choose_max_tokens(wanted: int | None, usual: int | None, start: Start, option: str = "--max-tokens") -> int:
    """Choose the budget of one message.

    Args:
        wanted: what the operator asked for, or None.
        usual: what the settings say, cut to what the trunk can read; None for what the start has learned to read.
        start: what will be trained.
        option: how the operator asked.

    Raises:
        TrainingError: the trunk cannot read what the operator asked for.
    """
    most = start.classifier.trunk.config.n_positions
    if wanted is not None and wanted > most:
        raise TrainingError(f"{option} {wanted} is more than {start.name} can read; it has {most} positions.")
    if wanted is not None:
        return wanted
    return min(usual or (start.card.max_tokens if start.card else USUAL_MAX_TOKENS), most)


def fit_to_mail(start: Start, mail: Mail, plan: Plan) -> tuple[Start, Plan]:
    """Choose what messages are filled up to, and read no more than that of any.

    Raises:
        TrainingError: the trunk cannot read so many tokens.
    """
    if plan.pad == "longest":
        plain = start.tokenizer.padding_to(0)
        target = max(len(plain.encode(example.text, plan.max_tokens).ids) for example in mail.parts.train)
    else:
        target = plan.pad and choose_max_tokens(plan.pad, plan.pad, start, "--pad")
    budget = target or plan.max_tokens
    return replace(start, tokenizer=start.tokenizer.padding_to(target)), replace(plan, max_tokens=budget)


def fit_to_part(plan: Plan, part: Part) -> Plan:
    """Let labels weigh the same in the loss, and scores expect another share of spam, where that is wanted."""
    share = float(part.labels.mean())
    weights = (0.5 / (1.0 - share), 0.5 / share) if plan.is_weighted else plan.recipe.class_weights
    recipe = replace(plan.recipe, class_weights=weights)
    if plan.spam_share is not None:
        recipe = replace(recipe, log_odds_shift=_log_odds(_learned_share(recipe, part)) - _log_odds(plan.spam_share))
    return replace(plan, recipe=recipe)


def shift_to(judged: Part, plan: Plan, learned: Part) -> float:
    """Compute what to add to the logit of spam so that it expects the share of spam of some mail.

    Args:
        judged: that mail.
        plan: what was wanted.
        learned: the training mail.
    """
    if plan.spam_share is None and plan.recipe.class_weights is None:
        return 0.0
    expected = _learned_share(plan.recipe, learned) if plan.spam_share is None else plan.spam_share
    return _log_odds(float(judged.labels.mean())) - _log_odds(expected)


def _learned_share(recipe: Recipe, part: Part) -> float:
    """Compute the share of spam in the loss."""
    weights = np.take(recipe.class_weights or (1.0, 1.0), part.labels)
    return float(weights @ part.labels / weights.sum())


def _log_odds(share: float) -> float:
    """Turn a share into log-odds."""
    return math.log(share / (1.0 - share))
