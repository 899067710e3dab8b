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


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 05 s."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s"
