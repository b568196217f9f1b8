# SPDX-License-Identifier: Apache-2.0
"""CRIU's own words, found in its logs."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.podferry.live.plugins.module_utils._criu.dump import log_tail, remedy_for
from ansible_collections.podferry.live.plugins.module_utils._criu.log import errors, explain

LOG = """\
(00.000000) Version: 4.1.1 (gitid 0)
(00.012345) Warn  (criu/kerndat.c:100): something
(00.021817) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.022000)     42: Error (criu/files.c:12): pid: 1 failed
(00.022001) Error (compel/src/lib/infect.c:400): third
Error (no time): not a line of the log
"""


def test_errors_in_their_order() -> None:
    assert errors(LOG) == [
        "inet: Connected TCP socket, consider using --tcp-established option.",
        "pid: 1 failed",
        "third",
    ]
    assert errors("") == [] and errors("\0\xff\n\n(") == []


def test_the_first_two_explain(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dump.log").write_bytes(LOG.encode() + b"\xff\xfe")
    text = explain(str(tmp_path / "dump.log"))
    assert text == "inet: Connected TCP socket, consider using --tcp-established option.; pid: 1 failed"
    assert explain(str(tmp_path / "none")) == ""
    assert len(log_tail(str(tmp_path), "dump.log", 2)) == 2 and log_tail(str(tmp_path), "none") == []


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("inet: Connected TCP socket", "tcp=close"),
        ("io_uring is not supported", "io_uring"),
        ("write: No space left", "Memory"),
        ("?", "runs on"),
    ],
)
def test_every_reason_has_a_remedy(reason: str, word: str) -> None:
    assert word in remedy_for(reason)
