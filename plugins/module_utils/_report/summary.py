# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A report in a few lines for a person."""

from __future__ import annotations

from .record import Report

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(size: float) -> str:
    """1536 to ``1.5 KiB``."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def human_ms(ms: float | None) -> str:
    """12.3 to ``12 ms``, 4567 to ``4.57 s``."""
    if ms is None:
        return "not known"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def summary(report: Report) -> list[str]:
    """Lines to show at the end of a run, whatever its outcome."""
    title = f"{report.namespace}/{report.pod}"
    if report.outcome == "finished":
        lines = [f"{title}: moved from {report.source.node} to {report.target.node} as {report.target.pod}"]
        lines += _numbers(report)
    elif report.outcome == "already_there":
        lines = [f"{title}: already on {report.target.node} as {report.target.pod}; nothing to do"]
    elif report.outcome == "planned":
        lines = [f"{title}: would move from {report.source.node} to {report.target.node} as {report.target.pod}"]
    elif report.outcome == "refused":
        lines = [f"{title}: not moved, nothing was touched"]
        for refusal in report.refusals:
            planned = " (planned)" if refusal["planned"] else ""
            lines += [f"  {refusal['code']}{planned}: {refusal['reason']}", f"    {refusal['remedy']}"]
    elif report.outcome == "in_doubt" and report.error is not None and report.error.type == "owner_away":
        lines = [f"{title}: the pod runs, but its {report.owner} is NOT THERE until this is resolved"]
        lines += [f"  {way}" for way in report.ways_out]
    elif report.outcome == "in_doubt":
        lines = [f"{title}: IN DOUBT; the source on {report.source.node} stays frozen until this is resolved"]
        lines += [f"  {way}" for way in report.ways_out]
    else:
        word = "cancelled" if report.outcome == "cancelled" else "undone"
        lines = [f"{title}: {word}; the pod goes on on {report.source.node}"]
    if report.error is not None:
        lines.append(f"  phase {report.error.phase or 'unknown'}: {report.error.message}")
        if report.error.remedy:
            lines.append(f"  remedy: {report.error.remedy}")
    return lines


def _numbers(report: Report) -> list[str]:
    sent = report.bytes_sent
    parts = [
        f"  downtime            {human_ms(report.downtime_ms)}",
        f"  clients wait        {human_ms(report.until_ready_ms)} (from freeze until the target reads Ready)",
        f"  total               {human_ms(report.total_ms)}",
    ]
    if sent is not None:
        parts.append(f"  sent                {human_bytes(sent)}")
    if report.connections_closed:
        parts.append(f"  connections closed  {report.connections_closed}")
    return parts
