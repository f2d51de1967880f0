"""Accepting, keeping and dismissing, whatever the protocol."""

import asyncio
import os
import socket
import stat

import pytest

from spamd.service.door import Door, TurnedAway
from spamd.service.listening import open_listeners


class Echo:
    """A session that sends back what it gets, and says goodbye when it is dismissed."""

    def __init__(self, connection):
        self.connection = connection
        self.task = asyncio.create_task(self.serve())
        self.task.add_done_callback(lambda _: connection.close())

    async def serve(self):
        """Serve until the other side ends."""
        loop = asyncio.get_running_loop()
        while some := await loop.sock_recv(self.connection, 100):
            await loop.sock_sendall(self.connection, some)

    def dismiss(self):
        """Say goodbye and end."""
        self.connection.send(b"bye")
        self.task.cancel()

    def abort(self):
        """End at once."""
        self.task.cancel()


@pytest.fixture
async def listener():
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.fixture
async def opened(listener):
    """A function that opens a door whose connections become sessions in a way of the test's own."""
    doors = []

    def open_door(bring_in, max_sessions=10):
        doors.append(Door([listener], max_sessions, bring_in))
        return doors[-1]

    yield open_door
    for door in doors:
        await door.close()


async def echo(connection, _listener):
    """Begin a session at once."""
    return Echo(connection)


async def connect(listener):
    """Connect a client."""
    return await asyncio.open_connection(*listener.getsockname())


async def test_clients_come_in_and_go(opened, listener):
    """A client is served, and forgotten when it leaves."""
    door = opened(echo)
    reader, writer = await connect(listener)
    writer.write(b"x")
    answer, num_inside = await reader.read(1), door.num_sessions
    writer.close()
    await asyncio.sleep(0.05)

    assert (b"x", 1, 0) == (answer, num_inside, door.num_sessions)


async def test_who_is_turned_away_leaves_no_trace(opened, listener, capsys):
    """A connection that does not become a session is closed and frees its place, whatever the reason."""
    reasons = [TurnedAway("it is Monday"), RuntimeError("secret")]

    async def refuse(_connection, _listener):
        raise reasons.pop(0)

    door = opened(refuse, max_sessions=1)
    for _ in range(2):
        reader, writer = await connect(listener)
        assert b"" == await reader.read()
        writer.close()

    logged = capsys.readouterr().out
    assert (True, False, 0) == ("it is Monday" in logged, "secret" in logged, door.num_sessions)


async def test_who_arrives_during_the_drain_is_dismissed(opened, listener):
    """A client that was accepted, and is no session yet when the door closes, is told goodbye like the others."""
    arrived, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection, _listener):
        arrived.set()
        await may_go_on.wait()
        return Echo(connection)

    door = opened(slow)
    reader, writer = await connect(listener)
    await arrived.wait()
    draining = asyncio.create_task(door.drain(5))
    await asyncio.sleep(0.01)
    may_go_on.set()
    await draining

    assert b"bye" == await reader.read()
    writer.close()


async def test_who_never_arrives_is_given_up(opened, listener):
    """The drain ends at its deadline, whoever is still on the doorstep."""

    async def never(_connection, _listener):
        await asyncio.sleep(3600)

    door = opened(never)
    reader, writer = await connect(listener)
    await asyncio.sleep(0.05)
    await asyncio.wait_for(door.drain(0.1), 5)

    assert b"" == await reader.read()
    writer.close()


async def test_accepted_clients_are_never_dropped(listener):
    """Of clients that keep coming while one door after another opens and drains, each is served or told goodbye, none reset.

    This is a restart under systemd, which holds the socket: whoever is not accepted waits for the next daemon.
    """
    answers, is_over = [], asyncio.Event()

    async def come():
        while not is_over.is_set():
            reader, writer = await connect(listener)
            writer.write(b"x")
            answers.append(await asyncio.wait_for(reader.read(1), 20))
            writer.close()

    coming = [asyncio.create_task(come()) for _ in range(10)]
    for _ in range(20):
        door = Door([listener.dup()], 5, echo)
        await asyncio.sleep(0.02)
        await door.drain(5)
    is_over.set()
    door = Door([listener.dup()], 50, echo)
    await asyncio.gather(*coming)
    await door.close()

    assert (set(), True) == (set(answers) - {b"x", b"b"}, len(answers) > 100)


@pytest.mark.parametrize("mode", ["0666", "0660", "600"])
async def test_unix_sockets_have_their_mode(tmp_path, mode):
    """A UNIX socket may be connected to by whom the settings say, whatever the umask, which is as before then."""
    before = os.umask(0o077)
    try:
        (opened,) = await open_listeners(f"unix:{tmp_path}/smtp", "smtp.listen", mode)
        opened.close()
        after = os.umask(0o077)
    finally:
        os.umask(before)

    assert (int(mode, 8), 0o077) == (stat.S_IMODE((tmp_path / "smtp").stat().st_mode), after)


async def test_replies_are_sent_at_once(opened, listener):
    """No reply waits in the kernel until the one before is acknowledged."""
    brought_in = asyncio.get_running_loop().create_future()

    async def look(connection, _listener):
        brought_in.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return Echo(connection)

    opened(look)
    _, writer = await connect(listener)
    option = await brought_in
    writer.close()

    assert 0 != option
