"""Every error that spamd raises on purpose.

    SpamdError
    |- ConfigError          every fault found in the settings, each with file, key and reason
    |- PluginError          names the plugin that could not be used
    |  |- UnknownNameError  a head, policy or dataset that nobody registered; lists the names on offer
    |  `- DuplicateNameError  one name registered twice; names both owners
    |- DatasetError         names the dataset and the file that could not be read
    |- CheckpointError      missing, damaged, or made for another trunk, head or text version
    |- FetchError           published weights could not be had from the network
    |- TrainingError        the loss is not finite, or there is nothing to train or to judge with
    |- ScoringError         no score for this message
    |  `- ScoringTimeout    no score before the deadline
    `- RelayError           the next hop refused or fell silent; carries its reply

The text of each is one full sentence for the operator: what, where, which value, what to do. What an error means to the
outside is decided at the edges: `spamd.cli` maps classes to exit codes, `spamd.smtp.replies` to SMTP replies, and a test
walks this tree so that no class lacks either. Mistakes of programmers stay `ValueError`.
"""


class SpamdError(Exception):
    """Base of all errors here; `permanent` stays False unless trying again is proven useless.

    A wrong 5xx loses mail and a wrong 4xx does not, so nothing is permanent by default.
    """

    permanent = False


class ConfigError(SpamdError):
    """The settings cannot be used; the text lists every fault found, one a line."""


class PluginError(SpamdError):
    """A plugin could not be loaded or broke its contract."""


class UnknownNameError(PluginError):
    """A name that no plugin registered was asked for."""


class DuplicateNameError(PluginError):
    """Two plugins registered the same name."""


class DatasetError(SpamdError):
    """A dataset, or one of its files, cannot be read."""


class CheckpointError(SpamdError):
    """A checkpoint is missing, damaged, or does not fit this version of spamd."""


class FetchError(SpamdError):
    """Published weights or their vocabulary could not be fetched."""


class TrainingError(SpamdError):
    """Training cannot start or cannot go on."""


class ScoringError(SpamdError):
    """A message got no score."""


class ScoringTimeout(ScoringError):  # noqa: N818  the name tells what happened
    """A message got no score before its deadline."""


class RelayError(SpamdError):
    """The next hop refused a message or fell silent.

    Attributes:
        reply: the next hop's own reply as it came over the wire (without the final CRLF), or None where it gave none.
    """

    def __init__(self, sentence: str, reply: bytes | None = None) -> None:
        super().__init__(sentence)
        self.reply = reply
