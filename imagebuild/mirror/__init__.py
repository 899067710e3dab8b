"""Mirrors of container images: lists, plans, the copier, and what was found."""
