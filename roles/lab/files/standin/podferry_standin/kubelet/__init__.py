# SPDX-License-Identifier: Apache-2.0
"""The kubelet part: pods of one node over the real CRI. Runs on Debian 13's Python with its grpcio and protobuf."""
