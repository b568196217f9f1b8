# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""The one way from the host into the lab: 127.0.0.1:<port> to the API server on the control host.

The listening socket is made in the host's network namespace, then the process enters the lab's: a socket belongs to
the namespace it was made in, so what is accepted comes from the host and what is opened goes into the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import command, linux, network, process
from .spec import Lab

API_PORT = 6443


def ensure(lab: Lab) -> bool:
    """Start the relay unless it runs; True when it was started. Raises LabError (for one, when the port is taken)."""
    found = process.read_identities(lab.relay_pidfile).get("relay")
    if found and found.alive():
        if network.identity(f"/proc/{found.pid}/ns/net") == network.identity(lab.netns):
            return False
        found.kill()  # of a lab that died: its namespace is not ours
        found.wait_gone(5)
    log = f"{lab.state}/relay.log"
    with Path(log).open("wb") as handle:
        started = subprocess.Popen(
            [sys.executable, "-B", "-m", __package__, "relay", lab.state],
            stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, cwd="/", start_new_session=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))},
        )  # fmt: skip
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and started.poll() is None:
        found = process.read_identities(lab.relay_pidfile).get("relay")
        if found and found.pid == started.pid:
            return True
        time.sleep(0.02)
    with Path(log).open(encoding="utf-8", errors="replace") as handle:
        raise command.LabError(f"the relay on 127.0.0.1:{lab.api_port} does not start: {handle.read()[-800:]}")


def stop(pidfile: str) -> bool:
    """Kill the relay; True when there was one."""
    found = process.read_identities(pidfile).get("relay")
    if not found or not found.alive():
        return False
    found.kill()
    found.wait_gone(5)
    return True


def serve(lab: Lab) -> None:
    """Body of the relay process."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", lab.api_port))
    listener.listen(64)
    linux.setns(lab.netns, linux.CLONE_NEWNET)
    process.write_identities(lab.relay_pidfile, {"relay": process.identify(os.getpid())})
    asyncio.run(_serve(listener, lab.control.address))


async def _serve(listener: socket.socket, address: str) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(address, API_PORT)
        except OSError:
            writer.transport.abort()  # a reset, as a host without a server would answer
            return
        await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))
        for end in (writer, upstream_writer):
            end.close()

    server = await asyncio.start_server(client, sock=listener)
    async with server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then pass the end on (half close); an error ends both directions."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            reader.feed_eof()
