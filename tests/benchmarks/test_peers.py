"""The comparison with filters that count words: they learn, are judged alike, and mail falls into the right slices."""

import shutil
from argparse import Namespace

import mail_slices
import numpy as np
import peers
import pytest
import word_counters

from spamd.model.checkpoint import DEFAULT_FOLDER, read_card
from spamd.training.splits import Example, Split
from spamd.verdict import Label

MINUTES = "Subject: minutes {0}\n\nThe minutes of our meeting number {0} are attached, see you on Monday."
LOTTERY = "Subject: win {0}\n\nClick here and win {0} million dollars in our lottery, dear friend."
HAM = [MINUTES.format(number) for number in range(12)]
SPAM = [LOTTERY.format(number) for number in range(12)]
LABELLED = ((Label.HAM, HAM), (Label.SPAM, SPAM))


@pytest.mark.parametrize("name", ["tfidf_svm", "tfidf_lr", "bogofilter"])
def test_peers_learn_to_part_ham_from_spam(name):
    """Each peer scores unseen spam above unseen ham, between 0 and 1."""
    if name == "bogofilter" and not shutil.which("bogofilter"):
        pytest.skip("bogofilter is not installed here; benchmarks leave it out too")
    peer = word_counters.peers()[name]()
    peer.fit(HAM[:10] + SPAM[:10], np.array([0] * 10 + [1] * 10))
    scores = peer.scores(HAM[10:] + SPAM[10:])

    assert max(scores[:2]) < min(scores[2:])
    assert all(0.0 <= score <= 1.0 for score in scores)


def test_long_texts_keep_their_ends():
    """A peer reads head and tail of a long text."""
    cut = word_counters._cut("begin " + "x " * 9000 + "end")

    assert word_counters.MAX_CHARACTERS >= len(cut)
    assert cut.startswith("begin")
    assert cut.endswith("end")


def test_figures_are_in_per_cent_with_intervals():
    """A filter that loses one ham of four and misses one spam of two is told so, with intervals around it."""
    figures = peers.judge(np.array([0, 0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.9]), 0.5)

    assert (25.0, 50.0) == (figures["ham_lost_percent"], figures["spam_caught_percent"])
    assert 12.5 == figures["one_minus_roca_percent"]
    assert 50.0 == figures["caught_at_0.1"] == figures["caught_at_0.5"]
    assert figures["caught_at_0.5_interval"][0] <= 50.0 <= figures["caught_at_0.5_interval"][1]


def test_one_label_allows_fewer_figures():
    """Without ham there is nothing but the share of spam that is caught."""
    figures = peers.judge(np.array([1, 1]), np.array([0.1, 0.9]), 0.5)

    assert 50.0 == figures["spam_caught_percent"]
    assert not {"ham_lost_percent", "one_minus_roca_percent"} & set(figures)


def test_a_table_has_a_line_a_filter(capsys):
    """Every filter that is asked is judged on the same messages and printed."""
    test = [Example("a", Label.HAM, "x", "set"), Example("b", Label.SPAM, "y", "set")]
    asked = {
        name: peers.Filter(lambda texts, sign=sign: 0.5 + sign * np.array([text == "b" for text in texts]), 0.6)
        for name, sign in (("good", 0.4), ("bad", -0.4))
    }
    found = peers.table("title", test, asked)

    assert (0.0, 100.0) == (found["good"]["one_minus_roca_percent"], found["bad"]["one_minus_roca_percent"])
    assert 2 == capsys.readouterr().out.count("d |")


def test_a_draw_is_not_the_first_ones():
    """What is drawn comes from all of a corpus, at most so many of each label, and is the same each time."""
    examples = [Example(str(number), label, "x", "set") for label in Label for number in range(100)]
    chosen = peers.drawn(examples, 20)

    assert 40 == len(chosen)
    assert 20 == sum(one.label is Label.HAM for one in chosen)
    assert any(int(one.text) > 50 for one in chosen)
    assert chosen == peers.drawn(examples, 20)


def test_an_absent_checkpoint_is_no_error(tmp_path, capsys):
    """Without --train a protocol goes on without spamd, and says where it looked."""
    assert [] == peers.unseen_filter("sf_lists", None, Namespace(work=tmp_path, train=False))
    assert f"{tmp_path}/without_sf_lists/checkpoints" in capsys.readouterr().out


def test_a_corpus_is_retrained_on_as_the_command_does(tmp_path):
    """From a checkpoint and a corpus's own parts comes a stored candidate that parts what it has not seen."""
    examples = [Example(text, label, f"{label}/{n}", "own") for label, texts in LABELLED for n, text in enumerate(texts)]
    parts = Split(examples[::2], examples[1::4], examples[3::4])
    options = Namespace(work=tmp_path, checkpoint=DEFAULT_FOLDER, device="cpu")
    scores = peers.retrained_filter(parts, options).scores([example.text for example in parts.test])
    labels = np.array([example.label is Label.SPAM for example in parts.test])

    (folder,) = (tmp_path / "retrained" / "checkpoints").iterdir()
    assert read_card(folder).base.name == read_card(DEFAULT_FOLDER).id
    assert scores[~labels].max() < scores[labels].min()


def test_origins_become_paths_of_the_manifest():
    """What stands before the corpus in a path does not matter, nor does a message that is no file."""
    assert "sf_lists/ham/a.eml" == mail_slices.path_below("/home/x/data/sf_lists/ham/a.eml", "sf_lists")
    assert "a.csv line 2" == mail_slices.path_below("a.csv line 2", "enron_spam")


def test_slices(tmp_path):
    """Messages fall into slices by the manifest's language and by whether they have a page; small slices are left out."""
    folder = tmp_path / "sf_lists"
    folder.mkdir()
    rows = ["path\tcorpus\tlabel\tyear\tlanguage"]
    examples = []
    for number in range(2 * mail_slices.FEWEST):
        file = folder / f"{number}.eml"
        file.write_text("Content-Type: text/html\n\n<p>x" if number % 2 else "Subject: x\n\nx")
        rows.append(f"sf_lists/{number}.eml\tsf_lists\tham\t2020\t{'en?' if number else 'cyr/other'}")
        examples.append(Example("x", Label.HAM, str(file), "sf_lists"))
    manifest = tmp_path / "MANIFEST.tsv"
    manifest.write_text("\n".join(rows))
    found = mail_slices.slices(examples, manifest)

    assert {"HTML": 20, "plain": 20, "in English": 39} == {name: len(positions) for name, positions in found.items()}
    assert {2020} == set(mail_slices.years(manifest).values())
