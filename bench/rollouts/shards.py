"""A folder of sealed shards: what rollout and label stores share.

``manifest.json`` says what the folder is; ``shards.json`` lists the files of every sealed shard with their SHA-256. A
file is written under a temporary name, renamed, and only then listed: whatever a kill leaves behind is not listed,
hence not read, and is written over by the next run. Only the holder of the folder's lock seals shards; the operating
system gives the lock back when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from prunebench.bench.errors import UserError
from prunebench.bench.files import file_digest, write_atomically
from prunebench.tasks.errors import first_line, shown

MANIFEST, LISTING, LOCK = "manifest.json", "shards.json", "writer.lock"
SCHEMA_VERSION = 1
_SHARD = re.compile(r"shard-\d+(\.[a-z]+)?")


class Shards:
    """The shards of one folder, each a named group of files."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], listing: dict[str, dict[str, str]]) -> None:
        self.folder, self.manifest, self._listing = folder, manifest, listing
        self._listed_on_disk = dict(listing)
        self._verified: dict[str, tuple[int, int, int]] = {}  # file: its state when its content was right
        self._lock: IO[str] | None = None

    @classmethod
    def open(cls, folder: Path, kind: str) -> Shards:
        """An existing folder. Raises UserError when it is none, or of another kind or schema."""
        manifest = _read_object(folder / MANIFEST, "restore or delete it")
        if manifest is None:
            inside = next((path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))), None)
            hint = "check the path" if inside is None else f"did you mean {inside}?"
            raise UserError(f"{folder}: no {MANIFEST}, so this is no {kind} store; {hint}")
        for key, wanted in (("kind", kind), ("schema_version", SCHEMA_VERSION)):
            if manifest.get(key) != wanted:
                raise UserError(
                    f"{folder / MANIFEST}: {key} is {shown(manifest.get(key))}, this version reads {wanted!r}; "
                    "use another folder"
                )
        return cls(folder, manifest, _read_listing(folder))

    @classmethod
    def create_or_open(cls, folder: Path, kind: str, manifest: Mapping[str, Any]) -> Shards:
        """Start a folder, or go on with one that has the same manifest. One that holds nothing yet takes any.

        Raises UserError that names the first differing field. A listed shard that is damaged is taken off the list
        with a warning: the same command then makes that one again.
        """
        wanted = json.loads(json.dumps({"kind": kind, "schema_version": SCHEMA_VERSION, **manifest}))
        parquet = folder.exists() and any(path.suffix == ".parquet" for path in folder.iterdir())
        if not (folder / MANIFEST).exists() or (not parquet and cls.open(folder, kind).manifest != wanted):
            if parquet:
                raise UserError(f"{folder}: holds Parquet files but no {MANIFEST}; use another folder")
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / MANIFEST, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode())
        shards = cls.open(folder, kind)
        for key in sorted({*wanted, *shards.manifest}):
            if shards.manifest.get(key) != wanted.get(key):
                name, was, now = _first_difference(key, shards.manifest.get(key), wanted.get(key))
                raise UserError(
                    f"{folder}: this store was made with {name} = {was!r}, now it is {now!r}; use another folder, or "
                    "delete this one to start over"
                )
        for name in [name for name in shards.names() if shards.damage(name)]:
            warnings.warn(f"{folder}: shard {name} is damaged ({shards.damage(name)}) and is made again", stacklevel=2)
            del shards._listing[name]
        return shards

    def names(self) -> list[str]:
        return sorted(self._listing)

    def files(self, name: str) -> frozenset[str]:
        """The sealed files of a shard; others of its name are leftovers of a kill."""
        return frozenset(self._listing[name])

    def checksum(self, name: str, file: str) -> str:
        """SHA-256 of a sealed file of a shard; empty where the shard has no such file."""
        return self._listing[name].get(file, "")

    def damage(self, name: str) -> str | None:
        """What is wrong with a listed shard, or None. A file is hashed once, and again when it has changed."""
        for file, digest in self._listing[name].items():
            path = self.folder / file
            if not path.exists():
                return f"{file} is missing"
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._verified.get(file) == state:
                continue
            if file_digest(path) != digest:
                return f"{file} does not match its checksum"
            self._verified[file] = state
        return None

    def require_intact(self, name: str) -> None:
        """Raises UserError for a damaged shard."""
        damage = self.damage(name)
        if damage:
            raise UserError(
                f"{self.folder}: {damage}; run the command that made this store again: it redoes only that shard"
            )

    def seal(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a shard, then list it. Raises RuntimeError where the folder is not locked."""
        if self._lock is None:
            raise RuntimeError(f"{self.folder}: shards are sealed inside 'with shards:' only")
        for file, content in files.items():
            write_atomically(self.folder / file, content)
        self._listing[name] = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        listing = json.dumps(self._listing, indent=1, sort_keys=True) + "\n"
        write_atomically(self.folder / LISTING, listing.encode())
        self._listed_on_disk = dict(self._listing)

    def next_name(self) -> str:
        """The lowest free shard name."""
        return next(name for name in _numbered() if name not in self._listing)

    @property
    def digest(self) -> str:
        """16 hex digits over the manifest and all sealed content."""
        content = json.dumps([dict(self.manifest), self._listing], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def __enter__(self) -> Self:
        """Become the only writer.

        Raises UserError when another one is at work, naming it, or has added shards since this folder was opened.
        """
        stream = (self.folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            stream.close()
            raise UserError(f"{self.folder}: {holder} is writing here; wait for it to end") from None
        if _read_listing(self.folder) != self._listed_on_disk:
            stream.close()
            raise UserError(f"{self.folder}: another process has just written here; run the same command again")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        self._lock = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _numbered() -> Iterator[str]:
    index = 0
    while True:
        yield f"shard-{index:05d}"
        index += 1


def _read_listing(folder: Path) -> dict[str, dict[str, str]]:
    """The files of every shard. A name that is none of this folder's own files is refused."""
    path = folder / LISTING
    listing = _read_object(path, "restore it, or delete it to have every shard made again") or {}
    for shard, files in listing.items():
        whole = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
        ours = whole and f"{shard}.parquet" in files and all(_SHARD.fullmatch(name) for name in (shard, *files))
        if not ours:
            raise UserError(
                f"{path}: {shown({shard: files})} is no shard; restore it, or delete it to have every shard made again"
            )
    return listing


def _first_difference(name: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Of two different settings the innermost name and its values: of two mappings only what differs."""
    while isinstance(was, Mapping) and isinstance(now, Mapping):
        key = next(key for key in sorted({*was, *now}) if was.get(key) != now.get(key))
        name, was, now = f"{name}.{key}", was.get(key, "not there"), now.get(key, "not there")
    return name, was, now


def _read_object(path: Path, hint: str) -> dict[str, Any] | None:
    """A JSON object; None where there is no file. Raises UserError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON (line {error.lineno}); {hint}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({first_line(error)}); {hint}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: {shown(content)} where a JSON object is wanted; {hint}")
    return content
