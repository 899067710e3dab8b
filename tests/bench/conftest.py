"""The builds of the image tests are measured here, too."""

from tests.images.conftest import bookworm, jammy

__all__ = ["bookworm", "jammy"]
