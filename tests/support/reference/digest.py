"""The hash of an item's id that breaks ties: FNV-1a over the code points, then the finalizer of
MurmurHash3, 63 bits of it. One character at a time, in Python's whole numbers."""

_MASK = (1 << 64) - 1


def digest(text: str) -> int:
    """The hash of a text, never negative."""
    hashed = 0xCBF29CE484222325
    for character in text:
        hashed = ((hashed ^ ord(character)) * 0x100000001B3) & _MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashed = ((hashed ^ (hashed >> 33)) * factor) & _MASK
    return (hashed ^ (hashed >> 33)) & (_MASK >> 1)
