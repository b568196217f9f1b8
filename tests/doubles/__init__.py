# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the world around the controller's code: an API, nodes, a clock. Handed in, never patched in."""
