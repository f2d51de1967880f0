"""Parts hold what the model reads."""

from teaching import lesson

from spamd.training.parts import labels_of, tokenise


def test_examples_become_ids_and_labels(byte_tokenizer):
    """Ids are those of the text within the budget, labels 0 for ham and 1 for spam."""
    examples = lesson(2)
    part = tokenise(examples, byte_tokenizer, 16)

    assert [list(example.text.encode()) for example in examples if len(example.text) <= 16] == [
        sequence for sequence, example in zip(part.sequences, examples, strict=True) if len(example.text) <= 16
    ]
    assert max(part.lengths) <= 16
    assert [0, 1, 0, 1] == part.labels.tolist() == labels_of(examples).tolist()


def test_batches_are_padded_on_the_right(byte_tokenizer):
    """Shorter messages are filled up, and their length is told."""
    part = tokenise(lesson(4), byte_tokenizer, 64)
    ids, lengths = part.pad([1, 5])

    assert [len(part.sequences[1]), len(part.sequences[5])] == lengths.tolist()
    assert (2, int(lengths.max())) == tuple(ids.shape)
    assert part.sequences[1] == ids[0, : lengths[0]].tolist()
