# SPDX-License-Identifier: Apache-2.0
"""What a node carries of ours (promise P5): taken before and after a migration, the two must be equal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

# Runs on the node with its own Python, prints JSON. "Ours" by name, where a name tells; everything, where ours could hide
# (frozen cgroups, firewall tables, deleted-but-open files do not say whose they are).
COLLECT = r"""
import json, os, re, subprocess
def out(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []
def units(kind):
    lines = out('systemctl', 'list-units', kind, '--plain', '--no-legend')
    return [line.split()[0] for line in lines if line.split()]
def read(path):
    try:
        with open(path, 'rb') as handle:
            return handle.read().replace(b'\0', b' ').decode('utf-8', 'replace').strip()
    except OSError:
        return ''
me = os.getpid()
parents = set()
pid = me
while pid > 1:
    parents.add(pid)
    pid = int(read('/proc/%d/stat' % pid).rpartition(')')[2].split()[1])
name = re.compile(r'podferry(?!([-_]|\\x2d)(standin|lab))')  # the lab's own parts are not ours
ours = re.compile(name.pattern + r'|\bcriu\b|\brunc (restore|checkpoint)\b')
kept = {'/run/podferry/' + part for part in ('runs', 'arrivals', 'claims', 'empty')}  # what bootstrap made
processes = [read('/proc/%s/cmdline' % p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in parents]
# conmon lives as long as its container, and names the runtime that it was given.
processes = [line for line in processes if os.path.basename(line.split(' ')[0]) != 'conmon']
files = []
for top in ('/run/podferry', '/var/lib/podferry', '/var/tmp', '/tmp', '/dev/shm'):
    for base, folders, names in os.walk(top):
        files += [os.path.join(base, item) for item in names + folders if top.endswith('podferry') or name.search(item) or 'criu' in item]
frozen = []
for base, folders, names in os.walk('/sys/fs/cgroup'):
    if 'freezer.state' in names and read(base + '/freezer.state') == 'FROZEN' or read(base + '/cgroup.freeze') == '1':
        frozen.append(base)
named = [base for base, _f, _n in os.walk('/sys/fs/cgroup') if name.search(base.rsplit('/', 1)[-1])]
points = [line.split()[1] for line in read('/proc/mounts').splitlines()]
rules = out('nft', 'list', 'ruleset') + [line for line in out('iptables-save') if 'CRIU' in line or 'podferry' in line]
for netns in (os.listdir('/run/netns') if os.path.isdir('/run/netns') else []):
    rules += [line for line in out('nsenter', '--net=/run/netns/' + netns, 'nft', 'list', 'tables') if 'CRIU' in line or 'podferry' in line]
    rules += [line for line in out('nsenter', '--net=/run/netns/' + netns, 'iptables-save') if 'CRIU' in line or 'podferry' in line]
print(json.dumps({
    'processes': sorted(p for p in processes if ours.search(p)),
    'mounts': sorted(point for point in points if name.search(point) or 'criu' in point),
    'files': sorted(set(files) - kept),
    'units': sorted(filter(name.search, units('--all'))),
    'failed units': sorted(units('--failed')),
    'cgroups': sorted(named),
    'frozen cgroups': sorted(frozen),
    'firewall': rules,
    # A container runtime that restarts takes another loopback port for its streams; a ferry never listens there.
    'listening': sorted({line.split()[3] for line in out('ss', '-Htln') if len(line.split()) > 3 and not line.split()[3].startswith('127.')}),
}))
"""


class Node(Protocol):
    """What the collector needs of a node."""

    def python(self, node: str, program: str) -> str:
        """Run a Python program on a node and return what it printed."""


@dataclass(frozen=True)
class Footprint:
    """One node at one moment: kind of trace -> its items."""

    node: str
    traces: dict[str, list[str]]

    @classmethod
    def of(cls, lab: Node, node: str) -> Footprint:
        """Take it now."""
        return cls(node, json.loads(lab.python(node, COLLECT)))

    def added(self, before: Footprint) -> dict[str, list[str]]:
        """What is here and was not before, by kind; kinds without anything are left out."""
        new = {kind: [item for item in items if item not in before.traces[kind]] for kind, items in self.traces.items()}
        return {kind: items for kind, items in new.items() if items}
