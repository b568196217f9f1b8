# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The way with a successor: the same name, so the source pod is deleted before the target pod can be.

Until ``relinquish`` everything can be taken back by thawing. After it the dump on the target is the copy that counts;
a restore that fails is undone by restoring the same dump on the source node.
"""

from __future__ import annotations

from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeUnavailable
from .._plan import disruption
from .._plan import manifest as manifests
from .._plan.options import ARRIVAL
from . import decided, ending, statefulset
from .errors import Cancelled, NodeError, PodferryError, SessionLost, Unfinished
from .lookout import TargetGone
from .patience import delete_and_wait, persist, post, wait_gone
from .run import Run
from .session import Event
from .twin import _cancel, back

_LAST_LOOK_S = 3.0


def carry(run: Run, pod: Any) -> str:
    """From connected ferries to an outcome. Raises Unfinished (run again to go on)."""
    try:
        run.check_interrupt()
        with run.phase("arm"):
            run.target.call("arm", run=run.id)
        _check_budgets(run, pod)
        statefulset.take_away(run, pod)
        run.check_interrupt()
        run.source.call("go", run=run.id)
        _await_data(run)
        with run.phase("last look"):
            _last_look(run)
        run.check_interrupt()
        with run.phase("commit"):
            run.source.call("relinquish", run=run.id, timeout_s=run.plan.deadlines.settle + 10.0)
    except SessionLost as exc:
        run.fail(exc)
        return _after(run, pod, decided.wait_decided(run, timeout_s=run.plan.deadlines.decided))
    except NodeError as exc:
        run.drain()
        if run.end is not None and run.end.get("outcome") == "aborted":
            run.fail_from(run.end)  # somebody cancelled it, or it gave up, while we looked away: that is the reason
        run.fail(exc)
        if run.end is not None and run.end.get("outcome") == "in_doubt":
            return _after(run, pod, decided.resolve(run))
        return _after(run, pod, decided.wait_decided(run, timeout_s=30.0))
    except (KubeError, KubeUnavailable) as exc:
        run.fail(
            PodferryError(
                f"the Kubernetes API fails before the commit: {exc}", "Bring the API back and run again.", run.step
            ),
            "api",
        )
        return back(run)
    except PodferryError as exc:
        run.fail(exc, "cancelled" if isinstance(exc, Cancelled) else "")
        return back(run)
    return _after(run, pod, "committed")


def _check_budgets(run: Run, pod: Any) -> None:
    """The preflight may be a while ago, and others move pods as well. Raises PodferryError, KubeError."""
    budgets = persist(
        run.tools,
        "read disruption budgets",
        lambda: run.tools.cluster.list_budgets(run.plan.namespace),
        patience_s=15.0,
    )
    refusals = disruption.check_budgets(pod, budgets)
    if refusals:
        raise PodferryError(refusals[0].reason, refusals[0].remedy)


def _await_data(run: Run) -> None:
    """Until the target has all data, verified. Raises what ended it before."""
    cancelled = False
    died = False

    def tick() -> bool:
        nonlocal cancelled
        if run.tools.interrupt.is_set() and not cancelled:
            cancelled = True
            _cancel(run)
        return died or not run.source.alive

    def wanted(event: Event) -> bool:
        nonlocal died
        if event.name == "ferry_ended" and event.node == run.plan.source_node:
            died = True
        return event.role == "source" and event.name in ("data_ready", "end")

    event = run.wait_event(wanted, timeout_s=run.plan.deadlines.freeze + 30.0, on_tick=tick)
    if event is not None and event.name == "data_ready":
        return
    if run.end is not None:
        run.fail_from(run.target_failure)
        run.fail_from(run.end)
        if cancelled:
            raise Cancelled("cancelled by the user before the commit point", "The pod runs on at its source.", run.step)
        raise PodferryError("the source's ferry ended before the commit point", phase=run.step)
    raise SessionLost(run.plan.source_node, "the source's ferry ended without a word or is silent")


def _last_look(run: Run) -> None:
    """The pod must still be the one we froze, and the API must answer now: the next steps need it."""
    plan = run.plan
    pod = persist(
        run.tools,
        "read the source pod",
        lambda: run.tools.cluster.get_pod(plan.namespace, plan.pod),
        patience_s=_LAST_LOOK_S,
    )
    if pod is None or predicates.uid_of(pod) != plan.uid or predicates.terminating(pod):
        raise PodferryError(
            f"somebody deleted pod {plan.pod} in the meantime", "Nothing to do: it is gone by somebody's wish."
        )
    statefulset.check_away(run)


def _after(run: Run, pod: Any, verdict: decided.Verdict) -> str:
    if verdict == "committed":
        run.report.error = None
        return go_on(run, must_be_ready=pod is None or predicates.ready(pod))
    if verdict == "aborted":
        run.drain()
        run.fail_from(run.target_failure)
        run.fail(PodferryError("the source's ferry ended before the commit point"), "ferry_ended")
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


def go_on(run: Run, *, must_be_ready: bool) -> str:
    """From ``relinquished`` on; every step may have been done already. Raises Unfinished."""
    plan, tools = run.plan, run.tools
    with run.phase("change over", plan.pod):
        delete_source(run)
        try:
            created = post(
                tools,
                plan.namespace,
                statefulset.marked(run, run.manifest),
                patience_s=tools.api_patience_s,
                replaces=plan.uid,
            )
        except KubeError as exc:
            run.fail(PodferryError(f"the API refuses the successor: {exc.message}", phase="change over"), "api")
            return undo(run, None)
        run.report.target.uid = predicates.uid_of(created)
    with run.phase("restore", plan.target_node):
        with TargetGone(run, plan.target_pod, predicates.uid_of(created)):
            resumed = _resumed(run)
        if not resumed:
            return undo(run, predicates.uid_of(created))
    ending.tell_switchover(run)
    statefulset.put_back(run)
    with run.phase("ready", plan.target_pod):
        ending.wait_ready(run, node=plan.target_node, must_be_ready=must_be_ready)
        statefulset.see_adopted(run)
    with run.phase("clean up"):
        ending.end_half(run, run.source)
        ending.end_target(run)
    return "finished"


def delete_source(run: Run) -> None:
    """The pod first, then its frozen processes: a container killed before would be started again."""
    plan, tools = run.plan, run.tools
    persist(
        tools,
        "delete the source pod",
        lambda: tools.cluster.delete_pod(plan.namespace, plan.pod, uid=plan.uid, grace_s=0),
    )
    try:
        run.source.call("kill", run=run.id)
    except NodeError as exc:
        if exc.type != "not_found":  # its node was restarted: nothing is frozen there any more
            raise
    wait_gone(tools, plan.namespace, plan.pod, plan.uid)


def _resumed(run: Run) -> bool:
    """Did the successor come to run? Events tell; the target's record has the last word."""
    ended = False
    looked = run.tools.clock()

    def tick() -> bool:
        nonlocal looked
        if run.report.resumed_run and run.tools.clock() - looked >= 1.0:
            looked = run.tools.clock()  # this session did not start the ferry, so no events come to it
            return _settled_by_record(run)
        return ended or not run.target.alive

    def wanted(event: Event) -> bool:
        nonlocal ended
        if event.name == "ferry_ended" and event.node == run.plan.target_node:
            ended = True
        return bool(run.target_gone) or (event.role == "target" and event.name in ("resumed", "restore_failed"))

    run.drain()
    if run.resumed is None and run.target_failure is None and not run.target_gone:
        run.wait_event(wanted, timeout_s=run.plan.deadlines.restored, on_tick=tick)
    if run.resumed is not None:
        return True
    if run.target_gone:
        run.fail(PodferryError(run.target_gone, "Run the play again.", "restore"), "target_deleted")
    try:
        if run.target.call("record", run=run.id).get("resumed"):
            return True
    except SessionLost as exc:
        raise Unfinished(f"whether the successor runs is not known: {exc.message}", exc.remedy) from exc
    run.fail_from(run.target_failure, "restore")
    run.fail(PodferryError("the successor was not restored in time", phase="restore"), "deadline")
    return False


def _settled_by_record(run: Run) -> bool:
    """Has the target's record reached a state from which it does not come to run by itself any more?"""
    record = run.target.call("record", run=run.id)
    return bool(record.get("resumed")) or record.get("state") in ("aborted", "none")


def undo(run: Run, created: str | None) -> str:
    """Give the successor up for good, then restore the dump where it was made. Raises Unfinished."""
    plan, tools = run.plan, run.tools
    with run.phase("undo", f"back on {plan.source_node}"):
        # Before anything is deleted: its guard may just let it go.
        answer = run.target.call("surrender", run=run.id, timeout_s=60.0)
        if not answer.get("surrendered"):
            raise Unfinished(
                f"the successor had been let go before it ended: {answer.get('reason') or 'its record says so'}",
                "The dump is kept on both nodes. Decide by hand which copy counts; see docs/failures.md, 'lost after resume'.",
            )
        if created is None:
            created = ending.find_target(run)
        if created is not None:
            delete_and_wait(tools, plan.namespace, plan.target_pod, created)
        return restore_at_home(run, armed=False)


def clear_home(run: Run) -> bool:
    """After an undo that gave up: its pod goes, so that another can be armed. Raises Unfinished.

    False when it has run after all, let go by its guard: then everything of it stays.
    """
    plan, tools = run.plan, run.tools
    if plan.manifest is None:  # nothing is deleted that could not be made again
        raise Unfinished(
            f"the pod of run {run.id} cannot be made again on {plan.source_node}: nobody kept its manifest",
            f"Its dump is kept on {plan.source_node} in /run/podferry/runs/{run.id}/images: save it before anything else.",
        )
    if not run.source.call("surrender", run=f"{run.id}.undo", timeout_s=60.0).get("surrendered"):
        return False
    there = persist(tools, "read the pod", lambda: tools.cluster.get_pod(plan.namespace, plan.target_pod))
    if there is not None and predicates.annotations_of(there).get(ARRIVAL) != run.id:
        raise Unfinished(
            f"somebody has created another pod {plan.target_pod}, so run {run.id} cannot be brought back under that name",
            f"Its dump is kept on {plan.source_node}. If that is what counts, delete the other pod for good and run the play "
            "again; else end this run with 'finish' on both nodes: docs/failures.md, in_doubt.",
        )
    statefulset.take_away_again(run)
    if there is not None:  # a kubelet whose 'create' was refused tries again ever more seldom: it need not come in time
        delete_and_wait(tools, plan.namespace, plan.target_pod, predicates.uid_of(there))
    return True


def restore_at_home(run: Run, *, armed: bool, restored: bool = False) -> str:
    """The source's own dump, restored as a pod of the same name on the source node.

    ``restored``: it runs already, and its marks may be gone, so that it would not be known for ours any more.
    """
    plan, tools = run.plan, run.tools
    run.report.restored_at_home = True
    run.forget_target()
    if not armed:
        run.source.call(
            "undo_arm", run=run.id, timeout_s=60.0, deadlines=plan.deadlines.to_dict(), target_record="aborted"
        )
    if not restored:
        home = statefulset.marked(run, manifests.for_return(run.manifest, source_node=plan.source_node))
        post(tools, plan.namespace, home, patience_s=tools.api_patience_s, replaces=plan.uid)
    statefulset.put_back(run)  # this pod stays, whatever becomes of its restore

    def wanted(event: Event) -> bool:
        return event.name in ("resumed", "restore_failed") and event.node == plan.source_node

    if not armed:
        run.wait_event(wanted, timeout_s=plan.deadlines.restored, on_tick=lambda: not run.source.alive)
    if run.resumed is None and run.target_failure is not None:
        error = run.target_failure.get("error") or {}
        raise Unfinished(
            f"the pod could not be restored on either node: {error.get('message')}",
            f"Its dump is kept on {plan.source_node} in /run/podferry/runs/{run.id}/images.",
        )
    ending.wait_ready(run, node=plan.source_node, must_be_ready=False)
    statefulset.see_adopted(run)
    ending.drop_marks(run, plan.target_pod)
    run.source.call("finish", run=run.id, timeout_s=60.0)
    try:
        run.target.call("finish", run=run.id, timeout_s=60.0, patience_s=20.0)
    except (NodeError, SessionLost) as exc:
        run.warn(f"node {plan.target_node}: the run's files are still there ({exc.message}); the next run removes them")
    return "undone"
