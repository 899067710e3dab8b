"""Pipelines: engine, reports, exports, stages shared through a registry."""
