"""The stages of a build: base, agent, disk, formats; one module each."""
