"""TLS with clients: STARTTLS and implicit, nothing smuggled in before it, and files that cannot be used told at the start."""

import asyncio
import gc
import socket
import ssl
import struct

import pytest
import trustme
from certificates import Authority
from smtp_peers import Client, below_our_fields

from spamd.config import SmtpSettings
from spamd.errors import ConfigError
from spamd.smtp import session
from spamd.smtp.server import start_proxy

WIRE = b"Subject: x\r\n\r\nbody\r\n"
NAME = "mx.test"


@pytest.fixture
def authority(tmp_path):
    """An authority that signs what a test needs."""
    return Authority(tmp_path)


@pytest.fixture
def files(authority):
    """The settings of a certificate."""
    certificate, key = authority.files(NAME)
    return {"tls_certificate": certificate, "tls_key": key}


@pytest.fixture
def encrypt(authority):
    """A function that says STARTTLS and goes over to TLS."""

    async def start_tls(client):
        assert b"220" == (await client.say(b"STARTTLS"))[:3]
        await client.writer.start_tls(authority.client(), server_hostname=NAME)

    return start_tls


async def begin_handshake(proxy):
    """Connect, say STARTTLS and nothing more; returns reader and writer."""
    reader, writer = await asyncio.open_connection(*proxy.addresses[0].rsplit(":", 1))
    await reader.readline()
    writer.write(b"STARTTLS\r\n")
    assert (await reader.readline()).startswith(b"220")
    return reader, writer


async def test_a_client_that_is_gone_within_the_handshake_is_forgotten(start, files):
    """A connection that is reset there leaves nothing behind, though the event loop does not say that it is lost."""
    proxy = await start(**files)
    for _ in range(5):
        _, writer = await begin_handshake(proxy)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        # Not isinstance, at which lazy objects of other libraries awake.
        while any(one.loop is loop for one in gc.get_objects() if type(one) is session.FilterSMTP):
            await asyncio.sleep(0.05)
            gc.collect()


async def test_nothing_is_said_in_plain_text_within_the_handshake(start, files):
    """A proxy that stops then closes the connection without a word."""
    proxy = await start(**files)
    reader, writer = await begin_handshake(proxy)

    await proxy.drain(1)

    assert b"" == await reader.read()
    writer.close()


async def test_starttls(start, files, encrypt, next_hop):
    """A client that goes over to TLS begins anew, is not offered it again, and its mail says in the trace field how it came."""
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        plain = await client.say(b"EHLO client.test")
        await client.say(b"MAIL FROM:<plain@client.test>")
        await encrypt(client)
        forgotten = await client.say(b"MAIL FROM:<a@client.test>")
        encrypted = await client.say(b"EHLO client.test")
        again = await client.say(b"STARTTLS")
        reply = await client.submit(WIRE)

    assert (True, False) == (plain.endswith(b"250 STARTTLS"), b"STARTTLS" in encrypted)
    assert [b"503 5.5.1", b"503 5.5.1", b"250 2.0.0"] == [one[:9] for one in (forgotten, again, reply)]
    (message,) = next_hop.messages
    assert b"with ESMTPS\r\n id " in message.content
    assert WIRE == below_our_fields(message.content)
    assert (b"MAIL FROM:<sender@client.test>", False) == (message.mail, b"RSET" in next_hop.commands[-3:])


async def test_implicit_tls(start, authority, files, next_hop):
    """On an address of its own, TLS begins with the first byte; UTF-8 addresses have a word of their own in the trace field."""
    proxy = await start(**files, listen_tls="127.0.0.1:0")
    async with Client(proxy.addresses[1], tls=authority.client(), name=NAME) as client:
        announced = await client.say(b"EHLO client.test")
        replies = [await client.say(line) for line in (b"STARTTLS", b"MAIL FROM:<a@b> SMTPUTF8", b"RCPT TO:<c@d>", b"DATA")]
        replies.append(await client.say(WIRE + b"."))

    assert [b"502", b"250", b"250", b"354", b"250"] == [reply[:3] for reply in replies]
    assert b"STARTTLS" not in announced
    assert b"with UTF8SMTPS\r\n id " in next_hop.messages[0].content


async def test_sockets_of_systemd_speak_tls(start, authority, files, next_hop):
    """A socket that systemd hands over for TLS is served in TLS, and a client that waited in its backlog is not lost."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:{1}".format(*listener.getsockname())
    early = asyncio.ensure_future(Client(address, tls=authority.client(), name=NAME).__aenter__())
    await asyncio.sleep(0.05)
    proxy = await start(**files, tls_sockets=[listener])
    client = await early
    reply = await client.submit(WIRE)
    await client.__aexit__()

    assert (address, b"250") == (proxy.addresses[-1], reply[:3])
    assert b"with ESMTPS\r\n id " in next_hop.messages[0].content


async def test_both_addresses_share_their_limits(start, authority, files):
    """Who holds all places in plain text leaves none in TLS, and the other way round."""
    proxy = await start(**files, listen_tls="127.0.0.1:0", max_connections=1)
    async with Client(proxy.addresses[0]) as first:
        waiting = asyncio.ensure_future(Client(proxy.addresses[1], tls=authority.client(), name=NAME).__aenter__())
        await asyncio.sleep(0.1)
        was_waiting = not waiting.done()
        await first.say(b"QUIT")
    second = await waiting

    assert (True, b"220") == (was_waiting, second.greeting[:3])
    await second.__aexit__()


async def test_large_messages_pass(start, files, encrypt, next_hop):
    """Flow control works through TLS, in both directions."""
    wire = b"Subject: x\r\n\r\n" + b"0123456789" * 7 + b"\r\n"
    wire += wire * 30_000
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        await encrypt(client)
        reply = await client.submit(wire)

    assert b"250" == reply[:3]
    assert wire == below_our_fields(next_hop.messages[0].wire)


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"MAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", b"x"])
async def test_nothing_may_follow_starttls(start, files, next_hop, behind, capsys):
    """Commands that somebody slipped in behind STARTTLS are never obeyed: the session ends (CVE-2011-0411)."""
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"EHLO client.test")
        await client.send(b"STARTTLS\r\n" + behind)
        replies = [await client.reply(), await client.reply()]

    assert [b"421 4.7.0", b""] == [reply[:9] for reply in replies]
    assert "commands behind STARTTLS" in capsys.readouterr().out
    assert not any(command.startswith((b"MAIL", b"NOOP")) for command in next_hop.commands)


async def test_commands_in_place_of_a_handshake(start, files, next_hop):
    """Plain text where a handshake is due ends the session."""
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"EHLO client.test")
        await client.say(b"STARTTLS")
        await client.send(b"MAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\n")
        rest = await client.reader.read()

    assert b"250" not in rest
    assert not any(command.startswith(b"MAIL") for command in next_hop.commands)
    await asyncio.sleep(0.05)
    assert 0 == proxy.num_sessions


async def test_handshakes_have_a_time_limit(start, files, monkeypatch):
    """A client that never begins its handshake is sent away, on either address."""
    monkeypatch.setattr(session, "HANDSHAKE_SECONDS", 0.1)
    monkeypatch.setattr("spamd.smtp.server.HANDSHAKE_SECONDS", 0.1)
    proxy = await start(**files, listen_tls="127.0.0.1:0")
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"STARTTLS")
        starttls = await asyncio.wait_for(client.reader.read(), 5)
    host, _, port = proxy.addresses[1].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    implicit = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert (b"", b"", 0) == (starttls, implicit, proxy.num_sessions)


async def test_tls_can_be_required(start, files, encrypt, next_hop, tmp_path):
    """Where TLS is required, mail and XFORWARD want STARTTLS first, other commands do not, and UNIX sockets are exempt."""
    proxy = await start(**files, tls_required=True)
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.say(line) for line in (b"NOOP", b"EHLO client.test", b"MAIL FROM:<a@b>", b"XFORWARD NAME=x")]
        await encrypt(client)
        replies.append(await client.submit(WIRE))
    local = await start(**files, tls_required=True, listen=f"unix:{tmp_path}/smtp")
    async with Client(local.addresses[0]) as client:
        replies.append(await client.submit(WIRE))

    assert [b"250", b"250", b"530", b"530", b"250", b"250"] == [reply[:3] for reply in replies]


async def test_what_is_announced(start, files, encrypt, next_hop):
    """In TLS REQUIRETLS passes through and PIPELINING does not: an early half-close would lose our reply."""
    next_hop.extensions = (b"SIZE", b"REQUIRETLS")
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        plain = await client.say(b"EHLO client.test")
        await encrypt(client)
        encrypted = await client.say(b"EHLO client.test")

    assert (True, False) == (b"PIPELINING" in plain, b"PIPELINING" in encrypted)
    assert (False, True) == (b"REQUIRETLS" in plain, b"REQUIRETLS" in encrypted)


async def test_starttls_syntax(start, files):
    """STARTTLS takes no argument, and is unknown where there is no certificate."""
    replies = []
    for settings in (files, {}):
        proxy = await start(**settings)
        async with Client(proxy.addresses[0]) as client:
            replies += [(await client.say(b"STARTTLS now"))[:3], (await client.say(b"EHLO c"))[-8:] == b"STARTTLS"]
    async with Client(proxy.addresses[0]) as client:
        replies.append((await client.say(b"STARTTLS"))[:3])

    assert [b"501", True, b"502", False, b"502"] == replies


async def test_old_protocols_are_refused(start, authority, files):
    """Nobody gets in with TLS 1.1."""
    proxy = await start(**files, listen_tls="127.0.0.1:0")
    context = authority.client()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Client(proxy.addresses[1], tls=context, name=NAME).__aenter__()


async def test_clients_that_leave_within_tls(start, files, encrypt, next_hop):
    """A client that is cut off inside TLS leaves no session and no message behind."""
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        await encrypt(client)
        await client.envelope()
        await client.send(b"Subject: x\r\n")
        client.writer.transport.abort()
    await asyncio.sleep(0.1)

    assert (0, []) == (proxy.num_sessions, next_hop.messages)


async def test_draining_reaches_encrypted_sessions(start, files, encrypt):
    """At the end an idle session in TLS is told 421 in TLS."""
    proxy = await start(**files)
    async with Client(proxy.addresses[0]) as client:
        await encrypt(client)
        await client.say(b"EHLO client.test")
        draining = asyncio.ensure_future(proxy.drain(5))
        reply = await client.reply()
        client.writer.close()
        await draining

    assert b"421 4.3.2" == reply[:9]


async def test_certificates_are_renewed(start, authority, files):
    """What a file holds when the operator says so is shown to the clients to come; a bad file leaves the old certificate."""
    proxy = await start(**files, listen_tls="127.0.0.1:0")

    async def shown():
        async with Client(proxy.addresses[1], tls=authority.client(), name=NAME) as client:
            return client.writer.get_extra_info("peercert")["serialNumber"]

    serials = [await shown()]
    authority.files(NAME)
    proxy.renew_certificate()
    serials.append(await shown())
    files["tls_key"].write_text("nonsense")
    with pytest.raises(ConfigError):
        proxy.renew_certificate()
    serials.append(await shown())

    assert serials[0] != serials[1] == serials[2]


@pytest.fixture
def broken(tmp_path, authority, files):
    """A function that makes settings of a certificate that cannot be used: returns them and the file at fault."""

    def with_passphrase():
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(files["tls_key"].read_bytes(), None)
        protection = serialization.BestAvailableEncryption(b"secret")
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection)
        files["tls_key"].write_bytes(key.private_bytes(*form))
        return files

    def in_folder():
        return files | {"tls_key": tmp_path}

    def of_another():
        return files | {"tls_key": authority.files("other.test")[1]}

    def of_another_kind():
        signed = trustme.CA().issue_cert(NAME, key_type=trustme.KeyType.RSA)
        signed.private_key_pem.write_to_path(tmp_path / "rsa.key")
        return files | {"tls_key": tmp_path / "rsa.key"}

    return {
        "missing certificate": lambda: files | {"tls_certificate": tmp_path / "absent.pem"},
        "missing key": lambda: files | {"tls_key": tmp_path / "absent.key"},
        "folder": in_folder,
        "no key": lambda: {"tls_certificate": files["tls_certificate"]},
        "exchanged": lambda: {"tls_certificate": files["tls_key"], "tls_key": files["tls_certificate"]},
        "passphrase": with_passphrase,
        "another": of_another,
        "another kind": of_another_kind,
    }


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("missing certificate", r"smtp\.tls_certificate: .*absent\.pem cannot be read: No such file or directory\."),
        ("missing key", r"smtp\.tls_key: .*absent\.key cannot be read: No such file or directory\."),
        ("folder", r"smtp\.tls_key: .* cannot be read: Is a directory\."),
        ("no key", r"smtp\.tls_certificate: .*mx\.test\.pem holds no certificate with its key in PEM form"),
        ("exchanged", r"smtp\.tls_certificate: .* hold no certificate with its key in PEM form"),
        ("passphrase", r"smtp\.tls_key: .* is protected by a passphrase"),
        ("another", r"smtp\.tls_key: .*other\.test\.key is not the key of the certificate in .*mx\.test\.pem\."),
        ("another kind", r"smtp\.tls_key: .*rsa\.key is not the key of the certificate in .*mx\.test\.pem\."),
    ],
)
async def test_unusable_files_stop_the_start(broken, fault, sentence):
    """Whatever is wrong with certificate and key, one sentence names setting and file, and nothing asks for a passphrase."""
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        await start_proxy(SmtpSettings(listen="127.0.0.1:0", **broken[fault]()), None)
