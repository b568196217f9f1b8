# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The state of the freeze through a store instead of the ferries' own connection, for ``transfer=`` one that both nodes reach.

A child does it, started before the freeze: a store that hangs (a mount whose server is gone) must not hang a ferry. What lies
in the store is encrypted with a key that is made for this run on the target and never leaves its memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import typing as t

from .._common.errors import CommandFailed, DeadlineExceeded, InvalidInput, PodferryError, from_dict
from .._runtime.process import piped
from .._store import codec, pack
from .._store import manifest as documents
from .._store.contract import open_store
from .._store.manifest import Blob, Manifest
from .._store.names import Place
from .._store.spool import Spool
from .paths import NODE

Message = t.Dict[str, t.Any]
Pulse = t.Callable[[], None]
_POLL = 0.002


class Carrier:
    """A child that waits for its one task: ``put``, ``get`` or ``drop``."""

    def __init__(self, task: str) -> None:
        self._child = subprocess.Popen(
            [NODE, "carry", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._task = task

    def carry(self, request: t.Mapping[str, t.Any], pulse: Pulse) -> Message:
        """Hand out the task and wait for its end; ``pulse`` may raise to stop.

        :raises PodferryError: what the child says went wrong.
        """
        stdin, stdout = piped(self._child.stdin), piped(self._child.stdout)
        try:
            stdin.write(json.dumps(request).encode())
            stdin.close()
            while self._child.poll() is None:
                pulse()
                time.sleep(_POLL)
            said = stdout.read()
        except OSError as error:
            raise CommandFailed(f"the process that talks to the store: {error}") from error
        finally:
            self.stop()
        try:
            answer = json.loads(said)
        except ValueError as error:
            raise CommandFailed(f"the process that talks to the store ended with {self._child.returncode}") from error
        if not answer.get("ok"):
            raise from_dict(answer.get("error") or {})
        return dict(answer.get("result") or {})

    def stop(self) -> None:
        """End it, as far as it can be ended: one that hangs in the kernel is not waited for."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None and not stream.closed and self._child.poll() is None:
                self._child.kill()
        try:
            self._child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            pass


def new_identity() -> tuple[str, str]:
    """A fresh key of age: (identity, recipient).

    :raises CommandFailed: age is not on this node.
    """
    try:
        done = subprocess.run(["age-keygen"], capture_output=True, text=True, timeout=10, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed("age-keygen cannot be started", "Install age on both nodes, or transfer=stream.") from error
    lines = [line.strip() for line in done.stdout.splitlines()]
    recipients = [line.rpartition(" ")[2] for line in lines if line.startswith("# public key:")]
    if done.returncode != 0 or len(recipients) != 1:
        raise CommandFailed("age-keygen made no key", "Look whether age works on this node.")
    return codec.valid_identity(done.stdout), codec.valid_recipient(recipients[0])


def main(task: str) -> int:
    """The child: one request on standard input, one answer on standard output."""
    try:
        request = json.loads(sys.stdin.buffer.read())
        result = {"put": put, "get": get, "drop": drop}[task](request)
        answer: Message = {"ok": True, "result": result}
    except PodferryError as error:
        answer = {"ok": False, "error": error.to_dict()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        answer = {"ok": False, "error": CommandFailed(f"the store: {type(error).__name__}: {error}").to_dict()}
    sys.stdout.write(json.dumps(answer))
    return 0


def put(request: t.Mapping[str, t.Any]) -> Message:
    """Store a folder. The manifest is not published: nobody but the other ferry hears of it.

    :raises PodferryError: the store failed.
    """
    fields = dict(request["fields"])
    store = open_store(request["store"])
    place = Place(str(fields["namespace"]), str(fields["pod"]))
    store.lease(place, str(fields["id"]), str(fields["id"])[-12:])  # else a prune takes it for a leftover

    def out(blob: Blob, spool: Spool) -> None:
        store.put(place, blob, spool)

    packed = pack.pack(
        str(request["folder"]),
        out,
        origin=str(fields["id"]),
        compression=str(request.get("compression") or "zstd"),
        recipient=str(request["recipient"]),
    )
    made = documents.make(
        {
            **fields, "format": documents.FORMAT, "parent": "", "compression": request.get("compression") or "zstd",
            "encryption": "age", "blobs": [vars(blob) for blob in packed.blobs],
            "bytes": {"memory": packed.memory, "files": packed.files, "stored": packed.stored},
        }
    )  # fmt: skip
    return {"manifest": documents.canonical(made).decode(), "stored": packed.stored}


def get(request: t.Mapping[str, t.Any]) -> Message:
    """Fill a folder from a store, each blob compared with the manifest that the other ferry sent.

    :raises PodferryError: the store failed, or what it has is something else.
    """
    made = expected(str(request["manifest"]).encode(), request)
    store = open_store(request["store"])

    def fetch(blob: Blob, spool: Spool) -> None:
        store.get(made.place, blob, spool)

    pack.unpack(fetch, made, str(request["folder"]), identity=str(request["identity"]), limit=int(request["limit"]))
    return {"stored": made.bytes["stored"]}


def expected(document: bytes, request: t.Mapping[str, t.Any]) -> Manifest:
    """The manifest, when it is of this run.

    :raises InvalidInput: it is of another.
    """
    made = documents.parse(document)
    if made.id != request["id"] or made.encryption != "age" or made.origins:
        raise InvalidInput("the other ferry names a state that is not this run's")
    return made


def drop(request: t.Mapping[str, t.Any]) -> Message:
    """Take away what a run has put into the store; nothing there is no error.

    :raises PodferryError: the store failed.
    """
    place = Place(str(request["namespace"]), str(request["pod"]))
    identity = str(request["id"])
    open_store(request["store"]).discard(place, identity, identity[-12:])
    return {}


def drop_soon(request: t.Mapping[str, t.Any], seconds: float) -> None:
    """The same in a child, for at most so many seconds.

    :raises PodferryError: the store failed, or hangs.
    """
    end = time.monotonic() + seconds

    def pulse() -> None:
        if time.monotonic() > end:
            raise DeadlineExceeded(f"the store did not answer within {seconds:g} s")

    Carrier("drop").carry(request, pulse)
