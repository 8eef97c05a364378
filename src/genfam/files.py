"""Files that are whole or not there, names that are no paths, and links that lead nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

SETTLED = 2_000_000_000  # nanoseconds
_DIGEST = re.compile(r"[0-9a-f]{64}")


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


def set_aside(path: Path) -> Path:
    """Rename what cannot be used, so that nobody loses it; returns its new name."""
    for number in range(1, 1000):
        kept = path.with_name(f"{path.stem}.broken{number}{path.suffix}")
        if not os.path.lexists(kept):
            os.replace(path, kept)
            return kept
    raise OSError(f"{path}: expected a free name to set it aside, found a thousand broken files")


def sha256(path: Path) -> str:
    """Of a file's contents, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path | None:
    """Where this user's caches go; None where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genfam"
    except RuntimeError:
        return None


def contents_of(folder: Path, paths: Sequence[Path]) -> str:
    """SHA-256 of the names and bytes of files; remembered for as long as no file was touched.

    Args:
        folder: that the paths are below.
        paths: in any order.
    """
    stats = {path: (folder / path).stat() for path in sorted(paths)}
    touched = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape"))
    for path, stat in stats.items():
        touched.update(os.fsencode(path.as_posix()) + b"\0")
        touched.update(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}\n".encode())
    cache = cache_folder()
    kept = None if cache is None else cache / "contents" / touched.hexdigest()
    try:
        if kept is not None and _DIGEST.fullmatch(known := kept.read_text()):
            return known
    except (OSError, UnicodeDecodeError):
        pass
    whole = hashlib.sha256()
    for path in stats:
        whole.update(os.fsencode(path.as_posix()) + b"\0" + sha256(folder / path).encode() + b"\n")
    # a file that changes again within the clock's tick would look untouched
    if kept is not None and all(time.time_ns() - stat.st_ctime_ns > SETTLED for stat in stats.values()):
        with suppress(OSError):
            write_atomically(kept, whole.hexdigest())
    return whole.hexdigest()
