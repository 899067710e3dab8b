"""Numbers as people say them."""

from __future__ import annotations


def size(number: int) -> str:
    """Bytes as people say them: 512 B, 3.2 KiB, 390 MiB."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5 or unit == "TiB":
            return (
                f"{value:.0f} {unit}"
                if unit == "B" or abs(value) >= 99.5
                else f"{value:.1f} {unit}"
            )
        value /= 1024
    raise AssertionError  # the last unit has returned
