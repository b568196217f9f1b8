# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The runtime handler's way for a container that arrives: ``create`` becomes a restore that ends frozen.

The front (``podferry-runc``) comes here only when there is an arrival or a mark of one. The last step is always exec: the
process that the shim or conmon waits for is the runtime itself, and nothing of ours stays between them.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
import typing as t

from .._common import faults
from .._common.errors import InvalidInput, NotFound, PodferryError, StateConflict
from .._common.files import read_json, write_json
from .._criu import external, unix
from .._criu.environment import environment, restore_options
from .._criu.hold import FRONT
from .._criu.restore import CreateCall, cgroup_options, parse_create, restore_argv, value_of
from .._runtime import finished, oci
from .._runtime.aside import take_descriptor
from .._runtime.cgroup import is_unified
from . import hooks, logs, paths
from .arrival import has_arrived
from .control import Client
from .record import Record

GATE_SECONDS = 100.0
"""How long a ``create`` waits for its state: under the kubelet's runtimeRequestTimeout of two minutes."""


_FIRST_INHERITED = 300
"""Above the descriptors that a runtime hands to CRIU by their numbers."""


class Restore(t.NamedTuple):
    """What a ``create`` becomes."""

    argv: t.List[str]
    environment: t.Dict[str, str]
    container: str


def main(words: t.Sequence[str]) -> int:
    """Handle one call of the runtime. Does not return when it ends in an exec."""
    runtime = os.environ.get("PODFERRY_RUNTIME", "runc")
    command = next((word for word in words if word in ("create", "run", "state", "exec")), "")
    if command == "state":
        return _state(runtime, words)
    if command == "exec":
        return hooks.post_start(runtime, words)
    log = value_of(words, "--log")
    faults.load()
    try:
        decision = _decide(runtime, words)
    except PodferryError as error:
        return _fail(log, f"podferry: {error.message} {error.remedy}".strip())
    except (OSError, ValueError, KeyError) as error:
        return _fail(log, f"podferry: {type(error).__name__}: {error}")
    if decision is None:
        os.execv(runtime, [runtime, *words])
    faults.point("handler:exec:before", decision.container)
    os.execve(runtime, decision.argv, decision.environment)


def _decide(runtime: str, words: t.Sequence[str]) -> Restore | None:
    """The restore that this ``create`` becomes, or None for a plain ``create``.

    :raises PodferryError: it must not be created at all.
    """
    bundle = value_of(words, "--bundle", "-b") or os.getcwd()
    config = read_json(os.path.join(bundle, "config.json"))
    owner = oci.identity(config)
    marked = oci.ARRIVAL in (config.get("annotations") or {})
    if owner is None:
        return None
    arrival = paths.arrival(owner.namespace, owner.pod)
    if owner.sandbox:
        if os.path.exists(arrival):  # before the kubelet counts: it does when it makes the pod's first container
            logs.count_on(owner, Record(os.path.realpath(arrival)).content().get("restarts") or {})
        return None
    if not os.path.exists(arrival):
        if marked and not has_arrived(config, owner.uid, str(config["annotations"][oci.ARRIVAL])):
            raise StateConflict(
                "this pod arrives from another node, but this node has no record of it (was it restarted?)",
                "It is not started from its image, because its state may live elsewhere: run the migration's play again.",
            )
        return None
    directory = os.path.realpath(arrival)
    run = paths.RunPaths(os.path.basename(directory))
    state = Record(run.directory).state()
    if state == "done":
        return None
    oci.check_trusted(config)
    if state == "none":
        raise StateConflict("this pod is leaving the node: it is not started from its image")
    if state not in ("armed", "going"):
        raise StateConflict(f"the arrival of this pod is {state}: it is not started from its image")
    if owner.container in (Record(run.directory).content().get("finished") or []):
        finished.make(bundle, config)
        return None
    # Not before: a container that only passes by may be created with words that are new to us.
    call = parse_create(words)
    faults.point("handler:claim:before", owner.container)
    _bind(run, owner, call.identifier)
    faults.point("handler:claim:after", owner.container)
    answer = _wait(run, owner, call, runtime)
    if Record(run.directory).state() not in ("armed", "going"):
        raise StateConflict("the arrival was given up while its container was created")
    argv = restore_argv(runtime, call, answer["images"], answer["work"], config)
    env = environment(answer["work"], [*restore_lines(runtime, config), *unix.inherited(_inherit(answer))])
    if answer.get("hold"):
        env = {**env, "PATH": f"{FRONT}:{env['PATH']}", "PODFERRY_HOLD": str(answer["hold"])}
    return Restore(argv, {**os.environ, **env}, owner.container)


def _inherit(answer: t.Mapping[str, t.Any]) -> dict[int, int]:
    """Take the sockets that the ferry has made, so that CRIU inherits them from the runtime that we become.

    :returns: inode in the dump to descriptor.
    """
    found = {}
    for inode, number in (answer.get("sockets") or {}).items():
        taken = take_descriptor(int(answer["pid"]), int(number))
        found[int(inode)] = fcntl.fcntl(taken, fcntl.F_DUPFD, _FIRST_INHERITED)
        os.close(taken)
    return found


def restore_lines(runtime: str, config: t.Mapping[str, t.Any]) -> list[str]:
    """CRIU's configuration for the restore of a container of this configuration under this runtime."""
    return [*restore_options(paths.ACTION), *external.options(config), *cgroup_options(runtime, is_unified())]


def _bind(run: paths.RunPaths, owner: oci.Identity, identifier: str) -> None:
    """Bind the arrival to this pod's UID and this container for good: it is used once.

    :raises StateConflict: it is bound to another.
    """
    for path, value in ((os.path.join(run.directory, "pod-uid"), owner.uid),):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            with open(path, encoding="utf-8") as stream:
                if stream.read() != value:
                    raise StateConflict("the arrival belongs to another pod of that name") from None
        else:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(value)
    claim = run.mark("claim", owner.container)
    temporary = f"{claim}.{os.getpid()}"
    write_json(temporary, {"identifier": identifier, "pid": os.getpid()})
    try:
        os.link(temporary, claim)  # whole from its first moment, and only once
    except FileExistsError as error:
        raise StateConflict(
            f"container {owner.container} of this arrival was claimed before; it is not started from its image"
        ) from error
    finally:
        os.unlink(temporary)


def _wait(run: paths.RunPaths, owner: oci.Identity, call: CreateCall, runtime: str) -> dict[str, t.Any]:
    """Stand at the gate until the ferry hands out the state.

    :raises PodferryError: the ferry refused, is gone, or says nothing for too long.
    """
    began = time.monotonic()
    client = Client(run.control, timeout=GATE_SECONDS)
    parent = os.getppid()
    root = call.global_words[call.global_words.index("--root") + 1] if "--root" in call.global_words else ""
    try:
        answer = client.ask(
            {
                "op": "claim", "id": 1, "container": owner.container, "identifier": call.identifier, "pid": os.getpid(),
                "bundle": os.path.abspath(call.bundle), "runtime_root": root, "runtime": runtime,
            }
        )  # fmt: skip
    except NotFound as error:
        waited = time.monotonic() - began
        raise NotFound(f"the ferry that brings this container's state went away after {waited:.0f} s") from error
    finally:
        client.close()
    if os.getppid() != parent:
        raise StateConflict("whoever called create is gone: nobody would know the restored container")
    if not isinstance(answer, dict):
        raise InvalidInput("the ferry's answer is not understood")
    return answer


def _state(runtime: str, words: t.Sequence[str]) -> int:
    """CRI-O asks for the state before ``start`` and must hear ``created``, also of what stands frozen."""
    import subprocess

    done = subprocess.run([runtime, *words], capture_output=True, text=True, check=False)
    try:
        state = json.loads(done.stdout)
    except ValueError:
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode
    if state.get("status") in ("paused", "running"):
        state["status"] = "created"
    json.dump(state, sys.stdout)
    return done.returncode


def _fail(log: str, message: str) -> int:
    """Fail as the runtime would: on standard error, and where containerd reads the reason."""
    sys.stderr.write(message + "\n")
    if log:
        try:
            with open(log, "a", encoding="utf-8") as stream:
                json.dump(
                    {"level": "error", "msg": message, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
                    stream,
                )
                stream.write("\n")
        except OSError:
            pass
    return 1
