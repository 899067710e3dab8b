"""The guest agent: its series, its lock files, its source, and the wheels it is installed from.

`source.resolve_agent` names exactly what will be installed, `wheels.collect` brings
together the files; no code of any package runs on the host.
"""
