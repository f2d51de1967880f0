"""What happens to one message once it is here: judge, act, send on, answer, log.

The client gets 250 after the next hop's 250 and never before; whatever fails on the way is temporary, so that the client tries
again. A message is sent on as it came: ours are a Received field and X-Spam-* fields in front, forged X-Spam-* fields go, and
nothing below is touched. Does not speak SMTP itself and does not know how messages are judged. Called by `session`.

Security: the message is hostile and only ever handled as bytes; nothing of it, of its envelope or of an error's text is logged or
answered.
"""

import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from spamd.errors import SpamdError
from spamd.mail.headers import count_hops, count_passes, prepend_fields, received_field, rewrite_subject, verdict_fields
from spamd.service.judge import MessageJudge, judgement_of, off_loop
from spamd.service.logs import describe
from spamd.service.record import MessageRecord
from spamd.smtp import replies
from spamd.smtp.record import Origin, record_of, write_record
from spamd.smtp.replies import Reply, reply_to
from spamd.smtp.transaction import Transaction
from spamd.smtp.wire import CRLF, has_bare_newline, normalise, unstuff
from spamd.verdict import Action, Unscored, Verdict, action_for

log = structlog.get_logger(__name__)

EMPTY_LINE = CRLF + CRLF
MAX_PASSES = 5
"""A message that has been here so often goes in circles, and is stopped before it has been on `max_hops` hops."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done with messages, in plain values of the settings.

    Attributes:
        hostname: our name.
        version: version of spamd.
        instance: id of this proxy, by which it knows messages that it has seen before.
        on_failure: `pass` or `defer`: what becomes of a message without a verdict.
        deadline_seconds: time within which the judge means to answer.
        subject_tag: text put before the subject of spam; empty leaves subjects alone.
        reject_score: probability from which spam is refused, or None.
        quarantine_score: probability from which spam goes to the quarantine recipient, or None.
        quarantine_recipient: its address.
        bare_newlines: `normalise` or `refuse`.
        max_hops: as many Received fields are a loop.
    """

    hostname: str
    version: str
    instance: str
    on_failure: str = "pass"
    deadline_seconds: float = 20.0
    subject_tag: str = ""
    reject_score: float | None = None
    quarantine_score: float | None = None
    quarantine_recipient: str = ""
    bare_newlines: str = "normalise"
    max_hops: int = 50


class MessageHandler:
    """Decides and does what becomes of messages; one for all sessions.

    Args:
        judge: says what a message is.
        policy: what to do then.
    """

    def __init__(self, judge: MessageJudge, policy: Policy) -> None:
        self._judge = judge
        self._policy = policy
        # Unique across restarts without a clock that must not go back.
        self._numbers = itertools.count(time.time_ns() // 1000)

    async def handle(self, wire: bytes, origin: Origin, transaction: Transaction) -> Reply:
        """Take one message to its end.

        Args:
            wire: the message in wire form, without the terminating dot.
            origin: where it came from.
            transaction: its envelope, open at the next hop; ended here whatever happens.

        Returns:
            The reply to the client's dot.
        """
        queue_id = self._next_id()
        record = record_of(queue_id, origin, len(wire), transaction.num_recipients)
        bound = structlog.contextvars.bind_contextvars(queue_id=queue_id)
        try:
            reply = await self._take(wire, origin, transaction, record)
        except Exception as error:  # noqa: BLE001  whatever it is, the client keeps the message and tries again
            report(error)
            reply = reply_to(error)
        finally:
            # Nothing to do where the message was sent or refused; after a failure, no dot must reach the next hop.
            transaction.abandon()
            structlog.contextvars.reset_contextvars(**bound)
        write_record(record, reply)
        return reply

    async def refuse(self, reply: Reply, num_bytes: int, origin: Origin, transaction: Transaction) -> Reply:
        """Refuse a message that was not kept.

        Args:
            reply: why.
            num_bytes: how much of it came.
            origin: where it came from.
            transaction: its envelope; ended here.

        Returns:
            The reply.
        """
        record = record_of(self._next_id(), origin, num_bytes, transaction.num_recipients)
        await transaction.reset()
        write_record(record, reply)
        return reply

    def _next_id(self) -> str:
        """Make an id for a message."""
        return f"{self._policy.instance}.{next(self._numbers):x}"

    async def _take(self, wire: bytes, origin: Origin, transaction: Transaction, record: MessageRecord) -> Reply:
        """Check, judge and act."""
        policy = self._policy
        refusal, wire, message = await off_loop(self._prepare, wire)
        if refusal:
            return await _refuse(transaction, refusal)
        judgement = record.judgement = await judgement_of(self._judge, message, policy.deadline_seconds)
        del message
        action = action_for(
            judgement.verdict,
            on_failure=policy.on_failure,
            subject_tag=policy.subject_tag,
            reject_score=policy.reject_score,
            quarantine_score=policy.quarantine_score,
        )
        record.facts["action"] = action.value
        if action is Action.REJECT:
            return await _refuse(transaction, replies.SPAM)
        if action is Action.DEFER:
            return await _refuse(transaction, replies.DEFERRED)
        if action is Action.REWRITE_SUBJECT:
            wire = await off_loop(rewrite_subject, wire, policy.subject_tag)
        wire = await off_loop(prepend_fields, wire, self._fields(judgement.verdict, origin, transaction, record.queue_id))
        with record.stage("relay"):
            if action is Action.QUARANTINE:
                return await self._quarantine(wire, transaction)
            return await transaction.send(wire)

    def _prepare(self, wire: bytes) -> tuple[Reply | None, bytes, bytes]:
        """Check a message; returns why it is refused, if it is, its wire form with sound line ends, and the message itself."""
        if has_bare_newline(wire):
            if self._policy.bare_newlines == "refuse":
                return replies.BARE_NEWLINE, wire, b""
            wire = normalise(wire)
        message = unstuff(wire)
        return replies.LOOP if self._is_looping(message) else None, wire, message

    def _is_looping(self, message: bytes) -> bool:
        """Tell whether a message goes in circles; only its header is searched, line ends are CRLF.

        Once or twice through the same filter is no circle: a mailing list, an alias or a forwarding that comes back brings honest
        mail here again, and to refuse it for good would lose it.
        """
        end = message.find(EMPTY_LINE)
        header = message[: end + len(CRLF)] if end >= 0 else message
        return count_hops(header) >= self._policy.max_hops or count_passes(header, self._policy.instance) >= MAX_PASSES

    async def _quarantine(self, wire: bytes, transaction: Transaction) -> Reply:
        """Send a message to the quarantine; anything but success is temporary, for it is not the client's fault."""
        reply = await transaction.redirect(wire, self._policy.quarantine_recipient)
        if reply.is_positive:
            return reply
        log.warning("quarantine refused", next_hop_code=reply.code, advice="check that actions.quarantine_recipient exists")
        return replies.QUARANTINE_FAILED

    def _fields(self, verdict: Verdict | Unscored, origin: Origin, transaction: Transaction, queue_id: str) -> bytes:
        """Write the fields that go in front."""
        is_utf8 = b" SMTPUTF8" in transaction.mail_line.upper()
        received = received_field(
            client=origin.client,
            helo=origin.helo,
            hostname=self._policy.hostname,
            identifier=queue_id,
            when=datetime.now(UTC),
            protocol=origin.protocol.replace("ESMTP", "UTF8SMTP") if is_utf8 else origin.protocol,
        )
        return received + verdict_fields(verdict, hostname=self._policy.hostname, version=self._policy.version)


async def _refuse(transaction: Transaction, reply: Reply) -> Reply:
    """End the transaction at the next hop without a dot."""
    await transaction.reset()
    return reply


def report(error: Exception) -> None:
    """Log why something could not be done for a client.

    Args:
        error: what was raised; only our own errors are known to quote nothing of a message.
    """
    if isinstance(error, SpamdError):
        log.warning("delayed", reason=str(error))
    else:
        log.error("delayed", **describe(error))
