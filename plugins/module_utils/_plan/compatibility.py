# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Can a process that was dumped on one node go on running on the other? Pure functions over facts."""

from __future__ import annotations

import re

from .._kube import predicates
from .._kube.predicates import Obj
from .facts import NodeFacts, PodInspection, Version
from .refusals import Refusal, refuse

CRIU_MINIMUM: Version = (4, 1, 1)
CRIU_FOR_SOCKETS: Version = (4, 2)
"""From Linux 6.16 on SO_PASSCRED exists for local sockets only; CRIU before 4.2 takes that for an error at any other."""
RUNC_MINIMUM_V2: Version = (1, 2, 0)
RUNC_MINIMUM_V1: Version = (1, 1, 0)

_ENGINE_PROFILES = {"containerd": "cri-containerd.apparmor.d", "crio": "crio-default"}
"""The AppArmor profile that an engine gives to containers which ask for none or for RuntimeDefault."""
ENGINES = tuple(_ENGINE_PROFILES)
_OF_AN_ENGINE = re.compile(r"^io\.kubernetes\.cri-o\.|[.-]cri-?o\.io(/|$)|^io\.containerd\.")

#: Flags the kernel sets for itself or about bugs and power: no program's code path depends on them.
_IRRELEVANT_FLAGS = frozenset(
    [
        "aperfmperf",
        "arat",
        "arch_perfmon",
        "art",
        "bts",
        "constant_tsc",
        "cpuid",
        "dtherm",
        "dts",
        "epb",
        "est",
        "hwp",
        "hwp_act_window",
        "hwp_epp",
        "hwp_notify",
        "hwp_pkg_req",
        "hypervisor",
        "ibpb",
        "ibrs",
        "ibrs_enhanced",
        "ida",
        "intel_pt",
        "invpcid_single",
        "kaiser",
        "l1tf",
        "monitor",
        "nonstop_tsc",
        "nopl",
        "pconfig",
        "pcid",
        "pdcm",
        "pebs",
        "pln",
        "pti",
        "pts",
        "rep_good",
        "retpoline_amd",
        "ssbd",
        "ssbs",
        "stibp",
        "swap",
        "swapgs",
        "tm",
        "tm2",
        "tpr_shadow",
        "vmx",
        "svm",
        "vnmi",
        "flexpriority",
        "ept",
        "vpid",
        "ept_ad",
        "tsc_adjust",
        "tsc_deadline_timer",
        "tsc_known_freq",
        "tsc_reliable",
        "vme",
        "xtopology",
        "x2apic",
        "acpi",
        "smx",
        "xtpr",
        "dtes64",
        "ds_cpl",
        "ds",
        "pbe",
        "ht",
        "cqm",
        "cqm_llc",
        "cqm_mbm_local",
        "cqm_mbm_total",
        "cqm_occup_llc",
        "cat_l3",
        "cdp_l3",
        "mba",
        "rdt_a",
        "flush_l1d",
        "md_clear",
        "arch_capabilities",
        "user_shstk",
    ]
)


def check_nodes(
    source: NodeFacts, target: NodeFacts, own_digest: str, *, source_name: str, target_name: str
) -> list[Refusal]:
    """All that keeps these two nodes from handing a pod over. ``own_digest``: the controller's engine."""
    found: list[Refusal] = []
    for name, facts in ((source_name, source), (target_name, target)):
        found += check_node(name, facts, own_digest)
    found += check_pair(source, target, source_name=source_name, target_name=target_name)
    return found


def check_node(name: str, facts: NodeFacts, own_digest: str) -> list[Refusal]:
    """One node by itself."""
    found: list[Refusal] = []
    if facts.engine is None:
        found.append(refuse("engine_missing", f"Node {name} does not have podferry's node code."))
    elif facts.engine != own_digest:
        found.append(
            refuse(
                "engine_version",
                f"Node {name} has podferry's node code {facts.engine[:12]}, this collection is {own_digest[:12]}.",
            )
        )
    if not facts.handler:
        found.append(refuse("handler_missing", f"The container engine of node {name} has no runtime handler podferry."))
    if facts.criu_version < CRIU_MINIMUM:
        found.append(
            refuse(
                "criu_old",
                f"Node {name} has CRIU {_dotted(facts.criu_version)}; {_dotted(CRIU_MINIMUM)} is needed.",
            )
        )
    elif not facts.criu_ok:
        found.append(refuse("criu_old", f"'criu check' fails on node {name}: {_last_line(facts.criu_says)}."))
    found += _check_oci(name, facts)
    return found


def _check_oci(name: str, facts: NodeFacts) -> list[Refusal]:
    """The program that podferry's handler runs, and the front that is installed before it."""
    if facts.runtime not in ENGINES:
        return [refuse("container_engine", f"Node {name} runs {facts.runtime or 'no container engine that is known'}.")]
    if facts.oci_family == "crun":
        if facts.oci_able:
            return []
        return [
            refuse("crun_old", f"Node {name} has crun {_dotted(facts.oci_version)}, which cannot dump and restore.")
        ]
    minimum = RUNC_MINIMUM_V2 if facts.cgroup == "v2" else RUNC_MINIMUM_V1
    if facts.oci_version >= minimum:
        return []
    text = (
        f"Node {name} has runc {_dotted(facts.oci_version)}; with cgroup {facts.cgroup} {_dotted(minimum)} is needed."
    )
    return [refuse("runc_old", text)]


def check_pair(source: NodeFacts, target: NodeFacts, *, source_name: str, target_name: str) -> list[Refusal]:
    """The target seen from the source."""
    found: list[Refusal] = []
    if source.cgroup != target.cgroup:
        found.append(
            refuse(
                "cgroup_version", f"Node {source_name} has cgroup {source.cgroup}, node {target_name} {target.cgroup}."
            )
        )
    if source.arch != target.arch:
        found.append(refuse("architecture", f"Node {source_name} is {source.arch}, node {target_name} {target.arch}."))
    else:
        missing = sorted((source.cpu_flags - target.cpu_flags) - _IRRELEVANT_FLAGS)
        if missing:
            shown = ", ".join(missing[:12]) + (f" and {len(missing) - 12} more" if len(missing) > 12 else "")
            found.append(refuse("cpu_features", f"The processor of node {target_name} lacks {shown}."))
    if kernel_version(target.kernel) < kernel_version(source.kernel):
        found.append(
            refuse(
                "kernel_older", f"Node {target_name} runs kernel {target.kernel}, node {source_name} {source.kernel}."
            )
        )
    if not target.time_namespaces:
        found.append(refuse("time_namespaces", f"The kernel of node {target_name} has no time namespaces."))
    return found


def check_sockets(inspection: PodInspection, source: NodeFacts, source_name: str) -> list[Refusal]:
    """New kernels and CRIU 4.1 do not agree about network sockets; pods without any are not concerned."""
    if kernel_version(source.kernel) < (6, 16) or source.criu_version >= CRIU_FOR_SOCKETS:
        return []
    return [
        refuse(
            "criu_old",
            f"Node {source_name} has CRIU {_dotted(source.criu_version)}; with kernel {source.kernel} the network sockets of "
            f"container {container.name} need {_dotted(CRIU_FOR_SOCKETS)}.",
            remedy="Install CRIU 4.2 or later on both nodes.",
        )
        for container in inspection.containers
        if container.sockets.inet
    ]


def check_engines(pod: Obj, source: NodeFacts, target: NodeFacts, target_name: str) -> list[Refusal]:
    """What one container engine does for a pod because of its annotations, and another does not."""
    if source.runtime == target.runtime:
        return []
    notes = sorted(str(key) for key in predicates.annotations_of(pod) if _OF_AN_ENGINE.search(str(key)))
    if not notes:
        return []
    return [
        refuse(
            "engine_annotation",
            f"The pod is annotated with {', '.join(notes)}, which means something else to {target.runtime} on node {target_name}.",
        )
    ]


def check_handlers(inspection: PodInspection, source: NodeFacts, source_name: str) -> list[Refusal]:
    """A container may have been made by another OCI runtime than podferry's handler has: then it must be able to dump."""
    return [
        refuse(
            "crun_old",
            f"Container {container.name} runs under crun, and the one of node {source_name} cannot dump it.",
        )
        for container in inspection.containers
        if container.runtime_handler == "crun" and not (source.oci_family == "crun" and source.oci_able)
    ]


def check_confinement(
    inspection: PodInspection, source: NodeFacts, target: NodeFacts, target_name: str
) -> list[Refusal]:
    """The AppArmor profile and SELinux mode that the containers run under must be there.

    An engine's own profile becomes that of the target's engine: CRIU is told the one of the target's container.
    """
    found: list[Refusal] = []
    for container in inspection.containers:
        profile = _profile(container.apparmor)
        if profile and profile == _ENGINE_PROFILES.get(source.runtime):
            profile = _ENGINE_PROFILES.get(target.runtime, profile)
        if profile and (target.apparmor_profiles is None or profile not in target.apparmor_profiles):
            found.append(
                refuse(
                    "security_profile",
                    f"Container {container.name} runs under the AppArmor profile {profile}, which node {target_name} does not have.",
                )
            )
        if container.selinux and target.selinux == "disabled":
            found.append(
                refuse(
                    "security_profile",
                    f"Container {container.name} runs under SELinux ({container.selinux}), which node {target_name} has disabled.",
                )
            )
    return found


def _profile(text: str | None) -> str:
    """``name (enforce)`` as /proc shows it to ``name``; unconfined is no profile."""
    name = re.sub(r"\s*\(.*\)\s*$", "", text or "").strip()
    return "" if name == "unconfined" else name


def kernel_version(text: str) -> Version:
    """``6.12.107+deb13-amd64`` to (6, 12, 107): the upstream version, without the distribution's part."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].rstrip(".") or "it says nothing"


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version) if version else "none"
