"""Mail so plain that a tiny model learns it in a few steps; for the tests of training."""

import random
import string

from spamd.hooks.manager import load_plugins
from spamd.training.parts import Part, tokenise
from spamd.training.splits import Example
from spamd.verdict import Label

HEADS = load_plugins(drop_in_folder=None, use_entry_points=False, kinds=("head",)).heads
"""The built-in heads by name."""

LETTERS = string.ascii_lowercase
HAM_WORDS = ("meeting", "report", "lunch", "minutes", "agenda", "regards")
SPAM_WORDS = ("pills", "casino", "winner", "cheap", "million", "urgent")


def lesson(num_each: int, seed: int = 1) -> list[Example]:
    """Messages of both labels whose words give them away."""
    chance = random.Random(seed)
    examples = []
    for number in range(2 * num_each):
        label = Label.SPAM if number % 2 else Label.HAM
        words = chance.choices(SPAM_WORDS if number % 2 else HAM_WORDS, k=chance.randint(3, 9))
        # A word of its own keeps a message from being a near-duplicate of another.
        own = "".join(chance.choices(LETTERS, k=6))
        examples.append(Example(" ".join([own, *words]), label, f"mail {number}", "folder:lesson"))
    return examples


def part(num_each: int, tokenizer, seed: int = 1) -> Part:
    """The same as a part."""
    return tokenise(lesson(num_each, seed), tokenizer, 64)


def write_folder(folder, num_each: int, seed: int = 1):
    """Write the same as a folder of messages, ham/ and spam/."""
    for number, example in enumerate(lesson(num_each, seed)):
        file = folder / example.label.value / f"{number:04}.eml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"From: a@example.org\nSubject: {example.text}\n\n{example.text}\n")
    return folder
