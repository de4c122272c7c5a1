"""The trunk cache: one pass of the trunk over a split, its result kept, and put where training reads it fastest."""

import dataclasses
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxfreeze import cache_folder, console, devices, freezing, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.data import hidden_store
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.batches import CHUNK, evaluation_batches
from jaxfreeze.data.hidden_store import HiddenStore, Layout
from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.step import Data, compiled_trunk_step

FORMAT = "1"  # part of the digest: raise it when the trunk computes something else
SHARE = 0.5  # of the free memory: the most that a cache takes
SAY_EVERY = 10  # seconds
PLACES = {"device": "device memory", "host": "host memory", "disk": "disk"}

Place = Literal["device", "host", "disk", "off"]
Layouts = Mapping[str, Mapping[int, Layout]]
"""By the split's name and the cut, the highest cut first."""


@dataclasses.dataclass(frozen=True)
class TrunkCache:
    """The trunk cache of one run: where it is and what it holds."""

    place: Place
    keep: bool = False  # on disk, for this run and the next
    layouts: Mapping[str, Layout] = dataclasses.field(default_factory=dict)  # by the split's name
    found: frozenset[str] = frozenset()  # the splits whose states are on disk already, in every process
    starts: Mapping[str, tuple[int, Layout]] = dataclasses.field(default_factory=dict)
    """By the split's name: the nearest lower cut whose states are on disk."""
    sharded: bool = False  # in device memory: a part of the rows on each device, where a copy on each does not fit
    note: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what it is of, for `cache list`

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(layout.size for layout in self.layouts.values())

    @property
    def first_tokens(self) -> bool:
        """Whether it holds the state of each example's first token alone, which only a head reads."""
        return self.place != "off" and all(layout.by_example for layout in self.layouts.values())

    def sent_with_batches(self, dataset: Dataset) -> Layout | None:
        """The layout of the states that come with the split's batches; None if they lie on the device or nowhere."""
        return self.layouts[dataset.name] if self.place in ("host", "disk") else None

    def abstract_data(self, dataset: Dataset, mesh: Mesh) -> Data:
        """The split's data on the device as they will be once the cache is filled, the states by shape alone."""
        if self.place != "device":
            return dataset.data
        layout = self.layouts[dataset.name]
        shape = (layout.rows + self.padding(layout, mesh), layout.width)
        states = jax.ShapeDtypeStruct(shape, layout.dtype, sharding=self.sharding(mesh))
        return dataset.data.with_states(layout.leaf, states)

    def sharding(self, mesh: Mesh) -> NamedSharding:
        """How the states lie in device memory."""
        return devices.by_row(mesh) if self.sharded else devices.replicated(mesh)

    def padding(self, layout: Layout, mesh: Mesh) -> int:
        """Rows more than there are, so that each device has as many as the others."""
        return -layout.rows % mesh.size if self.sharded else 0

    def describe(self) -> str:
        """One line, before anything is computed: what is kept, the bytes it takes, and where."""
        if self.place == "off":
            return "trunk cache: off"
        one = next(iter(self.layouts.values()))
        rows = sum(layout.rows for layout in self.layouts.values())
        what = "first tokens" if one.by_example else "tokens"
        found = self.found == {*self.layouts}
        disk = "found on disk" if found else "kept on disk for the next run" if self.keep else "not kept on disk"
        if self.starts and not found:
            disk += ", made from a lower cut's"
        return (
            f"trunk cache: {rows:,} {what} x {one.width} {one.dtype} = {self.size / 1e6:,.1f} MB, "
            f"read from {PLACES[self.place]}{', a part on each device' if self.sharded else ''}, {disk}"
        )


class Facts(NamedTuple):
    """What one process knows before the place is chosen; JSON."""

    kept: dict[str, list[int]]
    """By the split's name: the cuts, up to the run's, whose states are on this process's disk."""
    room: cache_folder.Room
    device_bytes: int
    """Free on the fullest of its devices."""
    host_bytes: int


def plan(
    config: TrainConfig,
    column: Column,
    frozen_digests: Mapping[str, str],
    datasets: Sequence[Dataset],
    mesh: Mesh,
    examples: int,
) -> TrunkCache:
    """Choose the place for a run that trains on `examples` examples, repeats counted; datasets[0] is what it trains on.

    auto: the fastest place where it fits, and off where it saves nothing. Raises InputError for a place that was asked
    for and cannot be.
    """
    if config.cache == "off":
        return TrunkCache("off")
    if config.frozen_dropout or column.cut == 0:
        why = "--frozen_dropout" if config.frozen_dropout else "the embeddings trained"
        if config.cache != "auto":
            raise InputError(f"--cache {config.cache}: with {why} no layer's output is constant; leave --cache out")
        return TrunkCache("off")
    layouts = {dataset.name: _layouts(column, frozen_digests, dataset, mesh) for dataset in datasets}
    kept = {name: [cut for cut, layout in by_cut.items() if layout.kept] for name, by_cut in layouts.items()}
    needed = [(name, cut) for name, cuts in kept.items() for cut in {column.cut, *cuts[:2]}]  # its own, the next below
    wanted = [layouts[name][cut].folder for name, cut in needed]
    budget = int(config.cache_budget * 1e9)
    facts = Facts(kept, cache_folder.room(budget, wanted), devices.free_bytes(mesh), devices.free_host_bytes())
    all_facts = [Facts(*found)._replace(room=cache_folder.Room(*found[1])) for found in processes.all_gather(facts)]
    short = examples < datasets[0].store.num_examples
    chosen = choose(config.cache, column.cut, layouts, all_facts, mesh.size, short)
    if chosen.keep and (missing := _missing(chosen)):
        cache_folder.make_room(missing, budget, wanted)
    note = {"task": config.task, "model": config.model, "cut": str(column.cut), "dtype": config.dtype}
    return dataclasses.replace(chosen, note=note)


def choose(asked: str, cut: int, layouts: Layouts, facts: Sequence[Facts], num_devices: int, short: bool) -> TrunkCache:
    """The place, from what all processes know; a pure function.

    num_devices: that share the cache. short: whether the run is shorter than one pass over its rows, which would then
    cost more than it saves. Raises InputError for a disk that was asked for and has no room.
    """
    found = frozenset(name for name in layouts if all(cut in of.kept[name] for of in facts))
    cache = TrunkCache("off", True, {name: by_cut[cut] for name, by_cut in layouts.items()}, found)
    missing = _missing(cache)
    if asked == "auto" and (cut == 1 or (missing and short)):
        return TrunkCache("off")  # the embeddings alone are a lookup already
    fits, fits_in_parts = (cache.size <= SHARE * min(of.device_bytes for of in facts) * n for n in (1, num_devices))
    fits_host = cache.size <= SHARE * min(of.host_bytes for of in facts)
    fastest: Place = "device" if fits_in_parts else "host" if fits_host else "disk"
    place: Place = fastest if asked == "auto" else asked  # type: ignore[assignment]
    obstacle = next(filter(None, (of.room.obstacle(missing) for of in facts)), "") if missing else ""
    if obstacle and place == "disk":
        if asked == "disk":
            raise InputError(f"--cache disk: needs {missing / 1e9:.2f} GB more, and {obstacle}")
        return TrunkCache("off")
    starts = {}
    for name, by_cut in layouts.items():
        lower = [below for below in by_cut if below < cut and all(below in of.kept[name] for of in facts)]
        if lower:
            starts[name] = max(lower), by_cut[max(lower)]
    return dataclasses.replace(
        cache, place=place, keep=not obstacle, starts=starts, sharded=place == "device" and not fits
    )


def _missing(cache: TrunkCache) -> int:
    """Bytes that are not on disk yet."""
    return sum(layout.size for name, layout in cache.layouts.items() if name not in cache.found)


def _layouts(column: Column, frozen_digests: Mapping[str, str], dataset: Dataset, mesh: Mesh) -> dict[int, Layout]:
    """The cache of one split at each cut up to the column's, named by all that its values depend on.

    Below cut 2 there are the embeddings alone, a lookup; but for a column that is cut there.
    """
    result = {}
    for cut in range(column.cut, min(column.cut, 2) - 1, -1):
        below = {p: digest for p, digest in frozen_digests.items() if freezing.block_of(p, column.num_layers) < cut}
        made_of = (FORMAT, freezing.digest_of(below), dataset.store.digest, column.encoder, cut, column.dtype)
        pooled = () if cut <= column.num_layers or not column.by_token else ("by token",)
        arithmetic = (column.activations,) if column.activations else ()
        on = devices.describe(mesh, column.onednn)
        digest = hashlib.sha256(repr((*made_of, on, *pooled, *arithmetic)).encode()).hexdigest()
        by_example = cut > column.num_layers and not column.by_token
        rows = dataset.store.num_examples if by_example else dataset.store.num_tokens
        result[cut] = Layout(digest, rows, column.encoder.hidden_size, np.dtype(column.state_dtype), by_example)
    return result


def load_or_compute(
    cache: TrunkCache, dataset: Dataset, column: Column, params: freezing.Params, mesh: Mesh
) -> Dataset:
    """The split with its states at the cut, found on disk or computed now. Raises InputError if the disk is full."""
    if cache.place == "off" or dataset.has_states:
        return dataset
    layout = cache.layouts[dataset.name]
    if dataset.name not in cache.found:
        start, source = 0, dataset
        if dataset.name in cache.starts:
            start, lower = cache.starts[dataset.name]
            source = dataclasses.replace(dataset, hidden=hidden_store.open_kept(lower, in_memory=False))
        chunks = _trunk_pass(layout, column, start, params, source, mesh)
        if not cache.keep:
            return _placed(cache, hidden_store.gather(layout, chunks), dataset, mesh)
        _write(layout, chunks, {**cache.note, "split": dataset.name})
    return _placed(cache, hidden_store.open_kept(layout, cache.place != "disk"), dataset, mesh)


def _write(layout: Layout, chunks: Iterator[np.ndarray], note: dict[str, str]) -> None:
    """Keep the rows on disk; where processes share a folder, the first one writes. All of them compute."""
    if processes.should_write_to(layout.folder.parent):
        hidden_store.write(layout, chunks, note)
    else:
        for _ in chunks:
            pass
    processes.all_gather(None)  # the file is there


def _placed(cache: TrunkCache, store: HiddenStore, dataset: Dataset, mesh: Mesh) -> Dataset:
    if cache.place != "device":
        return dataclasses.replace(dataset, hidden=store)
    rows = np.asarray(store.source)
    if padding := cache.padding(store.layout, mesh):
        rows = np.pad(rows, ((0, padding), (0, 0)))
    states = devices.put(rows, cache.sharding(mesh), may_alias=False)
    return dataclasses.replace(dataset, data=dataset.data.with_states(store.layout.leaf, states))


def _trunk_pass(
    layout: Layout, column: Column, start: int, params: freezing.Params, dataset: Dataset, mesh: Mesh
) -> Iterator[np.ndarray]:
    """The trunk, from the cut `start` on, over a whole split: the rows of one chunk after the other, [n, D]."""
    store, began, said = dataset.store, time.perf_counter(), time.perf_counter()
    states = _states(column, start, params, dataset, mesh)
    for chunk, parts in itertools.groupby(states, key=lambda part: int(part[0].example.max()) // CHUNK):
        first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, store.num_examples)
        begin, end = (first, last) if layout.by_example else (int(store.start[first]), int(store.start[last]))
        rows = np.empty((end - begin, layout.width), layout.dtype)
        for batch, hidden in parts:
            places = layout.places(batch)
            rows[places[places >= 0] - begin] = devices.fetch(hidden)[places >= 0]
        yield rows
        now = time.perf_counter()
        if now - said > SAY_EVERY and end < layout.rows:
            said = now
            left = (now - began) / end * (layout.rows - end)
            console.say(f"trunk cache: {end / layout.rows:.0%} computed, {left:.0f} s left")


def _states(
    column: Column, start: int, params: freezing.Params, dataset: Dataset, mesh: Mesh
) -> Iterator[tuple[Batch, jax.Array]]:
    """Batches and their states at the cut; a few are under way while one is in use."""
    waiting: deque[tuple[Batch, jax.Array]] = deque()
    for batch in evaluation_batches(dataset.store, devices.pass_batch_size(), mesh.size):
        on_device = devices.put(dataset.complete(batch, mesh), devices.by_row(mesh))
        waiting.append((batch, compiled_trunk_step(column, start, params, dataset.data, on_device)))
        if len(waiting) > 2:
            yield waiting.popleft()
    yield from waiting
