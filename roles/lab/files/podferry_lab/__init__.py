# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""The lab's own tool: Debian roots, machines made of namespaces, the wire between them, images.

Standard library only, so that the lab needs nothing but Python 3.9 and a few Debian packages on the host.
Every command prints one JSON object with ``changed``, which is what role ``lab`` reads.
"""
