"""Where the rows of a data set come from: files, the hub, or a folder in its layout."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from urllib.request import getproxies

from prunebench.tasks.dataset_fields import value_of
from prunebench.tasks.errors import UserError, first_line, shown
from prunebench.tasks.rows import SUFFIXES, DataRow, is_data_file, rows_of
from prunebench.tasks.task_spec import BENCHMARKS, TaskSpec


@dataclass(frozen=True)
class DatasetRows:
    """The rows that a task is about. Relative paths start in ``folder``; ``data`` replaces what the task names."""

    spec: TaskSpec
    folder: Path
    data: Path | None = None

    @property
    def remote(self) -> bool:
        """Whether they have to be fetched: from the hub, or a file that is not shipped."""
        return self._not_shipped or (self.spec.dataset is not None and not self._source().exists())

    @property
    def stands_for(self) -> str | None:
        """The split that a single file stands for in place of data of several splits; None where there is no choice.

        The one that it is named after, else ``test``.
        """
        if self.data is None or not is_data_file(self.data) or len(self._named) < 2:
            return None
        stem = Path(self.data.name.removesuffix(".gz")).stem
        after = [name for name, part in self._named.items() if stem in (name, Path(part).stem)]
        return next(iter([*after, *(name for name in self._named if name == "test"), *self._named]))

    @property
    def _named(self) -> dict[str, str]:
        """The splits that have a file or a part of the data set of their own."""
        return {
            name: part for name, part in self.spec.splits.items() if isinstance(part, str) and not self.spec.split_field
        }

    @property
    def _not_shipped(self) -> bool:
        return self.data is None and self.spec.data is not None and self.folder == BENCHMARKS

    def __iter__(self) -> Iterator[tuple[str | None, DataRow]]:
        """(split, row) of all rows within the range; the split is None where it is shared out later."""
        spec = self.spec
        for split, rows in self._parts():
            for row in rows:
                if not self._within(row):
                    continue
                if spec.split_field is None:
                    yield split, row
                    continue
                value = str(value_of(row, (spec.split_field,), "split_field"))
                yield from ((name, row) for name, wanted in spec.splits.items() if wanted == value)

    def _parts(self) -> Iterator[tuple[str | None, Iterator[DataRow]]]:
        """The rows of each split that has files or a part of the data set of its own."""
        spec, named, data = self.spec, self._named, self.data
        if self._not_shipped:
            address = spec.homepage.replace("github.com", "raw.githubusercontent.com")
            raise UserError(
                f"task {spec.name}: its problems are not shipped; fetch {address}/{spec.revision}/{spec.data} and give "
                f"the file: --data {spec.name}=FILE"
            )
        if data is not None and is_data_file(data):
            yield self.stands_for or next(iter(named), None), rows_of(data)
        elif data is None and spec.data is None and spec.dataset is None:
            yield from ((name, rows_of(self.folder / file)) for name, file in named.items())
        elif spec.data is not None:
            places = [(data or self.folder) / name for name in (spec.data, Path(spec.data).name)]
            yield None, rows_of(next((place for place in places if place.is_file()), places[0]))
        else:
            parts: list[tuple[str | None, str]] = [*named.items()] or [(None, spec.part)]
            for name, part in parts:
                ends = [end + packed for packed in ("", ".gz") for end in SUFFIXES]
                places = [data / f"{part}{end}" for end in ends] if data is not None else []
                file = next((place for place in places if place.is_file()), None)
                yield name, self._hub_rows(part) if file is None else rows_of(file)

    def _within(self, row: DataRow) -> bool:
        for name, (low, high) in self.spec.between.items():
            value = value_of(row, (name,), "between")
            try:
                inside = low <= float(str(value)) <= high
            except ValueError as error:
                raise UserError(f"{row.where}: field '{name}' is {shown(value)}, where a number is wanted") from error
            if not inside:
                return False
        return all(
            re.fullmatch(pattern, str(value_of(row, (name,), "matching")))
            for name, pattern in self.spec.matching.items()
        )

    def _source(self) -> Path:
        """What stands for the data, else the folder beside the task that is the data set, else the id on the hub."""
        beside = self.folder / str(self.spec.dataset)
        return self.data or (beside if beside.is_dir() else Path(str(self.spec.dataset)))

    def _hub_rows(self, part: str) -> Iterator[DataRow]:
        """Rows of a data set on the hub, in its cache, or in a folder that is laid out like one."""
        from datasets import load_dataset
        from datasets.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        source = self._source()
        if source.is_dir():  # read anew each time: the library's own cache goes by the folder's name
            with TemporaryDirectory() as cache:
                try:
                    rows = list(load_dataset(str(source), self.spec.config, split=part, cache_dir=cache))
                except Exception as error:
                    raise UserError(f"{source}: cannot be read as a data set ({first_line(error)})") from error
        else:
            go_offline_where_there_is_no_hub()
            try:
                rows = load_dataset(str(source), self.spec.config, split=part, revision=self.spec.revision)
            except Exception as error:
                raise UserError(
                    f"task {self.spec.name}: data set {source} could not be had ({first_line(error)}); without a "
                    f"network, fetch its file elsewhere and give it: --data {self.spec.name}=FILE (or its folder)"
                ) from error
        for number, values in enumerate(rows, 1):
            yield DataRow(f"{source}:{part}", f"row {number}", values)


@cache
def go_offline_where_there_is_no_hub() -> None:
    """Where the hub's name cannot be resolved, only what is in the cache is looked for: no retries, no waiting."""
    import datasets.config
    import huggingface_hub.constants

    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    if getproxies().get("https"):
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
