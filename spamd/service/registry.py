"""Checkpoints on disk: which there are, which one serves, which one served before; promote and roll back.

    <state_dir>/checkpoints/<id>/       one folder a checkpoint, written whole by `spamd.model.checkpoint`
    <state_dir>/current  -> checkpoints/<id>
    <state_dir>/previous -> checkpoints/<id>

A missing link stands for the checkpoint that ships with spamd, so a fresh installation needs no state at all, and rolling the
first promotion back leads to the shipped checkpoint again. Each link is switched by one rename: a reader sees the old
checkpoint or the new one, never none. This module never opens weights and never imports `model`; whether a checkpoint is sound is
asked of a function that the caller hands in. Called by `daemon`, `cli` and `cli.model`.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from spamd.errors import CheckpointError

SHIPPED_FOLDER = Path(__file__).parent.parent / "model" / "default"
"""The checkpoint that ships with spamd."""

CARD = "checkpoint.json"


class Registry:
    """The checkpoints of one state folder.

    Args:
        state_dir: the folder that holds `checkpoints/`, `current` and `previous`; need not exist before something is stored.
        shipped: folder of the checkpoint that serves where nothing was promoted.
    """

    def __init__(self, state_dir: Path, *, shipped: Path = SHIPPED_FOLDER) -> None:
        self.state_dir = state_dir
        self.shipped = shipped

    @property
    def checkpoints_dir(self) -> Path:
        """The folder that new checkpoints are written into."""
        return self.state_dir / "checkpoints"

    def current(self) -> Path:
        """Return the folder of the checkpoint that serves.

        Raises:
            CheckpointError: `current` points to a folder that is gone.
        """
        return self._follow("current") or self.shipped

    def previous(self) -> Path | None:
        """Return the folder that a rollback would bring back, or None where there is none.

        Raises:
            CheckpointError: `previous` points to a folder that is gone.
        """
        self._follow("previous")
        return self.roles().get("previous")

    def folders(self) -> list[Path]:
        """Return the folders of all stored checkpoints, ordered by id; the shipped one is not among them."""
        if not self.checkpoints_dir.is_dir():
            return []
        return sorted(folder for folder in self.checkpoints_dir.iterdir() if _is_checkpoint(folder))

    def roles(self) -> dict[str, Path]:
        """Say which folder is `current`, which `previous` and which `shipped`; folders that are gone are named all the same."""
        current, previous = self._target("current"), self._target("previous")
        roles = {"current": current or self.shipped, "previous": previous or (self.shipped if current else None)}
        return {role: folder for role, folder in (roles | {"shipped": self.shipped}).items() if folder is not None}

    def find(self, identifier: str) -> Path:
        """Find a checkpoint by its id or by the beginning of it.

        Args:
            identifier: an id, or enough of its beginning to tell it from all others; `shipped` names the one that ships.

        Returns:
            Its folder.

        Raises:
            CheckpointError: none or several begin so; lists the ids there are.
        """
        known = self._by_id()
        if identifier in known:
            return known[identifier]
        found = [name for name in known if identifier and name.startswith(identifier)]
        if len(found) == 1:
            return known[found[0]]
        if found:
            raise CheckpointError(
                f"{identifier!r} is the beginning of several checkpoint ids: {', '.join(found)}; write one out."
            )
        there = f"there are: {', '.join(known)}" if known else "there is none at all"
        raise CheckpointError(f"no checkpoint in {self.checkpoints_dir} has an id that begins with {identifier!r}; {there}.")

    def locate(self, name: str) -> Path:
        """Find a checkpoint by folder or id.

        Args:
            name: path of a folder that holds a checkpoint, or what `find` takes.

        Returns:
            Its folder.

        Raises:
            CheckpointError: neither.
        """
        return Path(name) if (Path(name) / CARD).is_file() else self.find(name)

    def promote(self, identifier: str, *, check: Callable[[Path], object]) -> Path:
        """Make a checkpoint the one that serves; the one that served becomes the previous one.

        Args:
            identifier: its id, or the beginning of it.
            check: called with the folder before anything is switched; raises where the checkpoint is not sound.

        Returns:
            The folder that serves now.

        Raises:
            CheckpointError: no such checkpoint, or `check` found it unsound; nothing was switched.
        """
        folder = self.find(identifier)
        check(folder)
        with self._locked():
            self._switch(folder)
        return folder

    def rollback(self, *, check: Callable[[Path], object]) -> Path:
        """Bring the previous checkpoint back; the one that served becomes the previous one, so that twice is as it was.

        Args:
            check: as for `promote`.

        Returns:
            The folder that serves now.

        Raises:
            CheckpointError: there is no previous checkpoint, or `check` found it unsound; nothing was switched.
        """
        with self._locked():
            previous = self.previous()
            if previous is None:
                raise CheckpointError(f"there is nothing to roll back to: nothing was ever promoted in {self.state_dir}.")
            check(previous)
            self._switch(previous)
        return previous

    def _switch(self, folder: Path) -> None:
        """Point `current` at a folder and `previous` at what served; does nothing where it serves already.

        `previous` is written first: after a crash between the two, the old checkpoint still serves.
        """
        before = self.roles()["current"]
        # A link to a folder that is gone must not stand in the way of its own repair.
        if _is_checkpoint(before):
            if before == folder:
                return
            self._point("previous", before)
        self._point("current", folder)

    def _point(self, name: str, folder: Path) -> None:
        """Switch one link by a rename, or remove it where it is to mean the shipped checkpoint."""
        link = self._link(name)
        if folder == self.shipped:
            link.unlink(missing_ok=True)
        else:
            fresh = self.state_dir / f".{name}.new"
            fresh.unlink(missing_ok=True)
            # The operator may have linked a checkpoint from elsewhere.
            fresh.symlink_to(folder.relative_to(self.state_dir) if folder.is_relative_to(self.state_dir) else folder)
            fresh.replace(link)
        descriptor = os.open(self.state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _follow(self, name: str) -> Path | None:
        """Return the folder that a link points to, or None where there is no link; refuse one that points nowhere."""
        folder = self._target(name)
        if folder is not None and not _is_checkpoint(folder):
            raise CheckpointError(
                f"{self._link(name)} points to {folder}, which holds no {CARD}; "
                "choose another checkpoint with `spamd-admin model promote ID`."
            )
        return folder

    def _target(self, name: str) -> Path | None:
        """Return what a link points to, be it there or not; refuse what is no link: it would pass for the shipped checkpoint."""
        link = self._link(name)
        if link.is_symlink():
            return self.state_dir / link.readlink()
        if link.exists():
            raise CheckpointError(f"{link} is no symbolic link; move it away, then `spamd-admin model promote ID`.")
        return None

    def _link(self, name: str) -> Path:
        return self.state_dir / name

    def _by_id(self) -> dict[str, Path]:
        """Every checkpoint by the name of its folder, which is its id; the shipped one comes last, under its id and as `shipped`.

        One whose folder was renamed answers to the id on its card too, which is what headers and log lines bear.
        """
        known = {folder.name: folder for folder in self.folders()}
        for folder in list(known.values()):
            with contextlib.suppress(CheckpointError):
                known.setdefault(_identifier(folder), folder)
        if _is_checkpoint(self.shipped):
            known.setdefault(_identifier(self.shipped), self.shipped)
            known["shipped"] = self.shipped
        return known

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one program at a time switch links."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder looks like a checkpoint; one that is still being written has another name and no card."""
    return not folder.name.startswith(".") and (folder / CARD).is_file()


def _identifier(folder: Path) -> str:
    """Read the id of a checkpoint whose folder is not named after it."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CARD}: cannot be read as a checkpoint's card: {error}.") from None
