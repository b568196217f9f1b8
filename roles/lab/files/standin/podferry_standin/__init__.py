# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Kubernetes in podferry's lab: an API server with its controllers, and a kubelet over a real CRI.

It answers as the recordings in ``tests/fixtures/kubernetes-facts`` do, and calls itself a stand-in in
``/version``. It is a test double: it is for the lab's own network and for nothing else.
"""

VERSION = "v1.36.2-podferry-standin"
