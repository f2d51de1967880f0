"""Texts that wait on disk come back as they were, and the disk keeps nothing."""

import gc
from types import SimpleNamespace

import pytest
from teaching import lesson, write_folder

from spamd.training import spool as spool_module
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.progress import SILENT
from spamd.training.splits import Example
from spamd.training.spool import Spool
from spamd.verdict import Label

ODD = ["", "a\nb", "\ud800 alone", "☃" * 1000]


def test_texts_come_back(tmp_path):
    """Text, origin, label and dataset are those that were put away, lone surrogates included; no name is left in the folder."""
    spool = Spool(tmp_path / "new")
    examples = [Example(text, Label.SPAM, f"mail {number}", "folder:x") for number, text in enumerate(ODD)]
    kept = [spool.keep(example) for example in examples]

    found = [Example(one.text, one.label, one.origin, one.dataset) for one in reversed(kept)]
    assert examples[::-1] == found
    assert [] == list((tmp_path / "new").iterdir())


def test_mail_on_disk_is_parted_as_mail_in_memory(tmp_path):
    """The same messages come to the same parts, in the same order."""
    path = write_folder(tmp_path / "mail", 20)
    found = [
        gather([Source("folder", path, folder(path))], seed=1, balance=True, display=SILENT, spool_dir=place)
        for place in (None, tmp_path / "spool")
    ]
    texts = [[[(one.text, one.origin, one.label) for one in part] for part in mail.parts] for mail in found]

    assert texts[0] == texts[1]
    assert found[0].counts == found[1].counts


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    """What does not fit is complained about when it is written, not when the file is closed."""

    def refuse(*_):
        raise OSError(28, "No space left on device")

    full = SimpleNamespace(write=refuse, close=refuse)
    monkeypatch.setattr(spool_module.tempfile, "TemporaryFile", lambda **_: full)
    spool = Spool(tmp_path)

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        spool.keep(lesson(1)[0])
    del spool
    gc.collect()
