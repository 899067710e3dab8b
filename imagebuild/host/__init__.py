"""The host: processes, privileges, scratch space, locks and preflight checks."""
