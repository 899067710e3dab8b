"""Builds of Trove's backup container images."""
