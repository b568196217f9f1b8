# SPDX-License-Identifier: Apache-2.0
"""Reading logs in CRI format: ``TIME STREAM TAG LINE``, where tag P is a part of a line and F its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_FOLLOW_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """What a client asks for."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None

    @classmethod
    def parse(cls, query: dict[str, str]) -> Options:
        """From the query of the request."""
        since = None
        if "sinceSeconds" in query:
            since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
        elif "sinceTime" in query:
            since = _time(query["sinceTime"])
        return cls(
            query.get("follow") in ("true", "1"),
            query.get("timestamps") in ("true", "1"),
            int(query["tailLines"]) if "tailLines" in query else None,
            since,
            int(query["limitBytes"]) if "limitBytes" in query else None,
        )


def _time(text: str) -> datetime:
    head, _separator, fraction = text.rstrip("Z").partition(".")
    zone = "+00:00" if text.endswith("Z") or "+" not in text else ""
    return datetime.fromisoformat(
        f"{head}.{fraction[:6].ljust(6, '0')}{zone}" if fraction and zone else text.replace("Z", "+00:00")
    )


def read(path: Path, options: Options, alive: Callable[[], bool]) -> Iterator[bytes]:
    """The log as the client wants it; with follow until the container is no longer alive."""
    with path.open("rb") as file:
        lines = file.readlines()
        rest = b""
        if lines and not lines[-1].endswith(b"\n"):
            rest = lines.pop()
        if options.tail is not None:
            lines = lines[-options.tail :] if options.tail else []
        sent = 0
        for line in lines:
            sent, out = _emit(line, options, sent)
            yield out
        while options.follow:
            living = alive()
            more = file.read()
            rest += more
            while b"\n" in rest:
                line, _separator, rest = rest.partition(b"\n")
                sent, out = _emit(line + b"\n", options, sent)
                yield out
            if not living and not more:
                return
            if not more:
                time.sleep(_FOLLOW_SECONDS)


def _emit(line: bytes, options: Options, sent: int) -> tuple[int, bytes]:
    stamp, _separator, rest = line.partition(b" ")
    _stream, _separator, rest = rest.partition(b" ")
    tag, _separator, text = rest.partition(b" ")
    if options.since is not None and _time(stamp.decode()) < options.since:
        return sent, b""
    if tag.startswith(b"P"):
        text = text.removesuffix(b"\n")
    if options.timestamps:
        text = stamp + b" " + text
    if options.limit is not None:
        text = text[: max(0, options.limit - sent)]
    return sent + len(text), text
