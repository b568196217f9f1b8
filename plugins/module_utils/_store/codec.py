# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Compression with zstd and encryption with age: both are programs on the node, joined by pipes.

Nothing secret is ever an argument, a file or part of an error: age reads its identity from a pipe.
"""

from __future__ import annotations

import os
import re
import subprocess
import typing as t

from .._common.errors import CommandFailed, InvalidInput
from .._runtime.process import piped
from .spool import BLOCK, Spool, write_all

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_IDENTITY = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
_ZSTD = ("zstd", "-q", "-c")
_WINDOW = "--memory=64MiB"


def valid_recipient(text: str) -> str:
    """:raises InvalidInput: age would not encrypt to it."""
    if text and not _RECIPIENT.fullmatch(text):
        raise InvalidInput("the recipient is no public key of age", "Give what age-keygen -y prints: age1…")
    return text


def valid_identity(text: str) -> str:
    """Secret keys of age, one a line; comments and empty lines are dropped.

    :raises InvalidInput: there is something else in it. It is not said what.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if len(keys) > 50 or any(not _IDENTITY.fullmatch(line) for line in keys):
        raise InvalidInput("the identity is no secret key of age", "Give the text of a file that age-keygen made.")
    return "\n".join(keys)


class _Chain:
    """Programs, each reading what the one before writes."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._errors = os.memfd_create("podferry-errors", os.MFD_CLOEXEC)
        self._children: t.List[t.Tuple[str, subprocess.Popen[bytes]]] = []
        self.secret = False

    def start(self, commands: t.Sequence[t.Sequence[str]], descriptors: t.Sequence[int] = ()) -> None:
        """:raises CommandFailed: one of the programs is not there."""
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            before = self._children[-1][1].stdout if self._children else None
            try:
                child = subprocess.Popen(
                    command,
                    stdin=before if before is not None else self._source,
                    stdout=self._sink if last else subprocess.PIPE,
                    stderr=self._errors,
                    bufsize=0,
                    pass_fds=descriptors,
                    cwd="/",
                )
            except OSError as error:
                self.kill()
                raise CommandFailed(
                    f"cannot start {command[0]}: {error.strerror}", "Run playbooks/bootstrap.yml for this node."
                ) from error
            self._children.append((command[0], child))
            if before is not None:
                before.close()  # so that each notices the end of the next

    @property
    def first(self) -> subprocess.Popen[bytes]:
        return self._children[0][1]

    @property
    def last(self) -> subprocess.Popen[bytes]:
        return self._children[-1][1]

    def finish(self) -> None:
        """:raises CommandFailed: one of them ended badly."""
        failed = [name for name, child in self._children if child.wait() != 0]
        if failed:
            said = os.pread(self._errors, 4096, 0).decode("utf-8", "replace").strip()
            if self.secret:
                known = "no identity matched" in said
                said = "the identity does not fit" if known else "the data cannot be decrypted"
            raise CommandFailed(
                f"{' and '.join(failed)} failed: {said[-300:]}",
                "Give the identity whose recipient it was encrypted for." if self.secret else "",
            )

    def kill(self) -> None:
        """End them, however far they are."""
        for _name, child in self._children:
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
            if child.poll() is None:
                child.kill()
            child.wait()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


class Encoder:
    """Compresses and encrypts into a spool what is written to it."""

    def __init__(self, spool: Spool, compression: str, recipient: str) -> None:
        commands: t.List[t.Sequence[str]] = []
        if compression == "zstd":
            commands.append((*_ZSTD, "-3"))
        if recipient:
            commands.append(("age", "--encrypt", "--recipient", valid_recipient(recipient)))
        self._spool = spool
        self._chain: _Chain | None = None
        if commands:
            self._chain = _Chain(subprocess.PIPE, spool.descriptor)
            self._chain.start(commands)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._chain is not None:
            self._chain.kill()

    def write(self, block: t.Union[bytes, bytearray, memoryview]) -> None:
        """Append.

        :raises CommandFailed: a program ended before us.
        """
        if self._chain is None:
            self._spool.write(block)
            return
        stream = piped(self._chain.first.stdin)
        try:
            write_all(stream.fileno(), block)
        except BrokenPipeError:
            self._chain.finish()
            raise CommandFailed("a program stopped reading") from None

    def finish(self) -> None:
        """Wait until all is in the spool.

        :raises CommandFailed: a program failed.
        """
        if self._chain is not None:
            stream = piped(self._chain.first.stdin)
            stream.close()
            self._chain.finish()


class Decoder:
    """Reads what an :class:`Encoder` wrote into a spool."""

    def __init__(self, spool: Spool, compression: str, encryption: str, identity: str) -> None:
        commands: t.List[t.Sequence[str]] = []
        self._chain: _Chain | None = None
        self._source = spool.rewind()
        reader = -1
        if encryption == "age":
            keys = valid_identity(identity)
            if not keys:
                raise InvalidInput("the checkpoint is encrypted", "Give the identity, the secret key of age.")
            reader, writer = os.pipe()
            write_all(writer, keys.encode())  # a pipe takes 4096 bytes at least, 50 keys are less
            os.close(writer)
            commands.append(("age", "--decrypt", "--identity", f"/dev/fd/{reader}"))
        if compression == "zstd":
            commands.append((*_ZSTD, "-d", _WINDOW))
        try:
            if commands:
                self._chain = _Chain(self._source, subprocess.PIPE)
                self._chain.secret = encryption == "age"
                self._chain.start(commands, (reader,) if reader >= 0 else ())
                stream = piped(self._chain.last.stdout)
                self._source = stream.fileno()
        finally:
            if reader >= 0:
                os.close(reader)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._chain is not None:
            self._chain.kill()

    def readinto(self, view: memoryview) -> int:
        """Fill ``view`` as far as there is something.

        :raises CommandFailed: a program failed.
        """
        total = 0
        while total < len(view):
            count = os.readv(self._source, [view[total : total + BLOCK]])
            if not count:
                if self._chain is not None:
                    self._chain.finish()
                break
            total += count
        return total

    def all(self, limit: int) -> bytes:
        """Everything.

        :raises InvalidInput: it is more than ``limit`` bytes.
        """
        parts, left = [], limit + 1
        while left > 0:
            block = bytearray(min(BLOCK, left))
            count = self.readinto(memoryview(block))
            parts.append(bytes(block[:count]))
            left -= count
            if count < len(block):
                return b"".join(parts)
        raise InvalidInput(f"a stored file unpacks to more than the {limit} bytes that it may have")
