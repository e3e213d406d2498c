"""Demand that was recorded: a CSV by date and location is read, split by time, and drawn from in blocks.

Training, tuning and validation scenarios draw from its earlier part, all other held-out ones from its later part: so
nothing is judged on what chose it. An episode strings together blocks of consecutive periods, all locations together:
what happens within a block, and at the same time elsewhere, stays as it was (a block bootstrap).

Source: Künsch (1989), The jackknife and the bootstrap for general stationary observations.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from ..config import Model, validated

MOST_BYTES, MOST_LOCATIONS, MOST_PERIODS, LARGEST = 50_000_000, 100, 20_000, 1e9  # of a file, a record, a number
MOST_DAYS = 40_000  # from the first date to the last: more than a century, or a typing error
YEAR, WINDOW = 365.25, 21  # days; a block of a yearly record is from at most three weeks before or after its date
PLAIN: dict = {"noise": {}, "direct": 0, "variation": 0, "floor": 0, "season": None, "week": None, "shock": None}
LONG = ["date", "location", "demand"]
NUMBER = "expected a number from 0 to 1e9 (1000, not 1.000), decimals after a point; 0 if nothing was asked for"
GROUPED = r"[1-9]\d{0,2}(?:\.\d{3})+"  # 4.300: beside whole numbers of fewer digits, and no other decimals, it is 4300


class Record(Model):
    """Where recorded demand is, and how scenarios are drawn from it."""

    file: str = Field(description="CSV of demand by date and location; if not absolute, beside the YAML file")
    block: int = Field(28, ge=1, le=1_000, description="consecutive periods that stay together")
    past: float = Field(0.6, ge=0.1, le=0.9, description="share of the record that is tuned on: its beginning")
    yearly: bool = Field(False, description="blocks keep their time of the year, not only their day of the week")


class Table(NamedTuple):
    """A record that was checked: regular dates, one number a date and location."""

    dates: pd.DatetimeIndex
    locations: tuple[str, ...]
    units: np.ndarray  # (periods, R)
    week: int  # periods of a week; 1 if a period is a week or longer

    @property
    def year(self) -> float:
        """Periods of a year."""
        return YEAR * (len(self.dates) - 1) / (self.dates[-1] - self.dates[0]).days

    def ordered(self, locations: Sequence[str]) -> "Table":
        """The same with its locations in that order."""
        return self._replace(locations=tuple(locations), units=self.units[:, [*map(self.locations.index, locations)]])

    def cut(self, record: Record) -> int:
        """The first period of the later part."""
        return int(record.past * len(self.dates))


def read(path: str | Path) -> Table:
    """Read a record.

    Args:
        path: of a CSV, separated by commas, semicolons or tabs: the columns ``date``, ``location`` and ``demand``; or
            ``date`` and a column a location. A date a day, weekday, week or month, as 2024-03-01.

    Raises:
        ValueError: names file, row and column of what is wrong: a date that is missing or twice there, text, a negative
            number, an empty cell; or says that the file is too large.
    """
    path = Path(path)
    try:
        stamp = path.stat()
        return _read(path, stamp.st_mtime_ns, stamp.st_size)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: cannot be read as CSV: {str(error).strip()}") from None


@lru_cache(maxsize=8)
def _read(path: Path, _: int, size: int) -> Table:
    if size > MOST_BYTES or not path.is_file():
        raise ValueError(f"{path}: expected a file of at most {MOST_BYTES:,} bytes")
    first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    cells = pd.read_csv(
        path, sep=max(",;\t", key=first.count), header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig",
        skip_blank_lines=False,
    )  # fmt: skip
    cells = cells.fillna("").apply(lambda column: column.str.strip()).set_axis(range(1, len(cells) + 1))
    cells = cells[cells.ne("").any(axis=1)]
    if len(cells) < 2:
        raise ValueError(f"{path}: expected a header and rows below it")
    header = [name.strip() for name in cells.iloc[0]]
    if "date" not in header or len(header) < 2 or "" in header or len(set(header)) < len(header):
        expected = f"expected {', '.join(LONG)}; or date, then one column a location"
        raise ValueError(f"{path}: row 1: {expected}; got {', '.join(header)[:100]}")
    body = cells.iloc[1:].set_axis(header, axis=1)
    if not (is_long := set(header) == set(LONG)):  # a location may be called `demand`; and row by row again
        body = body.melt("date", value_name="", ignore_index=False).set_axis(LONG, axis=1).sort_index(kind="stable")
    dates = pd.to_datetime(body["date"], format="%Y-%m-%d", errors="coerce")
    _refuse(path, body, dates.isna(), "date", "expected a date such as 2024-03-01")
    _refuse(path, body, body["location"] == "", "location", "expected a name")
    dotted, grouped = body["demand"].str.contains(".", regex=False), body["demand"].str.fullmatch(GROUPED)
    units = pd.to_numeric(body["demand"], errors="coerce").mask(grouped & dotted.equals(grouped) & (not dotted.all()))
    _refuse(path, body, ~units.between(0, LARGEST), "demand" if is_long else None, NUMBER)
    return _table(path, body.assign(date=dates, demand=units))


def _refuse(path: Path, body: pd.DataFrame, wrong: pd.Series, column: str | None, expected: str) -> None:
    """Raise for the first wrong row; without a column, the wrong cell is in that of the row's location."""
    if wrong.any():
        row = body.assign(number=body.index)[wrong.to_numpy()].iloc[0]
        cell = row[column or "demand"][:40]
        raise ValueError(f"{path}: row {row['number']}, column {column or row['location']}: {expected}; got {cell!r}")


def _table(path: Path, body: pd.DataFrame) -> Table:
    """Arrange checked rows by date and location; refuse what is missing or twice there."""
    if (twice := body.duplicated(["date", "location"]).to_numpy()).any():
        row = body.iloc[twice.argmax()]
        raise ValueError(f"{path}: row {row.name}: {row['date']:%Y-%m-%d} is there twice for {row['location']}")
    locations = tuple(body["location"].drop_duplicates())
    dates = pd.DatetimeIndex(body["date"].drop_duplicates().sort_values())
    if len(locations) > MOST_LOCATIONS or len(dates) > MOST_PERIODS:
        most = f"at most {MOST_LOCATIONS} locations and {MOST_PERIODS:,} dates"
        raise ValueError(f"{path}: expected {most}, got {len(locations)} and {len(dates):,}")
    regular, week = _regular(path, dates)
    whole = pd.MultiIndex.from_product([regular, locations])
    units = body.set_index(["date", "location"])["demand"].reindex(whole)
    if absent := int(units.isna().sum()):
        date, location = whole[int(units.isna().argmax())]
        more = f" (and {absent - 1:,} more)" if absent > 1 else ""
        raise ValueError(f"{path}: no demand on {date:%Y-%m-%d} at {location}{more}: write 0 if nothing was asked for")
    table = units.to_numpy(float).reshape(len(regular), -1)
    if len(locations) > 2 and (sums := np.isclose(2 * table, table.sum(1, keepdims=True), atol=0).all(0)).any():
        raise ValueError(f"{path}: {locations[sums.argmax()]} is the sum of all other locations: leave it out")
    return Table(regular, locations, table, week)


def _regular(path: Path, dates: pd.DatetimeIndex) -> tuple[pd.DatetimeIndex, int]:
    """All dates from the first to the last that a regular record has, and its periods in a week."""
    gaps = np.diff(dates.to_numpy()).astype("timedelta64[D]").astype(int)
    usual = int(np.bincount(gaps).argmax()) if len(gaps) else 0
    day, month = "B" if (dates.day_of_week < 5).all() else "D", "MS" if dates[0].day == 1 else "ME"
    if (freq := {1: day, 7: "7D", **dict.fromkeys((28, 29, 30, 31), month)}.get(usual)) is None:
        raise ValueError(f"{path}: expected a date a day, weekday, week or month; the usual step is {usual} days")
    if (dates[-1] - dates[0]).days > MOST_DAYS:
        raise ValueError(f"{path}: from {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}: at most {MOST_DAYS:,} days")
    regular = pd.date_range(dates[0], dates[-1], freq=freq)
    if len(odd := dates.difference(regular)):
        raise ValueError(f"{path}: {odd[0]:%Y-%m-%d} does not fit: steps are {usual} days; a month's first or last")
    return regular, {"D": 7, "B": 5}.get(freq, 1)


def filled(values: Mapping[str, Any], path: Path, count: str) -> dict[str, Any]:
    """Fill in what a chain's demand follows from its record; without a record, all stays as it is.

    The record, beside the YAML file ``path``, takes the place of everything else in ``demand``: mean by location, day
    of the week and (if ``yearly``) season are those of its earlier part. The number of locations, whose key is
    ``count``, and their names are the record's, if not given.

    Raises:
        ValueError: if the record is wrong, does not fit the locations, or has no demand somewhere.
    """
    demand = values.get("demand")
    if not isinstance(demand, Mapping) or demand.get("record") is None:
        return dict(values)
    if not isinstance(demand["record"], Mapping):
        raise ValueError(f"{path.name}: demand.record: expected a mapping with the key file, got {demand['record']!r}")
    given = {key: str(value) if isinstance(value, Path) else value for key, value in demand["record"].items()}
    record: Record = validated(Record, given, f"{path.name}: demand.record")
    record = record.model_copy(update={"file": str(path.parent / record.file)})
    table = read(record.file)
    names = values.get("locations") or table.locations
    kinds = pd.json_normalize({**values, "demand": None, "order_options": None}).map(type).iloc[0]
    if names is table.locations and len(names) > 1 and (lists := [*kinds.index[kinds.isin([list, tuple])]]):
        raise ValueError(f"{path.name}: {lists[0]} is a list: give locations in its order: they are {', '.join(names)}")
    if not isinstance(names, list | tuple) or sorted(map(str, names)) != sorted(table.locations):
        raise ValueError(f"{record.file}: its locations are {', '.join(table.locations)}; {path.name} has {names!r}")
    names = tuple(map(str, names))  # YAML reads 101 as a number
    if values.get(count, len(names)) != len(names):
        found = f"{len(names)} locations ({', '.join(names)})"
        raise ValueError(f"{record.file}: {found}, but {path.name} has {count}: {values[count]!r}")
    described = {**demand, **PLAIN, **_described(table.ordered(names), record)}  # unknown keys stay, to be refused
    return {**values, count: len(names), "locations": names, "demand": described}


def _described(table: Table, record: Record) -> dict[str, Any]:
    """What the earlier part of a record says of demand: the parameters of `Demand`."""
    past = table.units[: table.cut(record)]
    means = past.mean(0) if len(past) else np.zeros(len(table.locations))
    if not means.all():
        nothing = table.locations[int(np.argmin(means))]
        raise ValueError(f"{record.file}: no demand at {nothing} in the earlier part ({len(past)} periods)")
    found: dict[str, Any] = {"distribution": "recorded", "mean": tuple(means.tolist()), "record": record.model_dump()}
    total, now = past.sum(1) / means.sum(), np.arange(len(past))
    if table.week > 1 and len(past) >= table.week:
        factors = np.array([total[day :: table.week].mean() for day in range(table.week)])
        found["week"] = tuple((factors / factors.mean()).tolist())
        total = total - (factors / factors.mean() - 1)[now % table.week]
    if record.yearly:
        angle = 2 * np.pi * now / table.year
        wave = np.stack([np.ones(len(now)), np.sin(angle), np.cos(angle)], 1)
        _, sine, cosine = np.linalg.lstsq(wave, total, rcond=None)[0]
        phase = float(np.arctan2(cosine, sine) * table.year / (2 * np.pi))
        found["season"] = {"amplitude": float(np.hypot(sine, cosine)), "period": table.year, "phase": phase}
    return found


class Sampler:
    """Draws episodes of a record, in blocks.

    A block keeps its day of the week: period 0 of an episode falls on that of the record's first date. If ``yearly``,
    it also keeps its time of the year, give or take `WINDOW` days. Where several places fit, each is equally likely.
    """

    def __init__(self, record: Record, locations: Sequence[str] | None, horizon: int) -> None:
        """Read the record; a ValueError if a part is so short that every episode would be the same."""
        table = read(record.file)
        self.table, self.record, self.horizon = table.ordered(locations or table.locations), record, horizon
        self._where = {later: self._places(later) for later in (False, True)}  # of each block, where it may begin

    def _places(self, later: bool) -> list[np.ndarray]:
        table, record, found = self.table, self.record, []
        cut = table.cut(record)
        first, last = (cut, len(table.dates)) if later else (0, cut)
        begin = np.arange(first, last - record.block + 1)
        for period in range(0, self.horizon, record.block):
            fits = (begin - period) % table.week == 0
            if record.yearly:
                away = (begin - period + table.year / 2) % table.year - table.year / 2
                fits &= np.abs(away) <= WINDOW * table.year / YEAR
            if fits.sum() < 2:
                part, whole = ("later" if later else "earlier"), " of its time of the year" if record.yearly else ""
                needs = f"fewer than two blocks of {record.block} periods{whole} for period {period} of an episode"
                hint = "shorten the block, or change past" + " or yearly" * record.yearly
                raise ValueError(f"{record.file}: its {part} part, {last - first} periods, has {needs}: {hint}")
            found.append(begin[fits])
        return found

    def draw(self, later: bool, seed: int, episodes: Iterable[int]) -> np.ndarray:
        """Draw episodes of a stream by number, from the later part or the earlier: units, ``(episodes, horizon, R)``.

        Each is the same whatever else is drawn. A seed of 2**32 or more is a ValueError.
        """
        if seed >= 2**32:  # NumPy would take the rest of it for the episode
            raise ValueError(f"seed must be below 2**32 where demand is recorded, got {seed}")
        drawn, block = [], np.arange(self.record.block)
        for episode in episodes:
            generator = np.random.default_rng([seed, episode])
            begin = [places[generator.integers(len(places))] for places in self._where[later]]
            drawn.append(self.table.units[np.add.outer(begin, block).ravel()[: self.horizon]])
        return np.stack(drawn)
