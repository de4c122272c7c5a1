"""The trunk cache: one pass of the trunk over a split, its result kept, and put where training reads it fastest."""

import dataclasses
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxfreeze import cache_folder, console, devices, freezing, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.data import hidden_store
from jaxfreeze.data.batches import CHUNK, Batch, evaluation_batches
from jaxfreeze.data.hidden_store import HiddenStore, Layout
from jaxfreeze.errors import InputError
from jaxfreeze.training.setup import Dataset, Model
from jaxfreeze.training.step import Data, Program, compiled_trunk_step

FORMAT = "1"  # part of the digest: raise it when the trunk computes something else
SHARE = 0.5  # of the free memory: the most that a cache takes
SAY_EVERY = 10  # seconds
PLACES = {"device": "device memory", "host": "host memory", "disk": "disk"}

Place = Literal["device", "host", "disk", "off"]


@dataclasses.dataclass(frozen=True)
class TrunkCache:
    """The trunk cache of one run: where it is and what it holds."""

    place: Place
    keep: bool  # on disk, for this run and the next
    layouts: dict[str, Layout]  # by the split's name; empty where there is no cache
    found: frozenset[str]  # the splits whose states are on disk already, in every process
    note: dict[str, str]  # what it is of, for `cache list`
    starts: dict[str, tuple[int, Layout]]  # by the split's name: the nearest lower cut whose states are on disk
    sharded: bool = False  # in device memory: a part of the rows on each device, where a copy on each does not fit

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(layout.size for layout in self.layouts.values())

    def sent_with_batches(self, dataset: Dataset) -> Layout | None:
        """The layout of the states that come with the split's batches; None if they lie on the device or nowhere."""
        return self.layouts[dataset.name] if self.place in ("host", "disk") else None

    def announce(self, dataset: Dataset, mesh: Mesh) -> Data:
        """The split's data on the device as they will be once the cache is filled, the states by shape alone."""
        if self.place != "device":
            return dataset.data
        layout = self.layouts[dataset.name]
        shape = (layout.rows + self.padding(layout, mesh), layout.width)
        return dataset.data._replace(hidden=jax.ShapeDtypeStruct(shape, layout.dtype, sharding=self.sharding(mesh)))

    def sharding(self, mesh: Mesh) -> NamedSharding:
        """How the states lie in device memory."""
        return devices.by_row(mesh) if self.sharded else devices.replicated(mesh)

    def padding(self, layout: Layout, mesh: Mesh) -> int:
        """Rows more than there are, so that each device has as many as the others."""
        return -layout.rows % mesh.size if self.sharded else 0

    @property
    def description(self) -> str:
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


def plan(
    config: TrainConfig, model: Model, program: Program, datasets: Sequence[Dataset], mesh: Mesh, examples: int
) -> TrunkCache:
    """Choose the place for a run that trains on `examples` examples, repeats counted; datasets[0] is what it trains on.

    auto: the fastest place where it fits, and off where it saves nothing. Raises InputError for a place that was asked
    for and cannot be.
    """
    off = TrunkCache("off", False, {}, frozenset(), {}, {})
    if config.cache == "off":
        return off
    asked = config.cache != "auto"
    if config.frozen_dropout or program.cut == 0:
        why = "--frozen_dropout" if config.frozen_dropout else "the embeddings trained"
        if asked:
            raise InputError(f"--cache {config.cache}: with {why} no layer's output is constant; leave --cache out")
        return off
    leaf_digests = freezing.digests(model.frozen)
    layouts = {d.name: _layout(model, program, program.cut, d, mesh, leaf_digests) for d in datasets}
    starts = {
        d.name: start for d in datasets if (start := _nearest_below(model, program, d, mesh, leaf_digests)) is not None
    }
    found = frozenset(name for name, layout in layouts.items() if processes.all_true(layout.kept))
    missing = sum(layout.size for name, layout in layouts.items() if name not in found)
    whole = sum(layout.size for layout in layouts.values())
    if not asked and (program.cut == 1 or (missing and examples < datasets[0].store.num_examples)):
        return off  # embeddings alone are a lookup already; a run shorter than the pass would pay more than it saves
    fits, fits_in_parts = (whole <= SHARE * processes.least(devices.free_bytes(mesh)) * n for n in (1, mesh.size))
    fits_host = whole <= SHARE * processes.least(devices.free_host_bytes())
    fastest: Place = "device" if fits_in_parts else "host" if fits_host else "disk"
    place: Place = fastest if config.cache == "auto" else config.cache
    folders = [layout.folder for layout in (*layouts.values(), *(start[1] for start in starts.values()))]
    obstacle = cache_folder.make_room(missing, int(config.cache_budget * 1e9), folders) if missing else ""
    obstacle = next(filter(None, processes.all_gather(obstacle)), "")
    if obstacle and place == "disk":
        if asked:
            raise InputError(f"--cache disk: needs {missing / 1e9:.2f} GB more, and {obstacle}")
        return off
    note = {"task": config.task, "model": config.model, "cut": str(program.cut), "dtype": config.dtype}
    return TrunkCache(place, not obstacle, layouts, found, note, starts, place == "device" and not fits)


def _nearest_below(
    model: Model, program: Program, dataset: Dataset, mesh: Mesh, leaf_digests: dict[str, str]
) -> tuple[int, Layout] | None:
    """The highest cut below this one whose states are on disk: from there the pass has the fewest layers to run."""
    for cut in range(program.cut - 1, 1, -1):  # the embeddings alone are a lookup
        layout = _layout(model, program, cut, dataset, mesh, leaf_digests)
        if processes.all_true(layout.kept):
            return cut, layout
    return None


def _layout(
    model: Model, program: Program, cut: int, dataset: Dataset, mesh: Mesh, leaf_digests: dict[str, str]
) -> Layout:
    """The cache of one split at a cut, named by all that its values depend on."""
    layers = program.num_layers
    below = {path: digest for path, digest in leaf_digests.items() if freezing.block_of(path, layers) < cut}
    made_of = (FORMAT, freezing.digest_of(below), dataset.store.digest, model.encoder, cut, model.dtype)
    digest = hashlib.sha256(repr((*made_of, devices.describe(mesh))).encode()).hexdigest()
    by_example = cut > layers
    rows = dataset.store.num_examples if by_example else dataset.store.num_tokens
    return Layout(digest, rows, model.encoder.hidden_size, np.dtype(model.dtype), by_example)


def load_or_compute(cache: TrunkCache, dataset: Dataset, model: Model, program: Program, mesh: Mesh) -> Dataset:
    """The split with its states at the cut, found on disk or computed now. Raises InputError if the disk is full."""
    if cache.place == "off":
        return dataset
    layout = cache.layouts[dataset.name]
    if dataset.name not in cache.found:
        start, source = 0, dataset
        if dataset.name in cache.starts:
            start, lower = cache.starts[dataset.name]
            source = dataclasses.replace(dataset, hidden=hidden_store.open_kept(lower, in_memory=False))
        chunks = _trunk_pass(layout, program, start, model.params(), source, mesh)
        if not cache.keep:
            return _placed(cache, hidden_store.gather(layout, chunks), dataset, mesh)
        _write(layout, chunks, {**cache.note, "split": dataset.name})
    return _placed(cache, hidden_store.open_kept(layout, cache.place != "disk"), dataset, mesh)


def _write(layout: Layout, chunks: Iterator[np.ndarray], note: dict[str, str]) -> None:
    """Keep the rows on disk; where processes have one folder, the first does it. All of them compute."""
    if processes.should_write_to(layout.folder.parent):
        hidden_store.write(layout, chunks, note)
    else:
        for _ in chunks:
            pass
    processes.all_gather(None)  # it is there


def _placed(cache: TrunkCache, store: HiddenStore, dataset: Dataset, mesh: Mesh) -> Dataset:
    if cache.place != "device":
        return dataclasses.replace(dataset, hidden=store)
    rows = np.asarray(store.source)
    if padding := cache.padding(store.layout, mesh):
        rows = np.pad(rows, ((0, padding), (0, 0)))
    hidden = devices.put(rows, cache.sharding(mesh), may_alias=False)
    return dataclasses.replace(dataset, data=dataset.data._replace(hidden=hidden))


def _trunk_pass(
    layout: Layout, program: Program, start: int, params: freezing.Params, dataset: Dataset, mesh: Mesh
) -> Iterator[np.ndarray]:
    """The trunk, from the cut `start` on, over a whole split: the rows of one chunk after the other, [n, D]."""
    store, began, said = dataset.store, time.perf_counter(), time.perf_counter()
    states = _states(program, start, params, dataset, mesh)
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
    program: Program, start: int, params: freezing.Params, dataset: Dataset, mesh: Mesh
) -> Iterator[tuple[Batch, jax.Array]]:
    """Batches and their states at the cut; a few are under way while one is in use."""
    waiting: deque[tuple[Batch, jax.Array]] = deque()
    for batch in evaluation_batches(dataset.store, devices.pass_batch_size(), mesh.size):
        on_device = devices.put(dataset.complete(batch, mesh), devices.by_row(mesh))
        waiting.append((batch, compiled_trunk_step(program, start, params, dataset.data, on_device)))
        if len(waiting) > 2:
            yield waiting.popleft()
    yield from waiting
