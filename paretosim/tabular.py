"""Results as flat columns, as a pandas DataFrame where pandas is installed, and as HTML in a notebook.

A list of a row becomes numbered columns, from 1: `stages_s[1]`. Columns are those of `--csv`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from paretosim.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd

# A notebook asks the value itself how it looks, and what shows values stands above them all: so it is found by its name
# when it is asked for, as the package finds its public names.
_DISPLAY = "paretosim.notebook"


class Tabular:
    """A result of rows: what it is in a notebook and as a DataFrame follows from its `records`."""

    __slots__ = ()

    def records(self) -> list[dict[str, Any]]:
        """The rows as flat dictionaries of plain values, their names those of the columns of `--csv`."""
        raise NotImplementedError

    def to_dataframe(self) -> pd.DataFrame:
        """`records` as a pandas DataFrame; what a row does not have is missing.

        Raises
        ------
        BadInputError : pandas is not installed.
        """
        return data_frame(self.records())

    def _repr_html_(self) -> str:
        shown: str = import_module(_DISPLAY).as_html(self)
        return shown


def fields_of(row: msgspec.Struct) -> dict[str, Any]:
    """The row's fields as plain values, without those that are None."""
    fields: dict[str, Any] = msgspec.to_builtins(row)
    return {name: value for name, value in fields.items() if value is not None}


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with each list spread over numbered ones.

    >>> flat({"split": 3, "stages_s": [0.5, 0.25]})
    {'split': 3, 'stages_s[1]': 0.5, 'stages_s[2]': 0.25}
    """
    spread: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            spread |= {f"{name}[{index}]": entry for index, entry in enumerate(value, start=1)}
        else:
            spread[name] = value
    return spread


def flat_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each row `flat`, with the columns of the longest list of that name among them; what a row lacks is empty.

    Parameters
    ----------
    rows : all of the same names, and of lists under the same ones.

    >>> flat_rows([{"links_s": [0.5], "ties": 1}, {"links_s": [], "ties": 0}])
    [{'links_s[1]': 0.5, 'ties': 1}, {'links_s[1]': '', 'ties': 0}]
    """
    lists = {name for row in rows[:1] for name, value in row.items() if isinstance(value, list | tuple)}
    longest = {name: max(len(row[name]) for row in rows) for name in lists}
    return [
        flat({name: [*v, *[""] * (longest[name] - len(v))] if name in lists else v for name, v in row.items()})
        for row in rows
    ]


def data_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a DataFrame with an index from 0; what a row lacks is missing.

    Raises
    ------
    BadInputError : pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise BadInputError(
            "DataFrame: the package pandas is not installed; pip install pandas, or use the rows as they are"
        ) from error
    return pd.DataFrame([dict(row) for row in rows])
