"""Configuration: what a profile may say, and how it is read."""
