"""Cluster membership will live here. Nothing does yet; this package is a leaf and imports nothing of ours."""
