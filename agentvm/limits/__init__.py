"""Limits: declared once in the catalogue, counted by gauges, collected by a registry."""
