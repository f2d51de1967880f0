"""`spamd-admin model show`."""

import json


def test_show_the_current_one(spamd_admin, settings, registry):
    """Without a name the card of the checkpoint that serves is shown, a line each field."""
    ran = spamd_admin("model", "show", "--config", settings)
    fields = dict(line.split(maxsplit=1) for line in ran.out.splitlines() if len(line.split()) > 1)

    assert 0 == ran.code
    assert registry.current().name == fields["id"]
    assert '["current"]' == fields["roles"]
    assert "0.5" == fields["threshold"]


def test_show_as_json(spamd_admin, settings, registry):
    """The JSON form is the card with folder and roles, for a checkpoint by the beginning of its id."""
    identifier = registry.current().name
    card = json.loads(spamd_admin("model", "show", "--json", "--config", settings, identifier[:15]).out)

    assert (identifier, str(registry.current())) == (card["id"], card["folder"])
    assert 32 == card["trunk"]["n_embd"]


def test_show_an_unknown_one(spamd_admin, settings):
    """An id that nobody has is exit code 65."""
    assert 65 == spamd_admin("model", "show", "--config", settings, "1999").code
