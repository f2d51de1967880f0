"""Mail so plain that a tiny model learns it in a few steps; for the tests of training."""

import random

from spamd.training.parts import Part, tokenise
from spamd.training.splits import Example
from spamd.verdict import Label

HAM_WORDS = ("meeting", "report", "lunch", "minutes", "agenda", "regards")
SPAM_WORDS = ("pills", "casino", "winner", "cheap", "million", "urgent")


def lesson(num_each: int, seed: int = 1) -> list[Example]:
    """Messages of both labels whose words give them away."""
    chance = random.Random(seed)
    examples = []
    for number in range(2 * num_each):
        label = Label.SPAM if number % 2 else Label.HAM
        words = chance.choices(SPAM_WORDS if number % 2 else HAM_WORDS, k=chance.randint(1, 9))
        examples.append(Example(" ".join([*words, str(number)]), label, f"mail {number}", "folder:lesson"))
    return examples


def part(num_each: int, tokenizer, seed: int = 1) -> Part:
    """The same as a part."""
    return tokenise(lesson(num_each, seed), tokenizer, 64)
