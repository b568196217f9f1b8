# SPDX-License-Identifier: Apache-2.0
"""Real servers that tests of stores talk to, each a process of its own on a loopback port."""
