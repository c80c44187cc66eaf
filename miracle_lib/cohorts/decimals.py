"""Rows of plain decimals, read eight digits at a time.

Nearly every cell of a methylation table is a short decimal such as ``0.8731``. Compiled for these,
reading a row takes half the time that a general parser needs; what is written in any other way is
reported, not guessed.
"""

from collections.abc import Sequence

import numpy as np
from numba import float32, int32, int64, njit, types, uint8, uint64

_QUOTE, _MINUS, _POINT, _ZERO = ord('"'), ord("-"), ord("."), ord("0")
_NEWLINE = ord("\n")
_WORD = 8  # bytes compared at a time
_POWERS = 10.0 ** np.arange(2 * _WORD + 1)


class DecimalRows:
    """Reads lines "name, decimal, decimal, ...".

    Parameters
    ----------
    delimiter : str
        One ASCII character.
    fields : sequence of int
        Which fields are read, in this order; field 0 is the name of the row.
    n_fields : int
        Fields per row, the name included.
    missing : sequence of str
        Cells that are missing values, besides the empty one; those of more than eight characters
        are reported like any other text.

    Examples
    --------
    >>> rows = DecimalRows("\\t", fields=[2, 1], n_fields=3, missing=["NA"])
    >>> values, names, offsets, odd = rows(b"cg01\\t0.25\\tNA\\ncg02\\t1e-3\\t0.5\\n", 2)
    >>> values[:, 0].tolist(), names.tobytes(), offsets.tolist(), odd.tolist()
    ([nan, 0.25], b'cg01', [0, 4, 4], [[1, 13, 27]])
    """

    def __init__(
        self, delimiter: str, fields: Sequence[int], n_fields: int, missing: Sequence[str]
    ) -> None:
        self._delimiter = np.uint8(ord(delimiter))
        self._row_of_field = np.full(n_fields, -1)
        self._row_of_field[list(fields)] = np.arange(len(fields))
        texts = [text.encode() for text in missing if 0 < len(text) <= _WORD]
        # Shifted to the end of a word, as what is compared with them is.
        shifted = [text.rjust(_WORD, b"\0") for text in texts]
        self._missing = np.array([int.from_bytes(text, "little") for text in shifted], np.uint64)
        self._lengths = np.array([len(text) for text in texts], np.int64)

    def __call__(
        self, lines: bytes, n_lines: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read whole lines; empty ones are passed over.

        Parameters
        ----------
        lines : bytes
            Ends with a newline.
        n_lines : int
            Number of newlines.

        Returns
        -------
        values : float32 ndarray, shape (n_fields_read, n_rows)
            NaN for missing; undefined in odd rows.
        names : uint8 ndarray
            The names one after the other, quotes taken off.
        offsets : int32 ndarray, shape (n_rows + 1,)
            Where each name starts and the last one ends; those of odd rows are empty.
        odd : int64 ndarray, shape (n_odd, 3)
            Rows with another number of fields or a cell that is neither plain decimal nor
            missing: number of the row, start and end of its line.
        """
        text = np.frombuffer(lines + bytes(2 * _WORD), np.uint8)
        words = np.ndarray(len(lines) + _WORD, np.uint64, text, strides=(1,))  # at every byte
        values = np.empty((int(self._row_of_field.max()) + 1, n_lines), np.float32)
        names = np.empty(len(lines), np.uint8)
        offsets = np.zeros(n_lines + 1, np.int32)
        odd = np.empty((n_lines, 3), np.int64)
        n_rows, n_odd = _read(
            text[: len(lines)],
            words,
            self._delimiter,
            self._row_of_field,
            self._missing,
            self._lengths,
            values,
            names,
            offsets,
            odd,
        )
        names = names[: offsets[n_rows]].copy()  # gives the rest of its memory back
        return values[:, :n_rows], names, offsets[: n_rows + 1], odd[:n_odd]


@njit(nogil=True)
def _beyond(n_characters):
    """Bits of a word beyond its first characters."""
    return uint64(64 - 8 * n_characters)


@njit(nogil=True)
def _count_digits(word):
    """Count the digits at the start of eight characters."""
    others = (word + uint64(0x4646464646464646)) | (word - uint64(0x3030303030303030))
    others &= uint64(0x8080808080808080)
    if others == 0:
        return _WORD
    first = (others & (~others + uint64(1))) >> uint64(7)
    return int64((first * uint64(0x0001020304050607)) >> uint64(56))


@njit(nogil=True)
def _number(word, n_digits):
    """Return the first digits of eight characters as a number.

    Neighbouring digits are added up to pairs, pairs to fours, fours to all eight.
    """
    if n_digits == 0:
        return 0.0
    word = (word << _beyond(n_digits)) & uint64(0x0F0F0F0F0F0F0F0F)
    word = (word * uint64(10 * 2**8 + 1)) >> uint64(8)
    word &= uint64(0x00FF00FF00FF00FF)
    word = (word * uint64(100 * 2**16 + 1)) >> uint64(16)
    word &= uint64(0x0000FFFF0000FFFF)
    word = (word * uint64(10000 * 2**32 + 1)) >> uint64(32)
    return float(int64(word))


@njit(nogil=True)
def _read_digits(word, following):
    """Count the digits, at most 16, at the start of two words; return them as a number too."""
    n_digits = _count_digits(word)
    number = _number(word, n_digits)
    if n_digits == _WORD:
        more = _count_digits(following)
        number = number * _POWERS[more] + _number(following, more)
        n_digits += more
    return n_digits, number


@njit(nogil=True)
def _is_digit(character):
    """Tell whether a character is one of 0 to 9."""
    return _ZERO <= character < _ZERO + 10


@njit(nogil=True)
def _missing_length(word, missing, lengths):
    """Length of the longest missing value that eight characters start with, or 0."""
    longest = 0
    for i in range(len(missing)):
        if lengths[i] > longest and word << _beyond(lengths[i]) == missing[i]:
            longest = lengths[i]
    return longest


@njit(nogil=True)
def _read_name(text, at, delimiter, names, named):
    """Copy a name; return where the next field starts, -1 if it is odd, and the names end."""
    quoted = text[at] == _QUOTE
    at += quoted
    while text[at] != delimiter and text[at] != _QUOTE:
        if text[at] == _NEWLINE or text[at] >= 128:
            return -1, named
        names[named] = text[at]
        at, named = at + 1, named + 1
    if quoted != (text[at] == _QUOTE):
        return -1, named
    at += quoted
    return (at + 1 if text[at] == delimiter else -1), named


_TEXT = types.Array(uint8, 1, "C", readonly=True)
_WORDS = types.Array(uint64, 1, "A", readonly=True, aligned=False)


# With its types given, it is compiled (once, then kept on disk) when this module is imported.
# Arrays are handed to functions once a row at most: counting references costs more than a cell.
@njit(
    types.UniTuple(int64, 2)(
        _TEXT,
        _WORDS,
        uint8,
        int64[::1],
        uint64[::1],
        int64[::1],
        float32[:, ::1],
        uint8[::1],
        int32[::1],
        int64[:, ::1],
    ),
    nogil=True,
    cache=True,
)
def _read(text, words, delimiter, row_of_field, missing, lengths, values, names, offsets, odd):
    """Read every line; return the number of rows and of odd ones."""
    at = n_rows = n_odd = named = 0
    while at < len(text):
        if text[at] == _NEWLINE:
            at += 1
            continue
        start, before = at, named
        at, named = _read_name(text, at, delimiter, names, named)
        field = 1
        while at > 0 and field < len(row_of_field):
            last = _NEWLINE if field == len(row_of_field) - 1 else delimiter
            end = at + (text[at] == _MINUS)
            value = np.nan
            if _is_digit(text[end]):
                value, end = float(text[end] - _ZERO), end + 1
                if text[end] == _POINT:
                    n_digits, digits = _read_digits(words[end + 1], words[end + 1 + _WORD])
                    value = (value * _POWERS[n_digits] + digits) / _POWERS[n_digits]
                    end += 1 + n_digits
                    while n_digits == 2 * _WORD and _is_digit(text[end]):  # beyond a double
                        end += 1
                if text[at] == _MINUS:
                    value = -value
            elif text[at] != last:
                end = at + _missing_length(words[at], missing, lengths)
            if row_of_field[field] >= 0:
                values[row_of_field[field], n_rows] = value
            at, field = (end + 1 if text[end] == last else -1), field + 1
        if at < 0:
            at, named = start, before
            while text[at] != _NEWLINE:
                at += 1
            at += 1
            odd[n_odd] = n_rows, start, at
            n_odd += 1
        n_rows += 1
        offsets[n_rows] = named
    return n_rows, n_odd
