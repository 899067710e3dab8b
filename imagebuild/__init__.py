"""imagebuild makes, proves, publishes and feeds the guest images of OpenStack Trove."""

__version__ = "0.1.0"
