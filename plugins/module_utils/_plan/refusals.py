# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Every reason to say no before a pod is touched, each with its remedy. ``docs/refusals.md`` is checked against this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One way to be refused. ``order`` of the table is the order in which a person reads them."""

    title: str
    remedy: str
    planned: bool = False


@dataclass(frozen=True)
class Refusal:
    """One reason against a migration. ``planned``: a later release is meant to lift it."""

    code: str
    reason: str
    remedy: str
    planned: bool

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "reason": self.reason, "remedy": self.remedy, "planned": self.planned}

    def __str__(self) -> str:
        planned = " (planned)" if self.planned else ""
        return f"[{self.code}]{planned} {self.reason} Remedy: {self.remedy}"


CATALOGUE: dict[str, Kind] = {
    # -- the question itself
    "pod_missing": Kind("The pod does not exist.", "Check the name and give namespace=."),
    "pod_ambiguous": Kind("More than one pod fits.", "Name one of them with pod=."),
    "pod_not_running": Kind(
        "The pod is not running.", "Wait until it runs; a pod that does not run is simply scheduled anew."
    ),
    "pod_unassigned": Kind("The pod has no node or no container yet.", "Wait until the kubelet has started it."),
    "target_missing": Kind("The target is not a node of the cluster.", "Give target= as 'kubectl get nodes' shows it."),
    "target_not_ready": Kind("The target node is not Ready.", "Bring the node back, or choose another."),
    "target_unschedulable": Kind("The target node is cordoned.", "kubectl uncordon the node, or choose another."),
    "target_taint": Kind(
        "The target has a taint that the pod does not tolerate.",
        "Remove the taint, add a toleration, or choose another node.",
    ),
    "target_affinity": Kind(
        "The pod's node selector or required node affinity excludes the target.",
        "Label the node accordingly, or change the constraint in the pod's template and roll it out first.",
    ),
    "target_capacity": Kind(
        "The target cannot hold the pod's resource requests.", "Free resources there, or choose another node."
    ),
    "target_pod_affinity": Kind(
        "Pods on the target or in its zone exclude the pod, or those that it must be with are not there (required pod affinity or anti-affinity).",
        "Choose another node, or make the rule a preference in the template and roll it out first.",
    ),
    "target_topology_spread": Kind(
        "On the target the pods would be spread more unevenly than a constraint with DoNotSchedule allows.",
        "Choose another node, or use ScheduleAnyway in the template and roll it out first.",
    ),
    "no_target": Kind(
        "No node of the cluster can take the pod.",
        "See the reasons of each node; make room on one of them, or give target=.",
    ),
    "source_not_ready": Kind(
        "The source node is not Ready.", "Bring the node back: without its kubelet the pod's end cannot be seen."
    ),
    "node_not_in_inventory": Kind(
        "No inventory host stands for the node.",
        "Add the host to the inventory; when its inventory name is not the node's name, set podferry_node_name for it.",
    ),
    "node_ambiguous_in_inventory": Kind(
        "More than one inventory host claims the node.", "Let exactly one host have this podferry_node_name (or name)."
    ),
    "node_unreachable": Kind(
        "No session to the node can be opened.",
        "Check that 'ansible HOST -m ping --become' works, and run playbooks/bootstrap.yml.",
    ),
    "migration_under_way": Kind(
        "Another migration of this pod is under way, or a checkpoint of it is being taken or stored.",
        "Wait for its end, or stop it with playbooks/cancel.yml. If its controller is gone, its ferries give up within a minute: "
        "then run this play again, it cleans up or goes on.",
    ),
    "name_taken": Kind(
        "The target pod's name is taken by a pod that is not this pod's twin.",
        "Delete or rename that pod, or run again for another name.",
    ),
    # -- owners and names
    "owner": Kind(
        "The pod's owner is of a kind that podferry does not know (mostly an operator's own).",
        "Use what the operator offers, or recreate the pod on the other node. Pods of nobody, a ReplicaSet, a Deployment or a StatefulSet can move.",
    ),
    "owners_several": Kind(
        "The pod has more than one owner.", "Let the pod have one owner: only its controller adopts the moved pod."
    ),
    "owner_job": Kind(
        "A Job (also one of a CronJob) would count the moved pod as failed and start another.",
        "Let the Job finish, or suspend it and run it on the other node.",
    ),
    "owner_daemonset": Kind(
        "A DaemonSet has one pod for each node: there is nothing to move.",
        "Nothing to do: the DaemonSet starts its own pod on the target, if it wants one there.",
    ),
    "owner_gone": Kind(
        "The pod's owner does not exist any more, or is being deleted.",
        "Wait for the garbage collector, which will delete the pod.",
    ),
    "owner_not_stable": Kind(
        "The pod's owner is being scaled or rolled out, one of its other pods is not Ready, or it does not select the pod (waited for, 15 s).",
        "Wait for 'kubectl rollout status', then run again.",
    ),
    "deletion_cost": Kind(
        "A pod of the ReplicaSet has a deletion cost as low as the one that makes it give up the source.",
        "Raise its annotation controller.kubernetes.io/pod-deletion-cost above -2147483647; if another migration has set it, wait for its end.",
    ),
    "keep_with_copy": Kind(
        "Two pods cannot have one name.", "Use name=new or name=auto: a copy has a name of its own."
    ),
    "copy_same_node": Kind("A copy would run on the source's own node.", "Choose another target."),
    "keep_with_replicaset": Kind(
        "A pod of a ReplicaSet cannot keep its name.",
        "Use name=new or name=auto: deleting the source first would make the ReplicaSet start a fresh pod.",
    ),
    "new_with_statefulset": Kind(
        "A pod of a StatefulSet must keep its name.",
        "Use name=keep or name=auto: its name is its identity and its ordinal.",
    ),
    "statefulset_away": Kind(
        "The pod's StatefulSet is not there: a run that moves one of its pods has taken it away for that time, or somebody has deleted it.",
        "Wait for that run, or run it again if it was broken off (docs/failures.md has the way by hand). "
        "If the pod shall stay without one, remove its label statefulset.kubernetes.io/pod-name.",
    ),
    "statefulset_revision": Kind(
        "Not all pods of the StatefulSet are of its last revision: created again, it would replace the others.",
        "Finish the rolling update: set the partition to 0, or delete the old pods one by one with OnDelete.",
    ),
    "statefulset_claims": Kind(
        "The StatefulSet's volume claims are deleted with it (persistentVolumeClaimRetentionPolicy.whenDeleted: Delete), and it is deleted for the move.",
        "Set whenDeleted to Retain: kubectl patch does it without a restart.",
    ),
    "statefulset_finalizers": Kind(
        "A finalizer keeps the StatefulSet's name after its deletion, and so it cannot be created again.",
        "Let the finalizer's owner remove it first.",
    ),
    "statefulset_size": Kind(
        "The StatefulSet is too large to be kept in the journals of a run.",
        "Make it smaller: mostly the annotation kubectl.kubernetes.io/last-applied-configuration, or long scripts in its template.",
    ),
    "disruption_budget": Kind(
        "A PodDisruptionBudget allows no disruption now, and a pod that keeps its name is away for the time of its freeze.",
        "Wait until the budget's other pods are healthy, or give it room.",
    ),
    "readiness_gates": Kind(
        "The pod's readiness gates wait for a controller that finds the target by labels, which it gets when it is Ready.",
        "Use name=keep for a pod of nobody; let a ReplicaSet belong to a Deployment, whose pod-template-hash tells its pods from a Service's.",
    ),
    "static_pod": Kind("A static pod belongs to its node's kubelet.", "Move its manifest file instead."),
    "finalizers": Kind(
        "Somebody's finalizer keeps the pod's name after its deletion, and so its successor from coming.",
        "Let the finalizer's owner remove it first, or use name=new: the source then stays Terminating until it is removed.",
    ),
    # -- the pod's specification
    "init_containers": Kind(
        "An init container has not finished.", "Wait until the pod's containers run; init containers are not run again."
    ),
    "sidecar_probe": Kind(
        "A sidecar's startup probe cannot succeed while it stands frozen, and nothing after it would start.",
        "Use a tcpSocket startupProbe, or none: what comes after the sidecar has started long ago.",
    ),
    "ephemeral_containers": Kind(
        "An ephemeral (debug) container is part of the pod.",
        "Recreate the pod without it: it cannot be removed from a pod.",
    ),
    "post_start": Kind(
        "A postStart hook would run a second time on the target.",
        "Only hooks of kind exec are kept from running again: use one, or none.",
    ),
    "terminal": Kind("A container has a terminal (tty) or stdin.", "Set tty and stdin to false.", planned=True),
    "host_network": Kind(
        "The pod uses the host's network.", "Use the pod network: the state of host sockets stays with the host."
    ),
    "host_pid": Kind("The pod uses the host's process namespace.", "Set hostPID to false."),
    "host_ipc": Kind("The pod uses the host's IPC namespace.", "Set hostIPC to false."),
    "host_port": Kind("A container has a hostPort.", "Use a Service instead.", planned=True),
    "host_path": Kind(
        "A hostPath volume, or another mount from the node, belongs to its node.",
        "Use a volume that both nodes can reach.",
        planned=True,
    ),
    "shared_process_namespace": Kind(
        "The containers share one process namespace.", "Set shareProcessNamespace to false.", planned=True
    ),
    "user_namespace": Kind("The pod has a user namespace.", "Set hostUsers to true.", planned=True),
    "privileged": Kind("A container is privileged.", "Drop privileged: it reaches devices that stay with the node."),
    "device": Kind("The pod uses devices or dynamic resources of its node.", "Only pods without devices can move."),
    "runtime_class": Kind(
        "The pod runs under a RuntimeClass that is not plain runc or crun.",
        "Only the default handler (runc, crun) and podferry's are supported.",
        planned=True,
    ),
    "volume": Kind(
        "A volume is of a type that is not carried.",
        "Carried: emptyDir, ReadWriteMany and ReadOnlyMany claims, nfs, configMap, secret, downwardAPI, "
        "projected (service-account token, ConfigMap, Secret, downwardAPI).",
    ),
    "volume_access": Kind(
        "A claim's volume can be mounted by one node only.",
        "Use a volume with access mode ReadWriteMany: during the move both nodes have it mounted.",
        planned=True,
    ),
    "volume_affinity": Kind(
        "A claim's volume cannot be mounted by the target (its node affinity).",
        "Choose a node that the PersistentVolume's node affinity names, or use a volume that all nodes reach.",
    ),
    "volume_mount": Kind("A volume is mounted in a way that is not carried.", "Mount it without mountPropagation."),
    "localhost_profile": Kind(
        "A seccomp profile is a file of its node.", "Use RuntimeDefault or Unconfined.", planned=True
    ),
    "extra_networks": Kind(
        "The pod has more networks than the pod network.", "Remove the additional networks.", planned=True
    ),
    "fixed_address": Kind(
        "The pod has an address by its user's choice, which a twin or a copy cannot have beside its source.",
        "Use name=keep for a pod of nobody; else take the annotation out of the owner's template and roll it out first.",
    ),
    "spec_field": Kind(
        "The pod uses a feature that is not on the list of accepted ones.",
        "Remove it from the pod, or recreate the pod.",
        planned=True,
    ),
    # -- the nodes
    "container_engine": Kind(
        "A node runs a container engine that is not known.",
        "Only containerd and CRI-O are: choose a node that runs one of them.",
    ),
    "engine_annotation": Kind(
        "The nodes run different container engines, and the pod has annotations that only one of them obeys.",
        "Choose a target with the same engine, or recreate the pod without these annotations.",
    ),
    "engine_missing": Kind("podferry's node code is not installed.", "Run playbooks/bootstrap.yml for the node."),
    "engine_version": Kind(
        "A node has podferry's code of another version.", "Run playbooks/bootstrap.yml for both nodes."
    ),
    "handler_missing": Kind("The runtime handler podferry is not there.", "Run playbooks/bootstrap.yml for the node."),
    "runtime_class_missing": Kind(
        "The cluster has no RuntimeClass podferry, or a foreign one.", "Run playbooks/bootstrap.yml: it creates it."
    ),
    "criu_old": Kind(
        "CRIU is absent, too old or does not work.",
        "Install CRIU 4.1.1 or later (playbooks/bootstrap.yml) and see 'criu check'.",
    ),
    "no_age": Kind(
        "A node lacks age, which encrypts what goes through a store.",
        "Install the package age on both nodes (playbooks/bootstrap.yml does, on Debian and Ubuntu), or use transfer=stream.",
    ),
    "runc_old": Kind(
        "runc is absent or too old.", "Install runc 1.2 or later on nodes with cgroup v2 (1.1 does on v1)."
    ),
    "crun_old": Kind(
        "crun is too old, was built without CRIU, or lacks its library.",
        "Install crun 1.21 or later that lists +CRIU, and libcriu.so.2 (Debian: libcriu2); or let the pod run under runc.",
    ),
    "cgroup_version": Kind(
        "The nodes have different cgroup versions.", "Choose a target with the same cgroup version."
    ),
    "architecture": Kind(
        "The nodes have different processor architectures.", "Choose a target of the source's architecture."
    ),
    "cpu_features": Kind(
        "The target's processor lacks features that the source has.",
        "Choose a target with at least the source's features: programs pick their code by them at start.",
    ),
    "kernel_older": Kind(
        "The target's kernel is older than the source's.", "Update the target's kernel, or choose another target."
    ),
    "time_namespaces": Kind(
        "The target's kernel has no time namespaces: the monotonic clock would jump.",
        "Choose a target whose kernel has CONFIG_TIME_NS.",
    ),
    "image_missing": Kind(
        "The pod's image is not on the target and cannot be pulled there.",
        "Put exactly this image (same digest) onto the target, under the name that the pod gives it.",
    ),
    "security_profile": Kind(
        "The target lacks the pod's AppArmor or SELinux confinement.",
        "Load the profile on the target, or choose another target.",
    ),
    "memory": Kind(
        "A node has too little free memory: the dump is held in memory on both.",
        "Free memory there, or choose another target.",
    ),
    "disk": Kind(
        "A node has too little free disk for the copies of the pod's files.",
        "Free space in /var/lib there, or choose another target.",
    ),
    "freeze_too_long": Kind(
        "The restore would not fit into the time that the target's kubelet gives the runtime.",
        "Raise the kubelet's runtimeRequestTimeout on the target, or make the pod smaller.",
    ),
    "liveness": Kind(
        "The freeze may outlast what the pod's HTTP or gRPC probe survives.",
        "Raise failureThreshold or periodSeconds of the probe: (failureThreshold-1) x periodSeconds - timeoutSeconds must exceed the freeze, "
        "and for a pod that gets a new name also the time until the target is Ready (initialDelaySeconds + successThreshold x periodSeconds "
        "of its startup and readiness probes, and 1.5 s).",
    ),
    # -- what runs inside
    "not_in_runtime": Kind(
        "The node does not know the pod's container as the API does.",
        "Wait a moment and run again; if it stays, look at the node's kubelet.",
    ),
    "frozen": Kind("The container is already frozen (paused).", "Resume it, or finish whoever paused it."),
    "rootfs": Kind(
        "The container's root file system is not an overlay: its changes cannot be told from its image.",
        "Use the overlay snapshotter (containerd) or storage driver (CRI-O).",
        planned=True,
    ),
    "exec_process": Kind(
        "Processes were entered from outside (kubectl exec).",
        "End the exec sessions: their pipes lead to a program that stays.",
    ),
    "io_uring": Kind(
        "A process uses io_uring, which CRIU cannot dump.",
        "Switch it off in the program (e.g. kernel.io_uring_disabled, UV_USE_IO_URING=0).",
    ),
    "sysv_ipc": Kind(
        "System V memory is attached in more than one container.",
        "Use POSIX shared memory (/dev/shm) between containers.",
    ),
    "unix_socket": Kind(
        "A unix socket joins containers in a way that cannot be carried: one socket open in two of them, more than 200 connections, an end outside the pod.",
        "Let the containers talk over TCP on the pod's loopback, or close the socket before moving.",
    ),
    "user_ns_inside": Kind("The container has a user namespace.", "Set hostUsers to true.", planned=True),
    "tcp_established": Kind(
        "There are established TCP connections, and tcp=refuse was asked for.",
        "Use tcp=close, or close the connections first.",
    ),
    "socket_pod_ip": Kind(
        "A socket is bound to the pod's IP, which changes.", "Let the program listen on 0.0.0.0 or ::.", planned=True
    ),
    "udp_connected": Kind(
        "A connected UDP socket remembers the pod's IP, which changes.",
        "Let the program send without connecting.",
        planned=True,
    ),
    "socket_unlistable": Kind("A socket is of a kind that cannot be carried.", "Close it before moving.", planned=True),
    "open_volume_file": Kind(
        "/etc/hosts, /etc/hostname, /etc/resolv.conf or the termination log is open.",
        "Close it: these are other files on the target.",
        planned=True,
    ),
    # -- what others say
    "admission": Kind(
        "The API refuses the target pod (server-side dry run).", "See the API's words: quota, admission policy or RBAC."
    ),
    "ferry_unreachable": Kind(
        "The source node cannot reach the ferry on the target node.",
        "Open the ferry ports (podferry_ports, TCP) between the nodes, or set podferry_address for the target host.",
    ),
}

_ORDER = {code: index for index, code in enumerate(CATALOGUE)}


def refuse(code: str, reason: str, *, remedy: str = "", planned: bool | None = None) -> Refusal:
    """A refusal of the catalogue; ``reason`` is this case's own sentence, ``remedy`` replaces the general one."""
    kind = CATALOGUE[code]
    return Refusal(code, reason.rstrip(". ") + ".", remedy or kind.remedy, kind.planned if planned is None else planned)


def ordered(refusals: list[Refusal]) -> list[Refusal]:
    """Without repetitions, in the order of the catalogue (what is found twice is said once)."""
    unique = list(dict.fromkeys(refusals))
    return sorted(unique, key=lambda r: _ORDER[r.code])
