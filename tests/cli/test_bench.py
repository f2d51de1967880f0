"""`spamd-admin bench` with the tiny checkpoint."""

import json

import pytest

from spamd.inference.speed import Row, recommend


@pytest.fixture
def bench(spamd_admin, settings):
    """Run `spamd-admin bench` with those settings, briefly."""
    return lambda *arguments: spamd_admin("bench", "--config", settings, "--seconds", "0.01", *arguments)


def test_a_row_for_each_length(bench, registry):
    """Each length up to what the model reads has a row for the CPU, and a recommendation follows."""
    ran = bench()
    rows = [line.split() for line in ran.out.splitlines() if line.startswith("cpu ")]

    assert (0, "") == (ran.code, ran.err)
    assert f"checkpoint {registry.current().name}, 1 threads\n" in ran.out
    assert ["16", "32", "64", "128"] == [row[2] for row in rows if row[1] == "float32"]
    assert 'Set scoring.device = "' in ran.out


def test_json_holds_the_same(bench, registry):
    """JSON alone is printed, and every figure is above zero."""
    found = json.loads(bench("--json").out)

    assert registry.current().name == found["checkpoint"]
    assert all(row["lone_milliseconds"] > 0 and row["messages_per_second"] > 0 for row in found["figures"])
    assert found["recommendation"][0].startswith("Set scoring.device = ")


def test_a_checkpoint_can_be_named(bench):
    """Another checkpoint is measured where it is named; one that is not there is an error."""
    assert 65 == bench("2020-01-01-000000").code


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([Row("cpu", "float32", 8, 5.0, 99.0), Row("cpu", "float32", 64, 10.0, 50.0)], ["cpu"]),
        ([Row("cuda:0", "float32", 64, 1.0, 900.0), Row("cpu", "float32", 64, 10.0, 50.0)], ["cuda:0"]),
        (
            [Row("cpu", "float32", 64, 10.0, 50.0), Row("cpu", "int8", 64, 5.0, 90.0)],
            ["cpu", "int8 is 1.80 times as fast; `spamd-admin model quantise`"],
        ),
        ([Row("cpu", "float32", 64, 10.0, 50.0), Row("cpu", "int8", 64, 9.0, 51.0)], ["cpu", "int8 is not worth it here"]),
        ([Row("cpu", "float32", 64, 6000.0, 0.2)], ["cpu", "A lone message takes much of scoring.deadline_seconds (20)"]),
    ],
    ids=["cpu", "gpu", "int8", "not int8", "slow"],
)
def test_recommendations_follow_the_figures(rows, expected):
    """The fastest device is recommended by the longest messages, int8 where it pays, and other means where all is too slow."""
    said = recommend(rows, 20.0, "float")

    assert f'scoring.device = "{expected[0]}"' in said[0]
    assert len(expected) == len(said)
    assert all(sentence.startswith(start) for sentence, start in zip(said[1:], expected[1:], strict=True))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [Row("cpu", "float32", 64, 10.0, 50.0), Row("cpu", "int8", 64, 5.0, 90.0)],
            ["it scores 90 messages of 64 tokens a second", "It computes in int8, 1.80 times as fast as in float32."],
        ),
        ([Row("cpu", "float32", 64, 10.0, 50.0)], ["it scores 50 messages of 64 tokens a second"]),
        ([Row("cuda:0", "float32", 64, 1.0, 900.0), Row("cpu", "float32", 64, 10.0, 50.0)], ['"cuda:0"']),
    ],
    ids=["int8", "no int8 here", "gpu"],
)
def test_what_computes_in_int8_is_told_so(rows, expected):
    """Of a checkpoint that computes in int8 that is what it does; where the processor cannot, its float weights serve."""
    said = recommend(rows, 20.0, "int8")

    assert len(expected) == len(said)
    assert all(part in sentence for sentence, part in zip(said, expected, strict=True))
