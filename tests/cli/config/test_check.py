"""`spamd-admin config check`."""

from pathlib import Path

import pytest


def test_good_settings_are_ok(spamd_admin, tmp_path):
    """Settings without a fault are exit code 0, and the file is named."""
    file = tmp_path / "spamd.toml"
    file.write_text("[smtp]\nmax_hops = 20\n")

    ran = spamd_admin("config", "check", "--config", file)

    assert (0, f"ok: {file}\n", "") == (ran.code, ran.out, ran.err)


def test_no_file_is_ok(spamd_admin, monkeypatch, tmp_path):
    """Without a file the defaults are in force, and they are sound."""
    monkeypatch.setattr("spamd.config.DEFAULT_FILE", tmp_path / "absent")

    ran = spamd_admin("config", "check")

    assert (0, "ok: no file, defaults\n") == (ran.code, ran.out)


def test_every_fault_is_printed(spamd_admin, tmp_path, monkeypatch):
    """All faults of file and environment stand on standard error, and the exit code is 78."""
    file = tmp_path / "spamd.toml"
    file.write_text("[smtp]\nmax_hops = 0\nlistn = 'x'\n")
    monkeypatch.setenv("SPAMD_LOG__LEVEL", "loud")

    ran = spamd_admin("config", "check", "--config", file)

    assert (78, "") == (ran.code, ran.out)
    assert [
        "error: the settings have 3 faults:",
        f"  {file}: smtp.max_hops: input should be greater than 0, not 0.",
        f"  {file}: smtp.listn: unknown key; did you mean smtp.listen?",
        "  SPAMD_LOG__LEVEL: log.level: input should be 'debug', 'info', 'warning' or 'error', not 'loud'.",
    ] == ran.err.splitlines()


def test_a_missing_file_is_told(spamd_admin, tmp_path):
    """A file that was named and is not there is a fault of the settings."""
    ran = spamd_admin("config", "check", "--config", tmp_path / "absent.toml")

    assert (78, f"error: {tmp_path}/absent.toml: cannot be read: No such file or directory.\n") == (ran.code, ran.err)


def test_a_circle_is_told(spamd_admin, tmp_path):
    """Settings with which the daemon would refuse to start, for mail would come back to it, are not called ok."""
    file = tmp_path / "spamd.toml"
    file.write_text('[smtp]\nlisten = "127.0.0.1:20025"\nnext_hop = "127.0.0.1:20025"\n')

    ran = spamd_admin("config", "check", "--config", file)

    assert (78, "") == (ran.code, ran.out)
    assert "is where spamd itself listens" in ran.err


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("model", "list"), ("plugins", "list")])
def test_settings_that_cannot_be_read(spamd_admin, tmp_path, monkeypatch, command):
    """A settings file that its reader may not read is a fault of the settings, for every command: exit code 78."""
    file = tmp_path / "spamd.toml"
    file.write_text("")
    monkeypatch.setattr("os.access", lambda *_, **__: False)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    ran = spamd_admin(*command, "--config", file)

    assert (78, f"error: {file}: cannot be read: Permission denied.\n") == (ran.code, ran.err)


def test_unusable_certificates(spamd_admin, tmp_path):
    """Files for TLS that cannot be used are told before the daemon meets them."""
    file = tmp_path / "spamd.toml"
    file.write_text(f'[smtp]\ntls_certificate = "{tmp_path}/absent.pem"\n')
    ran = spamd_admin("config", "check", "--config", file)

    assert 78 == ran.code
    assert f"smtp.tls_certificate: {tmp_path}/absent.pem cannot be read: No such file or directory." in ran.err


def test_a_tls_address_that_is_the_next_hop(spamd_admin, tmp_path):
    """Mail would circle through the address for TLS too."""
    file = tmp_path / "spamd.toml"
    file.write_text(f'[smtp]\ntls_certificate = "{tmp_path}/a.pem"\nlisten_tls = "0.0.0.0:10465"\nnext_hop = "127.0.0.1:10465"\n')
    ran = spamd_admin("config", "check", "--config", file)

    assert 78 == ran.code
    assert "mail would circle" in ran.err


def test_a_fleets_token_is_looked_at(spamd_admin, tmp_path):
    """A token that the daemon could not use is a fault, one that it can is ok, and neither is printed."""
    token, file = tmp_path / "token", tmp_path / "spamd.toml"
    token.write_text("too-short")
    token.chmod(0o600)
    file.write_text(f'[scoring]\nscorer = "remote"\nremote_url = "http://127.0.0.1:1"\nremote_token_file = "{token}"\n')
    faulty = spamd_admin("config", "check", "--config", file)
    token.write_text("0123456789abcdef")
    sound = spamd_admin("config", "check", "--config", file)
    shown = spamd_admin("config", "show", "--config", file)

    assert (78, 0) == (faulty.code, sound.code)
    assert faulty.err.startswith(f"error: scoring.remote_token_file: {token} must hold one word")
    assert "too-short" not in faulty.err
    assert f'remote_token_file = "{token}"' in shown.out
    assert "0123456789abcdef" not in shown.out
