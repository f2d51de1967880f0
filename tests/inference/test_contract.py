"""What goes over the wire between a proxy and its fleet."""

import json

import pytest

from spamd.errors import ConfigError
from spamd.inference.contract import (
    MAX_ANSWER_BYTES,
    MAX_CHARACTER_BYTES,
    MAX_REQUEST_BYTES,
    MAX_TEXTS,
    ScoreRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_error,
    encode_request,
    loaded_checkpoint,
    read_token,
)
from spamd.inference.scored import Scored
from spamd.mail.text import MAX_CHARACTERS

ROW = {"score": 0.5, "num_tokens": 3, "is_truncated": False}
REQUEST = {"checkpoint": "one", "deadline_milliseconds": 100, "texts": ["a"]}


def _read(values, **options):
    """Read an answer that is not what it should be."""
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    return decode_answer(body, **{"checkpoint": "one", "threshold": 0.9, "num_texts": 1} | options)


@pytest.mark.parametrize("text", ["", "Grüße", "\ud800 lone", "\U0001f600" * 3, '"\\\n\x00'])
def test_a_request_comes_out_as_it_went_in(text):
    """Whatever a text holds, lone surrogates too, the other side reads the same."""
    request = ScoreRequest("one", 5000, [text, "b"])

    assert request == decode_request(encode_request(request))


def test_the_longest_text_fits_a_request():
    """No text that the filter makes is too long for a request, and no full answer too long for what is read of one."""
    longest = encode_request(ScoreRequest("one", 5000, ["\U0001f600" * MAX_CHARACTERS]))
    row = Scored(0.12345678901234567, 0.5, "one", 1024, is_truncated=False)

    assert len(longest) < MAX_REQUEST_BYTES
    assert len(longest) <= MAX_CHARACTER_BYTES * MAX_CHARACTERS + 200
    assert len(encode_answer("x" * 200, [row] * MAX_TEXTS)) < MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": ""},
        {"checkpoint": 7},
        {"deadline_milliseconds": 0},
        {"deadline_milliseconds": True},
        {"deadline_milliseconds": 1.5},
        {"deadline_milliseconds": 10**9},
        {"texts": []},
        {"texts": "a"},
        {"texts": [1]},
        {"texts": ["a"] * (MAX_TEXTS + 1)},
        {"more": 1},
    ],
)
def test_malformed_requests_are_told_so(change):
    """A field that is wrong, or one too many, is refused with a sentence that quotes nothing."""
    with pytest.raises(ValueError, match=r"\.$"):
        decode_request(json.dumps(REQUEST | change).encode())


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"\xff", b"[" * 60_000, b'{"checkpoint": NaN}', b"9" * 60_000])
def test_what_is_no_json_object_is_refused(body):
    """Neither nonsense nor depth nor long numbers get further than a ValueError, on either side."""
    with pytest.raises(ValueError, match=r"\.$"):
        decode_request(body)
    with pytest.raises(ValueError, match=r"\.$"):
        _read(body)
    assert "another" == loaded_checkpoint(body)


def test_an_answer_comes_out_as_it_went_in():
    """Scores keep every digit, and get the threshold that the client holds."""
    scores = [Scored(0.1 + 0.2, 0.9, "one", 3, is_truncated=True), Scored(0.0, 0.9, "one", 0, is_truncated=False)]

    assert scores == decode_answer(encode_answer("one", scores), checkpoint="one", threshold=0.9, num_texts=2)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1e999", "-0.1", "1.1", "true", '"0.5"', "null", "[0.5]"])
def test_what_is_no_probability_is_refused(score):
    """NaN above all: it lies below any threshold and would pass for ham."""
    body = json.dumps({"checkpoint": "one", "scores": [ROW | {"score": "SCORE"}]}).replace('"SCORE"', score)
    with pytest.raises(ValueError, match=r"\.$"):
        _read(body.encode())


@pytest.mark.parametrize(
    "answer",
    [
        {"checkpoint": "two", "scores": [ROW]},
        {"checkpoint": "one", "scores": []},
        {"checkpoint": "one", "scores": [ROW, ROW]},
        {"checkpoint": "one", "scores": ROW},
        {"checkpoint": "one", "scores": [ROW | {"num_tokens": -1}]},
        {"checkpoint": "one", "scores": [ROW | {"is_truncated": 0}]},
        {"checkpoint": "one", "scores": [ROW | {"more": 1}]},
        {"checkpoint": "one"},
    ],
)
def test_answers_to_something_else_are_refused(answer):
    """Another checkpoint, another number of scores, other fields: none of it is used."""
    with pytest.raises(ValueError, match=r"\.$"):
        _read(answer)


def test_the_checkpoint_of_a_refusal_is_read_with_care():
    """What a server calls its checkpoint goes into our log only where it looks like a name."""
    bodies = [encode_error("x", checkpoint=name) for name in ("2026-01-02-abcdef", "line\nbreak", "", "x" * 300)]

    assert ["2026-01-02-abcdef", "another", "another", "another"] == [loaded_checkpoint(body) for body in bodies]


def test_a_token_is_read_without_its_newline(tmp_path):
    """White space around the token is no part of it."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o640)

    assert "0123456789abcdef" == read_token(file, "scoring.remote_token_file")


@pytest.mark.parametrize(
    "content", ["", "short", "two words in the file", "0123456789abcdef\nsecond-line", "ümläut-0123456789", "x" * 2000]
)
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path, content):
    """A file that holds something else is told by its name alone."""
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="openssl") as raised:
        read_token(file, "scoring.remote_token_file")

    assert not content or content not in str(raised.value)


def test_a_token_that_everybody_can_read_is_none(tmp_path):
    """So are a file that others may read and one that is not there."""
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_token(file, "--token-file")
    file.write_text("0123456789abcdef")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod o-r"):
        read_token(file, "--token-file")
