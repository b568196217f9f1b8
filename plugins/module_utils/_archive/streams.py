# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Where the bytes of an archive come from: a file, a part of one, a compressed one; with limits on what comes out of it."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import subprocess
import threading
import typing as t
import zlib

from .._common.errors import CommandFailed, InvalidInput
from .errors import COPY_AGAIN, EXPORT, DamagedArchive, NoCheckpoint, TooLarge
from .tarstream import Bytes

_CHUNK = 1 << 20
_GZIP, _ZSTD, _XZ, _BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"
_RATIO_FLOOR = 64 << 20
"""Nobody minds what expands a thousandfold to less than this."""


class Limits(t.NamedTuple):
    """What an archive may unpack to."""

    bytes: int = 1 << 40
    ratio: int = 1000
    """Bytes out for one byte in, beyond the first 64 MiB."""


DEFAULT = Limits()


def open_file(path: str, follow: bool = True) -> t.BinaryIO:
    """Open a regular file to read, and nothing that might block or act.

    :raises NoCheckpoint: it is no regular file, or is not there.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise NoCheckpoint(f"{path}: {os.strerror(error.errno or 0)}", EXPORT) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoCheckpoint(f"{path} is no regular file", EXPORT)
    return os.fdopen(descriptor, "rb", buffering=0)


class Part:
    """A part of a file, or all of it."""

    def __init__(self, stream: t.BinaryIO, start: int = 0, size: int = -1) -> None:
        self._stream = stream
        whole = os.fstat(stream.fileno()).st_size
        self.position = start
        self.end = whole if size < 0 else start + size
        if self.end > whole:
            raise DamagedArchive("the archive ends in the middle of an image's blob", COPY_AGAIN)

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes."""
        data = os.pread(self._stream.fileno(), max(0, min(count, self.end - self.position, _CHUNK)), self.position)
        self.position += len(data)
        return data

    def advance(self, count: int) -> None:
        """Go on without reading.

        :raises DamagedArchive: there is not so much.
        """
        if count > self.end - self.position:
            raise DamagedArchive("the archive ends in the middle of a file", COPY_AGAIN)
        self.position += count


class Digested:
    """Bytes whose SHA-256 and number are known beforehand; compared at the end."""

    def __init__(self, inner: Bytes, digest: str, size: int) -> None:
        self._inner = inner
        self._wanted = (digest, size)
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes.

        :raises DamagedArchive: the end is there and what came is something else.
        """
        data = self._inner.read(count)
        self._digest.update(data)
        self._size += len(data)
        if not data and count and (self._digest.hexdigest(), self._size) != self._wanted:
            raise DamagedArchive(f"the blob sha256:{self._wanted[0]} holds something else", COPY_AGAIN)
        return data


class _Counted:
    """How many bytes came in."""

    def __init__(self, inner: Bytes) -> None:
        self._inner = inner
        self.count = 0

    def read(self, count: int = -1) -> bytes:
        data = self._inner.read(_CHUNK if count < 0 else min(count, _CHUNK))
        self.count += len(data)
        return data


class _Bounded:
    """What a decompressor gives, held against what it was fed."""

    def __init__(self, source: _Counted, inner: Bytes, limits: Limits) -> None:
        self._source = source
        self._inner = inner
        self._limits = limits
        self._out = 0

    def read(self, count: int) -> bytes:
        try:
            data = self._inner.read(min(count, _CHUNK))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedArchive(f"the compressed archive is damaged: {error}", COPY_AGAIN) from error
        self._out += len(data)
        if self._out > self._limits.bytes:
            raise TooLarge(
                f"the archive unpacks to more than {self._limits.bytes} bytes",
                "Allow more, if you know where it is from.",
            )
        if self._out > _RATIO_FLOOR and self._out > self._source.count * self._limits.ratio:
            raise TooLarge(
                f"the archive unpacks to more than {self._limits.ratio} times its size",
                "Allow a larger ratio, if you know where it is from: memory that is filled with one value does this.",
            )
        return data


class _Zstd:
    """``zstd -d`` fed by a thread; closing it ends both."""

    def __init__(self, source: Bytes) -> None:
        try:
            self._process = subprocess.Popen(
                ["zstd", "-dcq", "--memory=128MB"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise CommandFailed(
                "the archive is compressed with zstd, which is not installed", "Install zstd."
            ) from error
        self._failure: BaseException | None = None
        self._feeder = threading.Thread(target=self._feed, args=(source,), daemon=True)
        self._feeder.start()

    def _feed(self, source: Bytes) -> None:
        sink = self._process.stdin
        try:
            if sink is not None:
                with contextlib.suppress(BrokenPipeError), sink:
                    while True:
                        block = source.read(_CHUNK)
                        if not block:
                            break
                        sink.write(block)
        except (InvalidInput, OSError, ValueError) as error:
            self._failure = error

    def read(self, count: int) -> bytes:
        stdout = self._process.stdout
        data = stdout.read(count) if stdout is not None else b""
        if not data and count:
            self._feeder.join()
            if self._failure is not None:
                raise self._failure
            stderr = self._process.stderr
            said = stderr.read(300).decode("utf-8", "replace").strip() if stderr is not None else ""
            if self._process.wait() != 0:
                raise DamagedArchive(f"the compressed archive is damaged: {said}", COPY_AGAIN)
        return data

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._feeder.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError, ValueError):
                    stream.close()


class _Again:
    """A stream whose beginning was looked at."""

    def __init__(self, beginning: bytes, inner: Bytes) -> None:
        self._beginning = beginning
        self._inner = inner

    def read(self, count: int) -> bytes:
        if self._beginning:
            data, self._beginning = self._beginning[:count], self._beginning[count:]
            return data
        return self._inner.read(count)


@contextlib.contextmanager
def unpacked(source: Bytes, limits: Limits) -> t.Iterator[Bytes]:
    """A stream without its compression: gzip, zstd or none, told by its first bytes.

    :raises NoCheckpoint: another compression. :raises DamagedArchive, TooLarge: while reading.
    """
    beginning = b""
    while len(beginning) < 6:
        more = source.read(6 - len(beginning))
        if not more:
            break
        beginning += more
    if beginning.startswith((_XZ, _BZIP2)):
        raise NoCheckpoint("the archive is compressed with xz or bzip2", "Decompress it first.")
    counted = _Counted(_Again(beginning, source))
    if beginning.startswith(_GZIP):
        yield _Bounded(counted, gzip.GzipFile(fileobj=t.cast("t.BinaryIO", counted), mode="rb"), limits)
    elif beginning.startswith(_ZSTD):
        process = _Zstd(counted)
        try:
            yield _Bounded(counted, process, limits)
        finally:
            process.close()
    elif isinstance(source, Part):
        yield _Rewound(source, len(beginning))
    else:
        yield counted


class _Rewound(Part):
    """A part from where it was before it was looked at."""

    def __init__(self, part: Part, looked: int) -> None:
        self._stream = part._stream
        self.position = part.position - looked
        self.end = part.end


def compressed(beginning: bytes) -> bool:
    """Whether a file begins as one of a compression that we know."""
    return beginning.startswith((_GZIP, _ZSTD, _XZ, _BZIP2))
