"""What Excel does to tables: gene names become dates (1-Mar was MARCH1), text becomes UTF-16."""

import codecs
import re
from collections.abc import Iterable

from miracle_lib.errors import MiracleError

# Months that gene names began with.
_MONTHS = {2: "feb", 3: "mar", 4: "apr", 9: "sep", 10: "oct", 11: "nov", 12: "dec"}
_NAME = "|".join(_MONTHS.values())
_FORMS = re.compile(
    rf"(?P<day>\d{{1,2}})[-/ ](?P<month>{_NAME})([-/ ]\d{{2,4}})?"  # 1-Mar, 1-Mar-2023
    rf"|(?P<month_first>{_NAME})[-/ ](?P<day_last>\d{{1,2}})"  # Mar-01
    r"|\d{4}-(?P<number>\d\d)-(?P<day_of_number>\d\d)( 00:00:00)?",  # 2023-03-01
    re.IGNORECASE,
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_date(name: str) -> tuple[int, str] | None:
    """Give day and month of a name that Excel may have made; None for any other name.

    Parameters
    ----------
    name : str
        Such as "1-Mar", "Mar-01", "1-Mar-2023" or "2023-03-01".

    Returns
    -------
    tuple of int and str, or None
        The month as three small letters.

    References
    ----------
    Zeeberg et al. 2004, doi:10.1186/1471-2105-5-80.

    Examples
    --------
    >>> read_date("Sep-02"), read_date("SEPTIN2")
    ((2, 'sep'), None)
    """
    found = _FORMS.fullmatch(name)
    if found is None:
        return None
    day = found["day"] or found["day_last"] or found["day_of_number"]
    month = found["month"] or found["month_first"] or _MONTHS.get(int(found["number"] or 0))
    return (int(day), month.lower()) if month else None


def refuse_dates(names: Iterable[str], place: str) -> None:
    """Refuse gene names that Excel turned into dates.

    Parameters
    ----------
    names : iterable of str
        Gene names.
    place : str
        Where they stand, such as file and column.

    Raises
    ------
    MiracleError
        The first such name, with its place.
    """
    for name in names:
        if read_date(name) is not None:
            raise MiracleError(
                f"{place}: {name!r} is a gene name that Excel turned into a date; expected a gene "
                "symbol such as SEPTIN2 or MARCHF1."
            )


def refuse_utf16(start: bytes, name: str) -> None:
    """Refuse text in UTF-16, by its first two bytes.

    Parameters
    ----------
    start : bytes
        What the file begins with.
    name : str
        Its name.

    Raises
    ------
    MiracleError
        With what to do.

    Examples
    --------
    >>> refuse_utf16("id".encode(), "beta.txt")
    >>> refuse_utf16("id".encode("utf-16"), "beta.txt")
    Traceback (most recent call last):
    miracle_lib.errors.MiracleError: beta.txt is text in UTF-16, as Excel's "Unicode text" is; ...
    """
    if start.startswith(_UTF16):
        raise MiracleError(
            f'{name} is text in UTF-16, as Excel\'s "Unicode text" is; expected UTF-8: save it as '
            '"CSV UTF-8", or a workbook as .xlsx.'
        )
