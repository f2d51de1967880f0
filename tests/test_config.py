"""Settings come from file and environment, and every fault in them is told at once."""

import json
from pathlib import Path

import pytest

from spamd import config
from spamd.config import KEYS, Settings, load_settings, load_with_origins
from spamd.config.sources import variable
from spamd.errors import ConfigError

REMOTE = "[scoring]\nscorer = 'remote'"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    """Neither a file in /etc nor a variable of this shell reaches a test."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "absent.toml")
    for key in KEYS:
        monkeypatch.delenv(variable(key), raising=False)


@pytest.fixture
def write(tmp_path):
    """Write a settings file."""

    def write(text: str) -> Path:
        file = tmp_path / "spamd.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def faults(file: Path | None = None) -> list[str]:
    """Load settings that are wrong and return the faults, one a line."""
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    lines = str(raised.value).splitlines()
    return lines if len(lines) == 1 else [line.strip() for line in lines[1:]]


def test_defaults_stand_without_a_file():
    """Nothing need be written for spamd to start: loopback in, loopback out, spam is tagged."""
    settings = load_settings()

    assert ("127.0.0.1:10025", "127.0.0.1:10026", "pass") == (
        settings.smtp.listen,
        settings.smtp.next_hop,
        settings.scoring.on_failure,
    )
    assert (None, None, "") == (settings.actions.reject_score, settings.actions.quarantine_score, settings.actions.subject_tag)


def test_default_file_is_read_where_it_exists(monkeypatch, write):
    """Without --config, the file in /etc counts."""
    monkeypatch.setattr(config, "DEFAULT_FILE", write("[smtp]\nmax_hops = 7\n"))

    assert 7 == load_settings().smtp.max_hops


def test_environment_wins_over_the_file(monkeypatch, write):
    """A variable replaces one key of a section and leaves its neighbours."""
    monkeypatch.setenv("SPAMD_SMTP__MAX_HOPS", "9")

    settings = load_settings(write("[smtp]\nmax_hops = 7\nhostname = 'mx.example.org'\n"))

    assert (9, "mx.example.org") == (settings.smtp.max_hops, settings.smtp.hostname)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SPAMD_DISABLED_PLUGINS", "a,b", ("a", "b")),
        ("SPAMD_DISABLED_PLUGINS", " a , b ,", ("a", "b")),
        ("SPAMD_DISABLED_PLUGINS", "", ()),
        ("SPAMD_DISABLED_PLUGINS", '["a", "b"]', ("a", "b")),
        ("SPAMD_SMTP__ALLOWED_CLIENTS", "192.0.2.0/24,::1", ("192.0.2.0/24", "::1")),
        ("SPAMD_MODEL__HEAD_OPTIONS", '{"depth": 2}', {"depth": 2}),
    ],
)
def test_lists_and_tables_fit_into_variables(monkeypatch, name, value, expected):
    """A list is written with commas or as JSON, a table as JSON."""
    monkeypatch.setenv(name, value)
    settings = load_settings().model_dump()
    keys = name.removeprefix("SPAMD_").lower().split("__")[:2]

    for key in keys:
        settings = settings[key]
    assert expected == settings


def test_all_faults_are_told_at_once(monkeypatch, write):
    """File and environment, unknown and wrong, section by section: one run shows everything."""
    file = write("plugin_dir = '/x'\n[smtp]\nlistn = 'x'\nmax_hops = 0\n[log]\nlevel = 'loud'\n[smpt]\nlisten = 'x'\n")
    monkeypatch.setenv("SPAMD_SCORING__THREADS", "many")
    monkeypatch.setenv("SPAMD_SCORING__THRAEDS", "2")

    reason = "input should be a valid integer, unable to parse string as an integer, not 'many'."
    expected = {
        f"{file}: smtp.listn: unknown key; did you mean smtp.listen?",
        f"{file}: smtp.max_hops: input should be greater than 0, not 0.",
        f"{file}: log.level: input should be 'debug', 'info', 'warning' or 'error', not 'loud'.",
        f"{file}: smpt: unknown section; did you mean smtp?",
        f"{file}: plugin_dir: unknown key; did you mean plugins_dir?",
        f"SPAMD_SCORING__THREADS: scoring.threads: {reason}",
        "SPAMD_SCORING__THRAEDS: scoring.thraeds: unknown key; did you mean scoring.threads?",
    }
    assert expected == set(faults(file))


def test_many_faults_are_counted(write):
    """The first line says how many there are, and a single one stands for itself."""
    with pytest.raises(ConfigError, match=r"^the settings have 2 faults:\n  "):
        load_settings(write("one = 1\ntwo = 2\n"))


def test_a_key_in_the_wrong_section_is_found(write):
    """Whoever puts a key under another heading is told where it belongs."""
    file = write("[log]\nreject_score = 0.9\n")

    assert [f"{file}: log.reject_score: unknown key; did you mean actions.reject_score?"] == faults(file)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SPAMD_SMPT__LISTEN", "SPAMD_SMPT__LISTEN: unknown variable; did you mean SPAMD_SMTP__LISTEN?"),
        ("SPAMD_STATEDIR", "SPAMD_STATEDIR: unknown variable; did you mean SPAMD_STATE_DIR?"),
        ("SPAMD_DISABLED_PLUGIN", "SPAMD_DISABLED_PLUGIN: unknown variable; did you mean SPAMD_DISABLED_PLUGINS?"),
        ("SPAMD_SMTP", "SPAMD_SMTP: names a section and not a key; write SPAMD_SMTP__KEY=value."),
        (
            "SPAMD_MODEL__HEAD_OPTIONS__DEPTH",
            "SPAMD_MODEL__HEAD_OPTIONS__DEPTH: names a part of a value; write SPAMD_MODEL__HEAD_OPTIONS as JSON.",
        ),
        ("SPAMD_XYZ__QWERTY", "SPAMD_XYZ__QWERTY: unknown variable."),
    ],
)
def test_misspelt_variables_are_faults(monkeypatch, name, sentence):
    """A variable that looks like ours and sets nothing is reported."""
    monkeypatch.setenv(name, "whatever")

    assert [sentence] == faults()


@pytest.mark.parametrize(
    "name", ["SPAMD_TRACE_HOOKS", "SPAMD_PORT", "SPAMD_PORT_25_TCP_ADDR", "SPAMD_SERVICE_HOST", "NOTSPAMD__X"]
)
def test_other_variables_are_left_alone(monkeypatch, name):
    """Kubernetes and our own switches may use names that begin with SPAMD_."""
    monkeypatch.setenv(name, "1")

    assert load_settings() == load_settings()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:25", "[::1]:10025", "mx.example.org:25", "localhost:0", "unix:/run/spamd/socket", "next_hop:65535"]
)
def test_addresses(monkeypatch, address):
    """Hosts, bracketed IPv6 and sockets are addresses."""
    monkeypatch.setenv("SPAMD_SMTP__NEXT_HOP", address)

    assert address == load_settings().smtp.next_hop


@pytest.mark.parametrize(
    "address",
    ["", "25", ":25", "host:", "host:65536", "host:-1", "::1:25", "[::g]:25", "[]:25", "a b:25", "host:²", "unix:x", "h\n:1"],
)
def test_wrong_addresses(monkeypatch, address):
    """What cannot be connected to is refused with its spelling and the forms that would do."""
    monkeypatch.setenv("SPAMD_SMTP__NEXT_HOP", address)

    expected = f"SPAMD_SMTP__NEXT_HOP: smtp.next_hop: {address!r} is no address; write host:port, [v6]:port or unix:/path."
    assert [expected] == faults()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[smtp]\nnext_hop = '127.0.0.1:10025'", "'127.0.0.1:10025' is where spamd itself listens (smtp.listen)"),
        ("[smtp]\nlisten = '127.0.0.1:10026'", "smtp.next_hop: '127.0.0.1:10026' is where spamd itself listens"),
        ("[smtp]\nmax_memory_bytes = 1000", "less than smtp.max_message_bytes"),
        ("[smtp]\nallowed_clients = ['10.0.0.1/8']", "10.0.0.1/8 has host bits set; write an address, or a network"),
        ('[smtp]\nhostname = "mx\\r\\nBcc: x"', "'mx\\r\\nBcc: x' is no host name"),
        ("[smtp]\ncommand_timeout_seconds = inf", "input should be a finite number"),
        ("[smtp]\ncommand_timeout_seconds = nan", "input should be a finite number"),
        ("[scoring]\ndevice = 'gpu'", "'gpu' is no device; write auto, cpu, cuda, cuda:1 or cuda:all."),
        ("[scoring]\nthreshold = 1.0", "input should be less than 1, not 1.0"),
        ("[scoring]\ndeadline_seconds = 300", "(300) and smtp.next_hop_dot_timeout_seconds (300) must together stay below 600"),
        ("[smtp]\nnext_hop_dot_timeout_seconds = 590", "(20) and smtp.next_hop_dot_timeout_seconds (590)"),
        ("[scoring]\nscorer = 'remote'\nremote_token_file = '/x'", "remote_url: must be set where scoring.scorer is 'remote'"),
        (f"{REMOTE}\nremote_url = 'https://x'", "remote_token_file: must be set where scoring.scorer is 'remote'"),
        (f"{REMOTE}\nremote_url = 'https://x'\nremote_token_file = '/x'\nremote_timeout_seconds = 20", "must be below"),
        ("[scoring]\nremote_url = 'http://192.0.2.1:80'", "would carry mail and token over a network in plain text"),
        ("[scoring]\nremote_url = 'http://127.0.0.1.example.org'", "would carry mail and token over a network in plain text"),
        ("[scoring]\nremote_url = 'https://user:secret@x'", "is no address to ask"),
        ("[scoring]\nremote_url = 'https://x:70000'", "is no address to ask"),
        ("[scoring]\nremote_url = 'ftp://x'", "is no address to ask"),
        ("[actions]\nquarantine_score = 0.9", "0.9 has no effect without actions.quarantine_recipient"),
        ("[actions]\nquarantine_recipient = '<a@b>'", "'<a@b>' is no mail address"),
        (
            "[actions]\nquarantine_recipient = 'a@b'\nquarantine_score = 0.9\nreject_score = 0.8",
            "0.9 must be below actions.reject_score (0.8)",
        ),
        ("[actions]\nsubject_tag = '[Späm]'", "'[Späm]' must be printable ASCII on one line."),
        ('[actions]\nsubject_tag = "[SPAM]\\n"', "must be printable ASCII on one line."),
        (f"[actions]\nsubject_tag = '{'x' * 61}'", "at most 60 characters"),
        ("[model]\nmax_tokens = 1025", "less than or equal to 1024"),
        ("[training]\nseed = -1", "seed: input should be greater than or equal to 0, not -1."),
        ("[training]\nseed = 4294967296", "seed: input should be less than 4294967296, not 4294967296."),
        ("state_dir = '~nobody-of-that-name/x'", "~nobody-of-that-name/x names the home of a user who is not known here"),
    ],
)
def test_rules(write, text, reason):
    """Each rule, alone or between two settings, is told with file and key."""
    file = write(text)

    (fault,) = faults(file)

    assert fault.startswith((f"{file}: ", "default: ")), fault
    assert reason in fault


@pytest.mark.parametrize(
    "url", ["https://scores.example.org", "https://[2001:db8::1]:8780/spam", "http://localhost:1", "http://[::1]:1"]
)
def test_a_fleet_stands(write, url):
    """A fleet is named by its address: in TLS anywhere, in plain text on this machine; a slash at the end does not matter."""
    settings = load_settings(write(f"{REMOTE}\nremote_url = '{url}/'\nremote_token_file = '/etc/spamd/token'\n"))

    assert (url, Path("/etc/spamd/token")) == (settings.scoring.remote_url, settings.scoring.remote_token_file)


def test_a_quarantine_with_both_settings_stands(write):
    """Score and recipient together divert spam."""
    settings = load_settings(write("[actions]\nquarantine_score = 0.9\nquarantine_recipient = 'spam+trap@example.org'\n"))

    assert (0.9, "spam+trap@example.org") == (settings.actions.quarantine_score, settings.actions.quarantine_recipient)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"[smtp\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6)."),
        (b"x = " + b"[" * 5_000, "is not TOML that anybody wrote"),
        (b"x = " + b"1" * 5_000, "is not TOML: Exceeds the limit"),
        (b"\xff", "is not TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, sentence):
    """A file that is missing or no TOML is a fault that names it."""
    file = tmp_path / "spamd.toml"
    if content is not None:
        file.write_bytes(content)

    (fault,) = faults(file)

    assert fault.startswith(f"{file}: {sentence}")


@pytest.mark.parametrize("name", ["SPAMD_DISABLED_PLUGINS", "SPAMD_MODEL__HEAD_OPTIONS"])
def test_endless_brackets_in_variables_are_a_fault(monkeypatch, name):
    """JSON that nobody wrote is told in one sentence, and not repeated."""
    monkeypatch.setenv(name, "[" * 30_000)

    (fault,) = faults()

    assert fault.startswith(f"{name}: ")
    assert fault.endswith(": is not JSON that anybody wrote: brackets stand in brackets by the thousand.")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    """Editors on Windows put one before the first line; it is no part of the settings."""
    file = tmp_path / "spamd.toml"
    file.write_bytes(b"\xef\xbb\xbf[smtp]\nmax_hops = 7\n")

    assert 7 == load_settings(file).smtp.max_hops


def test_folders_become_absolute(monkeypatch):
    """A daemon started elsewhere finds the same folder."""
    monkeypatch.setenv("SPAMD_STATE_DIR", "~/state")
    monkeypatch.setenv("SPAMD_PLUGINS_DIR", "here")

    settings = load_settings()

    assert (Path.home() / "state", Path.cwd() / "here") == (settings.state_dir, settings.plugins_dir)


def test_state_lives_in_var_lib_where_that_exists(monkeypatch, tmp_path):
    """The system's folder comes first, the user's own serves where it is missing."""
    monkeypatch.setattr("spamd.config.sections.SYSTEM_STATE_DIR", tmp_path)
    assert tmp_path == load_settings().state_dir

    monkeypatch.setattr("spamd.config.sections.SYSTEM_STATE_DIR", tmp_path / "absent")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/someone/state")
    assert Path("/home/someone/state/spamd") == load_settings().state_dir


def test_settings_cannot_be_changed():
    """What was checked stays as it was checked."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().smtp.max_hops = 1


def test_every_setting_is_described():
    """Each key has a one-line description that ends as a sentence does."""
    lacking = []
    for key in KEYS:
        field = Settings.model_fields[key[0]]
        if len(key) > 1:
            field = type(field.default).model_fields[key[1]]
        if not field.description or not field.description.endswith(".") or "\n" in field.description:
            lacking.append(key)

    assert [] == lacking


def test_origins_say_where_each_value_comes_from(monkeypatch, write):
    """Default, file and variable are told apart, key by key."""
    file = write("state_dir = '/x'\n[smtp]\nmax_hops = 7\nlisten = 'a:1'\n")
    monkeypatch.setenv("SPAMD_SMTP__LISTEN", "b:1")
    monkeypatch.setenv("spamd_log__level", "debug")
    monkeypatch.setenv("SPAMD_MODEL__HEAD_OPTIONS", "{}")

    _, found = load_with_origins(file)

    assert str(file) == found["state_dir",] == found["smtp", "max_hops"]
    assert "SPAMD_SMTP__LISTEN" == found["smtp", "listen"]
    assert "spamd_log__level" == found["log", "level"]
    assert "SPAMD_MODEL__HEAD_OPTIONS" == found["model", "head_options"]
    assert "default" == found["smtp", "next_hop"]
    assert "default" == load_with_origins()[1]["smtp", "max_hops"]


def test_settings_dump_as_json():
    """The daemon compares settings by their plain values."""
    assert "127.0.0.1:10025" == json.loads(load_settings().model_dump_json())["smtp"]["listen"]


def test_each_door_has_its_place(write):
    """The proxy and the door for spamc clients cannot share an address, and the second is off by default."""
    same = write('[smtp]\nlisten = "unix:/run/x"\n[spamc]\nlisten = "unix:/run/x"\n')

    assert "" == load_settings().spamc.listen
    assert "is where the proxy listens" in faults(same)[0]
    assert "is less than spamc.max_message_bytes" in faults(write("[spamc]\nmax_memory_bytes = 1\n"))[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('state_dir = ""', "state_dir: '' is no path"),
        ('state_dir = "/a\\u0000b"', "is no path"),
        ('plugins_dir = " "', "plugins_dir: ' ' is no path"),
        ('[smtp]\nlisten = "unix:/a\\u0000b"', "is no path of a UNIX socket"),
        ('[smtp]\nlisten = "unix:/run/"', "is no path of a UNIX socket"),
        (f'[smtp]\nnext_hop = "unix:/{"x" * 107}"', "of at most 107 bytes"),
        ('[smtp]\nnext_hop_tls_ca = ""', "smtp.next_hop_tls_ca: '' is no path"),
        ('[smtp]\nnext_hop = "unix:/run/mail"\nnext_hop_tls = "starttls"', "of no use on a UNIX socket"),
    ],
)
def test_paths_are_paths(write, text, reason):
    """What names no file is refused: it would mean the folder of whoever starts spamd, or fail when mail comes."""
    (fault,) = faults(write(text))

    assert reason in fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('tls_key = "/etc/key.pem"', "smtp.tls_key: '/etc/key.pem' has no effect without smtp.tls_certificate."),
        ("tls_required = true", "smtp.tls_required: True has no effect without smtp.tls_certificate."),
        ('listen_tls = "127.0.0.1:465"', "smtp.listen_tls: '127.0.0.1:465' has no effect without smtp.tls_certificate."),
        ('tls_certificate = "/c"\nlisten_tls = "127.0.0.1:10025"', "is where plain connections are taken (smtp.listen)"),
        ('tls_certificate = "/c"\nlisten_tls = "127.0.0.1:10026"', "where spamd itself listens (smtp.listen_tls)"),
        ('tls_certificate = "/c"\nlisten_tls = "127.0.0.1:9"\n[spamc]\nlisten = "127.0.0.1:9"', "give each its own"),
        ('listen_mode = "0999"', "smtp.listen_mode: '0999' is no mode; write four octal digits such as 0660."),
        ('proxy_protocol_from = ["load-balancer"]', "smtp.proxy_protocol_from"),
    ],
)
def test_doors_fit_together(write, text, reason):
    """TLS wants a certificate, each door a place of its own, and modes and networks are such."""
    (fault,) = faults(write(f"[smtp]\n{text}\n"))

    assert reason in fault
