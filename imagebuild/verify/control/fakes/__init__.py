"""The cloud below the control plane: modules for Trove's own Python, not for the tool's.

`services` copies them to where only Trove's processes import them, as `imagebuild_fakes`.
"""
