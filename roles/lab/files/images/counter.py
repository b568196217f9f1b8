# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""A workload that notices what is done to it.

``counter.py [MiB]`` touches that much memory and prints, every 10 ms::

    tick <n> <CLOCK_MONOTONIC ns> <CLOCK_REALTIME ns>

With each tick it checks some pages against their checksums and rewrites them. When it has been through all of them
it says ``memory verified pass=<n> pages=<n>``; a page that is not what was written ends it with ``memory CORRUPT``.
"""

import os
import random
import signal
import sys
import time
import zlib
from array import array

PAGE = 4096
INTERVAL = 10_000_000  # ns
PAGES_PER_TICK = 16


def say(text: str) -> None:
    """One line, one write: nothing stays in a buffer when the process is frozen."""
    os.write(1, text.encode() + b"\n")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    pages = int(sys.argv[1] if len(sys.argv) > 1 else "16") * 256
    rng = random.Random(pages)
    memory = bytearray(pages * PAGE)
    view = memoryview(memory)
    sums = array("L", bytes(8 * pages))

    def write(page: int) -> None:
        content = rng.randbytes(PAGE)
        view[page * PAGE : (page + 1) * PAGE] = content
        sums[page] = zlib.crc32(content)

    for page in range(pages):
        write(page)
    say(f"start pid={os.getpid()} pages={pages}")
    tick = page = verified = 0
    due = time.monotonic_ns()
    while True:
        tick += 1
        say(f"tick {tick} {time.monotonic_ns()} {time.time_ns()}")
        for _round in range(min(PAGES_PER_TICK, pages)):
            if zlib.crc32(view[page * PAGE : (page + 1) * PAGE]) != sums[page]:
                say(f"memory CORRUPT page={page} tick={tick}")
                sys.exit(1)
            write(page)
            page += 1
            if page == pages:
                page = 0
                verified += 1
                say(f"memory verified pass={verified} pages={pages}")
        due += INTERVAL
        now = time.monotonic_ns()
        if due < now:
            due = now  # having been stopped is no reason for a burst
        else:
            time.sleep((due - now) / 1e9)


main()
