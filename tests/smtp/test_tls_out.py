"""TLS to the next hop: STARTTLS and implicit, checked, and never given up for plain text."""

from datetime import UTC, datetime

import pytest
from certificates import Authority
from next_hop import Fault, NextHop
from smtp_peers import Client, below_our_fields

from spamd.config import SmtpSettings
from spamd.errors import ConfigError
from spamd.smtp.server import start_proxy

WIRE = b"Subject: x\r\n\r\nbody\r\n"
NAME = "next-hop.test"


@pytest.fixture
def authority(tmp_path):
    """An authority that signs what a test needs."""
    return Authority(tmp_path)


@pytest.fixture
def said(start, authority, capsys):
    """A function that sends one message by way of a TLS next hop: returns the reply and what the log says."""

    async def send(next_hop, **settings):
        defaults = {"next_hop_tls": "starttls", "next_hop_tls_ca": authority.ca_file, "next_hop_tls_name": NAME}
        proxy = await start(next_hop=next_hop, **(defaults | settings))
        async with Client(proxy.addresses[0]) as client:
            reply = await client.submit(WIRE)
        return reply, capsys.readouterr().out

    return send


@pytest.mark.parametrize("is_implicit", [False, True])
async def test_mail_goes_on_encrypted(said, authority, is_implicit):
    """With STARTTLS and with TLS from the first byte, the next hop gets the message, and EHLO is said anew after STARTTLS."""
    async with NextHop(tls=authority.server(NAME), is_implicit=is_implicit) as hop:
        reply, _ = await said(hop, next_hop_tls="implicit" if is_implicit else "starttls")

    assert (b"250", [WIRE]) == (reply[:3], [below_our_fields(message.content) for message in hop.messages])
    greetings = [b"EHLO mx.test"] if is_implicit else [b"EHLO mx.test", b"STARTTLS", b"EHLO mx.test"]
    assert greetings == hop.commands[: len(greetings)]
    assert hop.commands[len(greetings)].startswith(b"MAIL FROM")


async def test_lmtp_in_tls(said, authority):
    """An LMTP next hop is encrypted likewise."""
    async with NextHop(protocol="lmtp", tls=authority.server(NAME)) as hop:
        reply, _ = await said(hop, next_hop_protocol="lmtp")

    assert (b"250", 1, 2) == (reply[:3], len(hop.messages), hop.commands.count(b"LHLO mx.test"))


async def test_the_host_of_the_address_is_the_name(said, authority):
    """Where no name is set, the certificate must bear the host that is connected to."""
    async with NextHop(tls=authority.server("127.0.0.1")) as hop:
        reply, _ = await said(hop, next_hop_tls_name="")

    assert (b"250", 1) == (reply[:3], len(hop.messages))


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize(("name", "reason"), [("other.test", "Hostname mismatch"), (NAME, "unable to get local issuer")])
async def test_certificates_are_checked(said, authority, mode, name, reason):
    """A certificate of another name or of an unknown authority gets no mail: 451, and the log says which setting to look at."""
    settings = {"next_hop_tls_ca": None} if name == NAME else {}
    async with NextHop(tls=authority.server(name), is_implicit=mode == "implicit") as hop:
        reply, logged = await said(hop, next_hop_tls=mode, **settings)

    assert (b"451 4.4.2", []) == (reply[:9], hop.messages)
    assert reason in logged
    assert "smtp.next_hop_tls_ca" in logged


async def test_expired_certificates_are_refused(said, authority):
    """A certificate that is over gets no mail."""
    async with NextHop(tls=authority.server(NAME, ends=datetime(2020, 1, 1, tzinfo=UTC))) as hop:
        reply, logged = await said(hop)

    assert (b"451", []) == (reply[:3], hop.messages)
    assert "certificate has expired" in logged


async def test_checks_can_be_switched_off(said, authority):
    """An operator who wants encryption without a check gets it."""
    async with NextHop(tls=authority.server("other.test")) as hop:
        reply, _ = await said(hop, next_hop_tls_ca=None, next_hop_tls_check=False)

    assert (b"250", 1) == (reply[:3], len(hop.messages))


@pytest.mark.parametrize(
    ("hop", "mode", "reason"),
    [
        (NextHop(), "starttls", "does not offer STARTTLS"),
        (NextHop(), "implicit", "did not come to terms on TLS"),
        (NextHop(extensions=(b"STARTTLS",)), "starttls", "refused STARTTLS with 502"),
        (NextHop(extensions=(b"STARTTLS",), faults=[Fault("STARTTLS", "4xx")]), "starttls", "refused STARTTLS with 451"),
        (NextHop(extensions=(b"STARTTLS",), faults=[Fault("STARTTLS", "drop")]), "starttls", "closed the connection before"),
        (NextHop(extensions=(b"STARTTLS",), replies={b"STARTTLS": b"220 go"}.get), "starttls", "did not come to terms on TLS"),
    ],
)
async def test_plain_text_is_no_way_out(said, hop, mode, reason):
    """A next hop that cannot or will not encrypt gets nothing: 451."""
    async with hop:
        reply, logged = await said(hop, next_hop_tls=mode)

    assert (b"451 4.4.2", []) == (reply[:9], hop.messages)
    assert reason in logged
    assert not any(command.startswith(b"MAIL") for command in hop.commands)


async def test_answers_that_came_in_plain_text_are_not_believed(said, authority):
    """What follows the answer to STARTTLS unencrypted ends the connection: it could pass for an answer from within TLS."""
    injected = b"\r\n250-next-hop.test\r\n250 AUTH PLAIN"
    async with NextHop(tls=authority.server(NAME), behind_starttls=injected) as hop:
        reply, logged = await said(hop)

    assert (b"451", []) == (reply[:3], hop.messages)
    assert "said more than its answer to STARTTLS" in logged


async def test_silence_during_the_handshake_ends(said):
    """A next hop that falls silent after STARTTLS costs the command timeout and no more."""

    def stall(line):
        return b"220 go" if line == b"STARTTLS" else None

    async with NextHop(extensions=(b"STARTTLS",), replies=stall) as hop:
        hop.faults = [Fault("", "stall")]
        reply, logged = await said(hop, next_hop_command_timeout_seconds=0.2)

    assert b"451" == reply[:3]
    assert "did not come to terms on TLS" in logged


async def test_encrypted_connections_are_kept(start, authority):
    """One handshake serves one message after the other."""
    async with NextHop(tls=authority.server(NAME)) as hop:
        proxy = await start(next_hop=hop, next_hop_tls="starttls", next_hop_tls_ca=authority.ca_file, next_hop_tls_name=NAME)
        for _ in range(3):
            async with Client(proxy.addresses[0]) as client:
                assert b"250" == (await client.submit(WIRE))[:3]
        await proxy.drain(1)

    assert (1, 3) == (hop.num_connections, len(hop.messages))


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read: No such file"), (b"nonsense", "holds no certificate")])
async def test_unusable_authorities_stop_the_start(tmp_path, content, reason):
    """A file of authorities that is missing or is none is told with its setting."""
    file = tmp_path / "ca.pem"
    if content:
        file.write_bytes(content)
    settings = SmtpSettings(next_hop_tls="starttls", next_hop_tls_ca=file, listen="127.0.0.1:0")

    with pytest.raises(ConfigError, match=rf"smtp\.next_hop_tls_ca: .*{reason}"):
        await start_proxy(settings, None)
