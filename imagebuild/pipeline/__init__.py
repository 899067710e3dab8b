"""Nightly runs: mirror → build → verify → upload → promote → retire, for a matrix of images.

    file ─loading─▶ Pipeline ─cells─▶ cells ─engine─▶ RunReport ─reporting─▶ report.*

Each phase is a command line of this tool (`commands`), run as a process of its own: what a
pipeline does, anybody can do by hand. It has no state of its own: what a phase has done is in
the artifact, the store and the cloud, and each verb sees by itself what is left to do.
"""
