"""spamd: a mail filter that reads mail with a GPT-2 behind a loss-free SMTP proxy."""

__version__ = "0.1.0"
