# SPDX-License-Identifier: Apache-2.0
"""What a container without an arrival pays for our handler: podferry-runc against the runc behind it, call by call in one run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.support.lab import Lab

BOUND_MS = 5.0
"""What the product promises (median)."""
MARGIN = 10
"""This machine is shared by everything that a test run does at the same time."""

RUNS = 3
"""Load only ever adds: the cheapest of so many runs is nearest to the truth."""

# On the node: pairs of the same call, in turns, so that load hits both alike.
# Prints JSON: call -> [median of runc, median of what the handler adds] in ms.
MEASURE = r"""
import json, os, shutil, statistics, subprocess, time
FRONT = '/usr/local/libexec/podferry/podferry-runc'
PLAIN = next(line.split('=', 1)[1].strip() for line in open(FRONT) if line.startswith('runtime='))
FOLDER = '/run/podferry-overhead'
PAIRS = 25
config = {
    'ociVersion': '1.0.2',
    'process': {'terminal': False, 'user': {'uid': 0, 'gid': 0}, 'args': ['/bin/sleep', '60'], 'env': ['PATH=/bin'], 'cwd': '/'},
    'root': {'path': 'rootfs', 'readonly': False},
    'mounts': [
        {'destination': '/proc', 'type': 'proc', 'source': 'proc'},
        {'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['mode=755', 'size=64k']},
    ],
    'linux': {'namespaces': [{'type': kind} for kind in ('pid', 'mount', 'network', 'ipc', 'uts')]},
    'annotations': {'io.kubernetes.cri.container-type': 'container', 'filler': 'x' * 4096},
}
shutil.rmtree(FOLDER, ignore_errors=True)
os.makedirs(FOLDER + '/rootfs')
for name in ('usr', 'bin', 'lib', 'lib64'):
    if os.path.islink('/' + name):
        os.symlink(os.readlink('/' + name), FOLDER + '/rootfs/' + name)
    elif os.path.isdir('/' + name):
        config['mounts'].append({'destination': '/' + name, 'type': 'bind', 'source': '/' + name, 'options': ['rbind', 'ro']})
taken = {}
def call(program, name, *words):
    argv = [program, '--root', FOLDER + '/root', name, *words]
    began = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took = (time.perf_counter() - began) * 1000
    assert done.returncode == 0, argv
    taken.setdefault(name, {}).setdefault(program, []).append(took)
try:
    for number in range(PAIRS + 2):
        for program in ((PLAIN, FRONT) if number % 2 else (FRONT, PLAIN)):
            name = 'overhead-%d-%s' % (number, os.path.basename(program))
            config['linux']['cgroupsPath'] = '/' + name
            with open(FOLDER + '/config.json', 'w') as stream:
                json.dump(config, stream)
            call(program, 'create', '--bundle', FOLDER, name)
            call(program, 'state', name)
            call(program, 'start', name)
            call(program, 'exec', name, '/bin/true')
            call(program, 'delete', '--force', name)
        if number == 1:
            taken.clear()  # the first two only fill the caches
finally:
    shutil.rmtree(FOLDER, ignore_errors=True)
print(json.dumps({
    name: [statistics.median(both[PLAIN]), statistics.median(front - plain for plain, front in zip(both[PLAIN], both[FRONT]))]
    for name, both in taken.items()
}))
"""


def test_a_container_without_an_arrival_pays_milliseconds(
    prepared: Lab, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    paid: dict[str, float] = {}
    for run in range(1, RUNS + 1):
        measured: dict[str, list[float]] = json.loads(prepared.python("node-a", MEASURE))
        for name, (plain, added) in measured.items():
            paid[name] = min(added, paid.get(name, added))
            with capsys.disabled():
                print(f"\nrun {run}: {name} takes runc {plain:.1f} ms, podferry-runc {added:+.1f} ms", end="")
        if max(paid.values()) <= BOUND_MS:
            break
    with capsys.disabled():
        print(f"\nthe handler adds {max(paid.values()):.1f} ms at most (median; promised: {BOUND_MS:g} ms)")
    record_property("overhead_ms", paid)
    assert set(paid) == {"create", "state", "start", "exec", "delete"}
    over = {name: round(cost, 1) for name, cost in paid.items() if cost > BOUND_MS * MARGIN}
    assert not over, f"the handler costs more than {BOUND_MS * MARGIN:g} ms (median) in {over}"
