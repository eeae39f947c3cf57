"""Money as people read it."""


def usd(micros: int) -> str:
    """An amount for people: two decimals, and more only where there are any."""
    whole, rest = divmod(micros, 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{decimals} USD"
