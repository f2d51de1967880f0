"""The unit is one that systemd accepts, hardened as promised, and it fits the settings; the example file holds every default."""

import shutil
import subprocess
from pathlib import Path

import pytest

from spamd.cli.config.layout import example
from spamd.config import ScoringSettings, SmtpSettings, load_settings
from spamd.doors import SPAMC_SOCKETS, TLS_SOCKETS
from spamd.service.listening import BACKLOG

FOLDER = Path(__file__).resolve().parent.parent / "systemd"
UNIT = FOLDER / "spamd.service"

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed on this machine")


@pytest.fixture
def unit(tmp_path) -> Path:
    """The unit with a program that exists, since spamd is not installed where the unit says."""
    text = UNIT.read_text()
    program = next(line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart="))
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(program, "/bin/true"))
    return copy


@pytest.fixture
def directives() -> dict[str, list[str]]:
    """What the unit says: directive -> values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(params=["", "gpu.conf", "tls.conf", "fleet.conf"])
def variant(request, unit) -> Path:
    """The unit alone, and with each of the drop-ins, whose lines count as if they stood at its end."""
    if request.param:
        unit.write_text(unit.read_text() + (FOLDER / "spamd.service.d" / request.param).read_text())
    return unit


@needs_systemd
def test_systemd_accepts_the_unit(variant):
    """`systemd-analyze verify` finds nothing to say: no unknown directive, no wrong value, with and without drop-ins."""
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", variant], capture_output=True, text=True, check=False)

    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


@needs_systemd
def test_systemd_accepts_the_socket(unit):
    """The socket unit beside its service is accepted likewise."""
    socket = shutil.copy(FOLDER / "spamd.socket", unit.parent)
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", socket], capture_output=True, text=True, check=False)

    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_the_socket_is_the_proxys():
    """The socket unit listens where the settings do by default, under a name that is neither TLS nor spamc."""
    lines = (FOLDER / "spamd.socket").read_text().splitlines()

    assert f"ListenStream={SmtpSettings().listen}" in lines
    assert "FileDescriptorName=smtp" in lines
    assert f"Backlog={BACKLOG}" in lines
    assert "smtp" not in {TLS_SOCKETS, SPAMC_SOCKETS}


def test_the_watch_is_longer_than_a_batch(directives):
    """Systemd waits longer for a sign of life than a message may wait for its verdict."""
    (seconds,) = map(float, directives["WatchdogSec"])

    assert 3 * ScoringSettings().deadline_seconds < seconds


@needs_systemd
def test_the_unit_is_hardened(variant):
    """`systemd-analyze security` gives an exposure of at most 2.0 of 10, with and without drop-ins."""
    unit = variant
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == ran.returncode, ran.stdout


def test_the_daemon_may_end_in_peace(directives):
    """Systemd waits longer than sessions may go on after SIGTERM."""
    (seconds,) = map(float, directives["TimeoutStopSec"])

    assert SmtpSettings().drain_timeout_seconds * 2 < seconds


def test_start_reload_and_state(directives):
    """Systemd is told when we are ready, reload is SIGHUP, and the folders are those of the settings."""
    assert (["notify"], ["kill -HUP $MAINPID"]) == (directives["Type"], directives["ExecReload"])
    assert (["spamd"], ["spamd"]) == (directives["StateDirectory"], directives["ConfigurationDirectory"])


def test_torch_can_work(directives):
    """What torch needs is not taken away: memory that becomes executable, the processor's features, a thread for each core."""
    assert "MemoryDenyWriteExecute" not in directives
    assert "ProcSubset" not in directives
    assert "sched_setaffinity" == directives["SystemCallFilter"][-1]


@pytest.mark.parametrize(
    ("drop_in", "setting", "name"),
    [
        ("tls.conf", "smtp.tls_certificate", "certificate.pem"),
        ("tls.conf", "smtp.tls_key", "key.pem"),
        ("fleet.conf", "scoring.remote_token_file", "fleet-token"),
    ],
)
def test_secrets_are_read_where_systemd_shows_them(drop_in, setting, name, tmp_path, monkeypatch):
    """What a drop-in loads as a credential is where its variables tell the settings to look."""
    lines = (FOLDER / "spamd.service.d" / drop_in).read_text().splitlines()
    loaded = dict(line.removeprefix("LoadCredential=").split(":") for line in lines if line.startswith("LoadCredential="))
    for line in lines:
        if line.startswith("Environment="):
            variable, _, value = line.removeprefix("Environment=").partition("=")
            monkeypatch.setenv(variable, value.replace("%d", str(tmp_path)))
    section, _, key = setting.partition(".")

    assert tmp_path / name == getattr(getattr(load_settings(), section), key)
    assert loaded[name].startswith("/etc/")


def test_spamassassins_unit_is_left_alone(directives):
    """The unit takes no other name, stops no other unit and keeps off SpamAssassin's port: both daemons may run side by side."""
    assert set() == {"Alias", "Conflicts", "Also"} & set(directives)
    assert "783" not in {SmtpSettings().listen.rpartition(":")[2], SmtpSettings().next_hop.rpartition(":")[2]}


def test_the_network_ends_at_this_machine(directives):
    """Nothing but loopback can be reached, whatever a model or plugin does."""
    assert (["any"], ["localhost"]) == (directives["IPAddressDeny"], directives["IPAddressAllow"])


def test_the_example_settings_hold_every_default():
    """systemd/spamd.toml is what `spamd-admin config show --example` prints; run that again after a change."""
    assert f"{example()}\n" == (FOLDER / "spamd.toml").read_text()
    assert load_settings(FOLDER / "spamd.toml") == load_settings()
