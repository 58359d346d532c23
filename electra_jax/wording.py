"""Numbers as text."""


def duration(seconds: float) -> str:
    """A length of time as text: 48 s, 7 min 05 s, 3 h 20 min, 12 days."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 2 * 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds / 86400:.0f} days"


def quantity(number: float) -> str:
    """A large number as text: 950, 13.5 M, 2.1 G."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.3g}"
