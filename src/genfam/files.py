"""Files that are whole or not there, names that are no paths, and links that lead nowhere else."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def checked_name(name: object, what: str, most: int = 60) -> str:
    """A name that becomes part of a path.

    Args:
        name: anything.
        what: it is, for the message.
        most: bytes; file systems end at 255, and a run's id has several names.

    Raises:
        ValueError: it could name something elsewhere, or nothing.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name.encode()) <= most
        or not (name.isprintable() and name == name.strip())
        or name.startswith((".", "-"))
        or "/" in name
        or "\\" in name
    ):
        raise ValueError(
            f"{what}: expected a name of at most {most} bytes without slashes that begins with neither . nor -, "
            f"got {name!r:.80}"
        )
    return name


def refuse_links(folder: Path, *, depth: int = 2) -> None:
    """Refuse a folder in which a link leads out of it: somebody else's may be a trap.

    The folder itself may be a link: that is its owner's choice.

    Args:
        folder: a store, a suite's or a run's; need not exist.
        depth: of folders below it that are looked at.

    Raises:
        ValueError: names the link.
    """
    root = folder.resolve()
    for path in _links(folder, depth):
        if not path.resolve().is_relative_to(root):
            raise ValueError(f"{path}: expected no link that leads out of {folder}, got one to {os.readlink(path)}")


def _links(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from _links(Path(entry.path), depth - 1)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write so that a reader, and a machine that loses power, finds the whole old file or the whole new one.

    The content goes to a hidden temporary file in the same folder (made if missing), is synced to the disk, and
    takes the name in one step. A killed process leaves the temporary behind, and the old file as it was.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
