"""A folder of sealed shards: what rollout and label stores share.

``manifest.json`` says what the folder is; ``shards.json`` lists the files of every sealed shard with their SHA-256. A
file is written under a temporary name, renamed, and only then listed: whatever a kill leaves behind is not listed,
hence not read, and is written over by the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bench.errors import UserError

MANIFEST, LISTING, LOCK = "manifest.json", "shards.json", "writer.lock"
SCHEMA_VERSION = 1
T = TypeVar("T")


def write_atomically(path: Path, content: bytes) -> None:
    """Either the old file or the whole new one is there, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def in_groups(stream: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items as they come; the last one may be shorter."""
    rest = iter(stream)
    while group := list(islice(rest, size)):
        yield group


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Shards:
    """The shards of one folder, each a named group of files."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], listing: dict[str, dict[str, str]]) -> None:
        self.folder, self.manifest, self._listing = folder, manifest, listing
        self._locked = False

    @classmethod
    def open(cls, folder: Path, kind: str) -> Shards:
        """An existing folder. Raises UserError when it is none, or of another kind or schema."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError as error:
            raise UserError(f"{folder}: no {MANIFEST}, so this is no {kind} store; check the path") from error
        except json.JSONDecodeError as error:
            raise UserError(
                f"{folder / MANIFEST}: not valid JSON (line {error.lineno}); restore or delete it"
            ) from error
        for key, wanted in (("kind", kind), ("schema_version", SCHEMA_VERSION)):
            if manifest.get(key) != wanted:
                raise UserError(
                    f"{folder / MANIFEST}: {key} is {manifest.get(key)!r}, this version reads {wanted!r}; "
                    "use another folder"
                )
        listing_path = folder / LISTING
        return cls(folder, manifest, json.loads(listing_path.read_text()) if listing_path.exists() else {})

    @classmethod
    def create_or_open(cls, folder: Path, kind: str, manifest: Mapping[str, Any]) -> Shards:
        """Start a folder, or go on with one that has the same manifest.

        Raises UserError that names the first differing field. A listed shard that is damaged is taken off the list
        with a warning: the same command then makes that one again.
        """
        wanted = json.loads(json.dumps({"kind": kind, "schema_version": SCHEMA_VERSION, **manifest}))
        if not (folder / MANIFEST).exists():
            if folder.exists() and any(path.suffix == ".parquet" for path in folder.iterdir()):
                raise UserError(f"{folder}: holds Parquet files but no {MANIFEST}; use another folder")
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / MANIFEST, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode())
        shards = cls.open(folder, kind)
        for key in sorted({*wanted, *shards.manifest}):
            if shards.manifest.get(key) != wanted.get(key):
                raise UserError(
                    f"{folder}: this store was made with {key} = {shards.manifest.get(key)!r}, now it is "
                    f"{wanted.get(key)!r}; use another folder, or delete this one to start over"
                )
        for name in [name for name in shards.names() if shards.damage(name)]:
            warnings.warn(f"{folder}: shard {name} is damaged ({shards.damage(name)}) and is made again", stacklevel=2)
            del shards._listing[name]
        return shards

    def names(self) -> list[str]:
        return sorted(self._listing)

    def damage(self, name: str) -> str | None:
        """What is wrong with a listed shard, or None."""
        for file, digest in self._listing[name].items():
            path = self.folder / file
            if not path.exists():
                return f"{file} is missing"
            if file_digest(path) != digest:
                return f"{file} does not match its checksum"
        return None

    def require_intact(self, name: str) -> None:
        """Raises UserError for a damaged shard."""
        damage = self.damage(name)
        if damage:
            raise UserError(
                f"{self.folder}: {damage}; run the command that made this store again: it redoes only that shard"
            )

    def seal(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a shard, then list it."""
        for file, content in files.items():
            write_atomically(self.folder / file, content)
        self._listing[name] = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        listing = json.dumps(self._listing, indent=1, sort_keys=True) + "\n"
        write_atomically(self.folder / LISTING, listing.encode())

    def next_name(self) -> str:
        """The lowest free shard name."""
        return next(name for name in _numbered() if name not in self._listing)

    @property
    def digest(self) -> str:
        """16 hex digits over the manifest and all sealed content."""
        content = json.dumps([dict(self.manifest), self._listing], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def __enter__(self) -> Self:
        """Become the only writer. Raises UserError naming the holder; the lock of a dead process is taken over."""
        path = self.folder / LOCK
        mine = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        for _ in range(2):
            try:
                with path.open("x") as stream:
                    stream.write(mine)
                self._locked = True
                return self
            except FileExistsError:
                holder = _holder(path)
                if holder is not None and not _dead(holder):
                    raise UserError(
                        f"{self.folder}: process {holder['pid']} on {holder['host']} is writing here; wait for it, or "
                        f"delete {path} if it is gone"
                    ) from None
                path.unlink(missing_ok=True)
        raise UserError(f"{path}: another process took the lock at the same moment; try again")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._locked:
            (self.folder / LOCK).unlink(missing_ok=True)
            self._locked = False


def _numbered() -> Iterator[str]:
    index = 0
    while True:
        yield f"shard-{index:05d}"
        index += 1


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text())
        return holder if isinstance(holder, dict) and {"pid", "host"} <= holder.keys() else None
    except (OSError, json.JSONDecodeError):
        return None


def _dead(holder: Mapping[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return False
    if holder["pid"] == os.getpid():
        return True
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
