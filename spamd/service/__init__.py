"""The life of a message whatever the protocol, and the checkpoints on disk."""
