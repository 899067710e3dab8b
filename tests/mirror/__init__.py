"""Mirrors of container images, against real registries and Trove's own code."""
