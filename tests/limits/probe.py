"""Drives the guest `probe` step by step: one line in, one answer out."""

from agentvm.doctor.probe import Probe

__all__ = ["Probe"]
