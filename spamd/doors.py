"""The doors that mail comes in by, opened as the settings say or on the sockets that systemd handed over, and closed together.

Joins `smtp` and `spamc` and knows neither protocol. Called by `daemon`.

Security: listens on nothing but what the settings or the operator's socket units name.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence

from spamd.config import Settings
from spamd.service.door import Door
from spamd.service.judge import MessageJudge
from spamd.service.listening import own_hostname
from spamd.service.systemd import inherited_sockets
from spamd.smtp.server import Proxy, start_proxy
from spamd.spamc.server import start_spamc

TLS_SOCKETS = "smtps"
SPAMC_SOCKETS = "spamc"
"""What socket units call these with FileDescriptorName; sockets of any other name are the proxy's."""


class Doors:
    """What is open.

    Args:
        proxy: the proxy.
        spamc: the door for spamc clients; None where nobody wants it.
    """

    def __init__(self, proxy: Proxy, spamc: Door | None) -> None:
        self._proxy = proxy
        self._spamc = spamc

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each listens, for the log."""
        return {"listen": self._proxy.addresses} | ({"spamc": self._spamc.addresses} if self._spamc else {})

    def renew_certificate(self) -> None:
        """Read our certificate anew, for the sessions to come.

        Raises:
            ConfigError: it cannot be used; the old one stays.
        """
        self._proxy.renew_certificate()

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the deadline of the whole, not of one wait
        """Take nothing new, finish what is in flight, and close.

        Args:
            timeout: seconds after which what is still in flight is given up.
        """
        await asyncio.gather(*(door.drain(timeout) for door in (self._proxy, self._spamc) if door))


async def open_doors(settings: Settings, judge: MessageJudge) -> Doors:
    """Open the proxy, and the door for spamc clients where it is wanted: both or neither.

    Args:
        settings: addresses, limits and actions.
        judge: says what a message is.

    Raises:
        ConfigError: a setting cannot be followed.
        OSError: an address cannot be listened on.
    """
    inherited = inherited_sockets()
    proxy = await _open_proxy(settings, judge, inherited)
    sockets = inherited.get(SPAMC_SOCKETS, ())
    if not settings.spamc.listen and not sockets:
        return Doors(proxy, None)
    try:
        return Doors(proxy, await _open_spamc(settings, judge, sockets))
    except BaseException:
        await proxy.close()
        raise


async def _open_proxy(settings: Settings, judge: MessageJudge, inherited: Mapping[str, Sequence[socket.socket]]) -> Proxy:
    """Start the proxy."""
    return await start_proxy(
        settings.smtp,
        judge,
        actions=settings.actions,
        on_failure=settings.scoring.on_failure,
        deadline_seconds=settings.scoring.deadline_seconds,
        sockets=[one for name, some in inherited.items() if name not in {TLS_SOCKETS, SPAMC_SOCKETS} for one in some],
        tls_sockets=inherited.get(TLS_SOCKETS, ()),
    )


async def _open_spamc(settings: Settings, judge: MessageJudge, sockets: Sequence[socket.socket]) -> Door:
    """Start to answer spamc clients."""
    return await start_spamc(
        settings.spamc,
        judge,
        hostname=await own_hostname(settings.smtp.hostname),
        subject_tag=settings.actions.subject_tag,
        deadline_seconds=settings.scoring.deadline_seconds,
        sockets=sockets,
    )
