"""Compiled kernels on disk: one file for each, under a key of everything that the machine code depends on.

cuda.core has a cache of its own, `FileStreamProgramCache`. It is not used: its entries carry no checksum, a folder that
cannot be written to is an error there, and importing it costs a third of a second before the first hit.

Any number of processes may share a folder. A file appears by renaming, complete or not at all; it starts with the
checksum of the rest and is used only if that is right. The least recently used files go when there are too many.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from gpudiff.jit.driver import Compiled, Usage

LIMIT = 1 << 30  # bytes
_FORMAT = b"gpudiff kernel 1"
_SUFFIX = ".kernel"
_ABANDONED = 3600.0  # seconds after which a temporary file has lost its process

_log = logging.getLogger("gpudiff")


def default_folder() -> Path:
    """GPUDIFF_CACHE_DIR, or gpudiff under XDG_CACHE_HOME, or ~/.cache/gpudiff."""
    if chosen := os.environ.get("GPUDIFF_CACHE_DIR"):
        return Path(chosen).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "gpudiff"
    return Path("~/.cache/gpudiff").expanduser()


def key_of(parts: dict[str, str]) -> str:
    """A key of named texts; two that differ in any of them have different keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of compiled kernels.

    Args:
        folder: where; None for `default_folder()`.
        limit: bytes that the files may take together.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._warned = False

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder or default_folder()

    def get(self, key: str) -> Compiled | None:
        """What was stored under a key; None if nothing was, or if it is damaged."""
        start = time.perf_counter()
        path = self.folder / (key + _SUFFIX)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        compiled = _decode(content)
        if compiled is None:
            _log.warning("%s is damaged; the kernel is compiled again", path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # for `_make_room`; access times are not kept everywhere
        return Compiled(compiled.cubin, compiled.usage, time.perf_counter() - start, from_cache=True)

    def put(self, key: str, compiled: Compiled) -> None:
        """Store under a key. Where that is not possible, say so once and go on without."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self.folder / (key + _SUFFIX), _encode(compiled))
            self._make_room()
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warning(
                    "compiled kernels cannot be kept in %s (%s) and will be compiled again by the next process; "
                    "set GPUDIFF_CACHE_DIR to a folder that can be written to",
                    self.folder,
                    error.strerror or error,
                )

    def _write(self, path: Path, content: bytes) -> None:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_room(self) -> None:
        """Remove what crashed processes left, and the least recently used files above the limit; never the newest."""
        entries: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # another process removed it first
                    found = file.stat(follow_symlinks=False)
                    if file.name.endswith(_SUFFIX):
                        entries.append((found.st_mtime, found.st_size, file.path))
                    elif file.name.endswith(".tmp") and time.time() - found.st_mtime > _ABANDONED:
                        os.unlink(file.path)
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries)[:-1]:
            if total <= self._limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _encode(compiled: Compiled) -> bytes:
    usage = {entry: used._asdict() for entry, used in compiled.usage.items()}
    body = json.dumps({"usage": usage}).encode() + b"\n" + compiled.cubin
    return b"\n".join([_FORMAT, hashlib.sha256(body).hexdigest().encode(), body])


def _decode(content: bytes) -> Compiled | None:
    """None if these are not, to the last bit, the bytes that `_encode` gave."""
    mark, _, rest = content.partition(b"\n")
    checksum, _, body = rest.partition(b"\n")
    if mark != _FORMAT or hashlib.sha256(body).hexdigest().encode() != checksum:
        return None
    header, _, cubin = body.partition(b"\n")
    fields: dict[str, Any] = json.loads(header)
    return Compiled(cubin, {entry: Usage(**used) for entry, used in fields["usage"].items()})
