"""Hashed word features: a vector that says which words a text has, without a model and without a vocabulary.

Each word is hashed; the hash chooses one of the dimensions and a sign. Texts that share words get similar vectors,
and that is all: nothing here understands anything. It stands in for the model that a real pipeline would call.
"""
import functools
import math
import re
import zlib

DIMENSIONS = 128
WORD = re.compile(r"\w+")


@functools.lru_cache(maxsize=100_000)
def place(word):
    """The dimension and the sign of a word. crc32, because Python's own hash differs from process to process."""
    hashed = zlib.crc32(word.encode())
    return hashed % DIMENSIONS, 1.0 if hashed & 0x80000000 else -1.0


def features(text):
    """The vector of a text, of length 1 (or 0 for a text without words)."""
    vector = [0.0] * DIMENSIONS
    for word in WORD.findall(text.lower()):
        dimension, sign = place(word)
        vector[dimension] += sign
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [round(x / length, 6) for x in vector]
