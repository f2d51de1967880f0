"""Near copies are found among many messages, and what only shares a footer is no copy."""

import random

import numpy as np
import pytest

from spamd.training.near_copies import group, signature


def _words(count, seed):
    """Random words."""
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghijklmnop", k=5)) for _ in range(count)]


def _grouped(*texts):
    """The groups of some texts."""
    return group(np.stack([signature(text) for text in texts])).tolist()


def _changed(words, number):
    """The same text with some words changed, evenly spread."""
    step = len(words) // number
    return " ".join("changed" if place % step == 1 else word for place, word in enumerate(words))


def test_a_few_changed_words_make_no_other_message():
    """Three of a hundred words changed leave a near copy; forty changed leave another message."""
    words = _words(100, 1)

    assert [0, 0, 2] == _grouped(" ".join(words), _changed(words, 3), _changed(words, 40))


def test_digits_and_case_make_no_difference():
    """What differs in amounts, punctuation and case has the same signature."""
    assert signature("Pay 100 EUR now, please!").tolist() == signature("PAY 20 eur: now please").tolist()


def test_a_common_footer_makes_no_copies():
    """Two messages of sixty words of their own share a footer of thirty and stay two."""
    footer = " ".join(_words(30, 9))

    assert [0, 1] == _grouped(f"{' '.join(_words(60, 1))} {footer}", f"{' '.join(_words(60, 2))} {footer}")


def test_scripts_without_spaces_are_told_apart_by_character():
    """A Chinese text with one character changed is a near copy, another text is not."""
    text = "尊敬的客户您的账户已经被锁定请立即点击链接验证您的身份信息否则将被永久停用谢谢合作"

    assert [0, 0, 2] == _grouped(text, text.replace("立", "马"), "今天下午三点在二楼会议室讨论下一季度的销售计划请大家准时参加")


@pytest.mark.parametrize("text", ["", "7", "one", "\ud800 alone", "\x00" * 100])
def test_any_text_has_a_signature(text):
    """No text is too odd."""
    assert (64,) == signature(text).shape


def test_many_copies_of_one_template_are_one_group():
    """Five hundred variants of a text are found among a thousand others, in one group."""
    template = _words(80, 3)
    copies = [" ".join([*template, *_words(3, seed)]) for seed in range(100, 600)]
    others = [" ".join(_words(60, seed)) for seed in range(1000, 2000)]
    groups = _grouped(*copies, *others)

    assert {0} == set(groups[:500])
    assert 1000 == len(set(groups[500:]))
