# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The way with a twin: a second pod beside the source, nothing of the control plane in the freeze."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError
from . import decided, ending
from .errors import PodferryError, SessionLost
from .lookout import TargetGone
from .patience import post
from .run import Run
from .session import Event

_POST_PATIENCE_S = 15.0


def carry(run: Run, pod: Any) -> str:
    """From connected ferries to an outcome: ``finished``, ``undone`` or ``in_doubt``.

    Raises Unfinished (committed, run again to go on). Everything else ends here as ``undone`` with its reason.
    """
    with ExitStack() as looking_out:
        try:
            run.check_interrupt()
            with run.phase("arm"):
                run.target.call("arm", run=run.id)
            with run.phase("target pod", run.plan.target_pod):
                created = str(
                    post(run.tools, run.plan.namespace, run.manifest, patience_s=_POST_PATIENCE_S)["metadata"]["uid"]
                )
                run.report.target.uid = created
            looking_out.enter_context(TargetGone(run, run.plan.target_pod, created))
            run.check_interrupt()
            run.source.call("go", run=run.id)
        except KubeError as exc:
            run.fail(
                PodferryError(f"the API refuses the target pod: {exc.message}", "See the API's words.", "target pod"),
                "api",
            )
            return back(run)
        except SessionLost as exc:
            # 'go' may have arrived. Ask, and believe only what the nodes say.
            run.fail(exc)
            return _after(run, pod, decided.wait_decided(run, timeout_s=run.plan.deadlines.decided))
        except PodferryError as exc:
            run.fail(exc, "cancelled" if run.tools.interrupt.is_set() else "")
            return back(run)
        verdict = await_end(run)
    return _after(run, pod, verdict)


def back(run: Run) -> str:
    """``go`` was never given: stop both ferries and take the target pod away."""
    for peer in (run.source, run.target):
        try:
            peer.call("cancel", run=run.id, patience_s=10.0)
        except PodferryError:
            pass  # a ferry without its controller gives up by itself; 'finish' sees to it
    with run.phase("undo"):
        ending.take_back(run)
    return "undone"


def await_end(run: Run) -> decided.Verdict:
    """Watch the ferries until the source's end. They need nobody for it; this only shows and remembers."""
    cancelled = False
    lost = False

    def tick() -> bool:
        nonlocal cancelled
        if run.tools.interrupt.is_set() and not cancelled:
            cancelled = True
            _cancel(run)
        return lost or not run.source.alive

    def is_end(event: Event) -> bool:
        nonlocal lost, cancelled
        if run.target_gone and not cancelled:
            cancelled = True
            _stop(run, run.target_gone)
            return run.end is not None
        if event.name == "ferry_ended" and event.role in ("source", "") and event.node == run.plan.source_node:
            lost = run.end is None  # it died without a word; the guard has thawed unless the word was out
        return event.name == "end" and event.role == "source"

    run.wait_event(is_end, timeout_s=run.plan.deadlines.decided, on_tick=tick)
    if run.end is None:
        run.drain()
    if run.end is None:
        return decided.wait_decided(run, timeout_s=run.plan.deadlines.decided)
    run.fail_from(run.end, str(run.end.get("phase") or ""))
    outcome = str(run.end.get("outcome"))
    if outcome in ("committed", "relinquished"):
        return "committed"
    return "aborted" if outcome == "aborted" else decided.resolve(run)


def _stop(run: Run, why: str) -> None:
    """The target must not be let go: its kubelet ends it, or never has it."""
    run.drain()
    if run.end is not None:
        return
    run.fail(PodferryError(why, "The pod runs on at its source. Run the play again.", run.step), "target_deleted")
    _cancel(run)


def _cancel(run: Run) -> None:
    run.tools.reporter.phase("cancel")
    try:
        answer = run.source.call("cancel", run=run.id, timeout_s=10.0, patience_s=5.0)
    except PodferryError as exc:
        run.warn(f"the cancel could not be delivered: {exc.message}")
        return
    if not answer.get("cancelled"):
        run.warn("too late to cancel: the commit point is passed, this run is seen through")


def _after(run: Run, pod: Any, verdict: decided.Verdict) -> str:
    if verdict == "committed":
        run.report.error = None  # what was noted on the way has not stopped it
        finish(run, pod)
        return "finished"
    if verdict == "aborted":
        _explain(run)
        with run.phase("undo"):
            ending.take_back(run)
        return "undone"
    run.report.ways_out = decided.ways_out(run)
    run.fail(
        PodferryError(
            "the end of the migration is not known: source and target could not both be asked", phase="commit"
        ),
        "in_doubt",
    )
    return "in_doubt"


def _explain(run: Run) -> None:
    """The target knows best why it could not restore; the source only that it did not happen."""
    run.drain()
    if (
        run.target_failure is not None
        and run.report.error is not None
        and run.report.error.type in ("target_gave_up", "link_lost")
    ):
        run.report.error = None
    run.fail_from(run.target_failure)
    if run.report.error is None:
        if run.tools.interrupt.is_set():
            run.fail(
                PodferryError("cancelled by the user before the commit point", "The pod runs on at its source."),
                "cancelled",
            )
        else:
            run.fail(
                PodferryError(
                    "the source's ferry ended before the commit point",
                    "See 'journalctl -u podferry-*' on the source node.",
                ),
                "ferry_ended",
            )


def finish(run: Run, pod: Any) -> None:
    """Committed: only forward from here. Raises Unfinished, KubeError, SessionLost, NodeError; a later run goes on."""
    ready = pod is None or predicates.was_ready(pod)
    ending.tell_switchover(run)
    ending.give_early_labels(run)
    with ending.unrouted(run, ready=ready), run.phase("ready", run.plan.target_pod):
        ending.wait_ready(run, node=run.plan.target_node, must_be_ready=ready)
    if run.plan.mode != "copy":
        with run.phase("hand over", f"to {run.plan.owner}" if run.plan.owner_uid else ""):
            if run.plan.owner_uid:
                ending.adopt(run)
            else:
                ending.replace_bare(run)
        with run.phase("end of the source"):
            ending.end_source(run)
    with run.phase("clean up"):
        if run.plan.mode == "copy":
            run.source.call("finish", run=run.id, timeout_s=60.0)
        ending.end_target(run)
