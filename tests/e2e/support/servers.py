# SPDX-License-Identifier: Apache-2.0
"""Servers that run beside the tests on the host's loopback, and how the nodes of a lab reach them: on their own loopback.

A listening socket belongs to the network namespace that it was made in. One is made in each node's, and what is accepted there
is passed on to the server: `localhost:PORT` is the same server everywhere, and no packet leaves a namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from e2e.support.lab import Lab

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def listen_inside(namespace: str, port: int) -> socket.socket:
    """A socket that listens on the loopback of another network namespace."""
    made: list[socket.socket | OSError] = []

    def enter() -> None:  # a thread of its own: the namespace is the thread's
        try:
            with open(namespace, "rb") as handle:
                if _LIBC.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            made.append(socket.create_server(("127.0.0.1", port), backlog=64))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _pass_on(listener: socket.socket, port: int) -> None:
    while True:
        try:
            client, _address = listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def reachable(lab: Lab, port: int, nodes: Sequence[str] = ("node-a", "node-b")) -> Iterator[None]:
    """Let the nodes reach what listens on the host's `port`, under the same port of their own loopback."""
    listeners = [listen_inside(f"/proc/{init_of(lab, node)}/ns/net", port) for node in nodes]
    for listener in listeners:
        threading.Thread(target=_pass_on, args=(listener, port), daemon=True).start()
    try:
        yield
    finally:
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def init_of(lab: Lab, node: str) -> int:
    """The host's pid of a process of the node: one whose network namespace is the node's."""
    inside = lab.ssh(node, "readlink", "/proc/1/ns/net").stdout.strip()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                init = (entry / "comm").read_text().strip() == "systemd"  # others come and go
                if init and os.readlink(entry / "ns/net") == inside:
                    return int(entry.name)
    raise AssertionError(f"no process of {node} is seen from here")


@contextlib.contextmanager
def server(argv: Sequence[str], port: int, log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server on the host's loopback until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < end, f"{argv[0]}: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)
