"""The parts of Trove's configuration that say where guests get their containers."""
