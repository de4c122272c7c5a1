"""Walks at random through commands, changes and a person's own files, and looks after each command for what was lost.

    python benchmarks/walk.py                                    # 500 sequences of 12 commands
    python benchmarks/walk.py --seed 17 --sequences 1            # one of them again, by its number
    python benchmarks/walk.py --seed 17 --sequences 1 --verbose  # with each command and its last line

Between the commands rows, class names, weights, tokenizers and flags change, a person's own files appear in all kinds
of folders, and folders are moved, copied and linked. What must hold is in walk_model.py. Commands run in worker
processes through jaxfreeze.cli.main, with a random BERT of two layers. Prints a JSON line for each fault, with the
number of its sequence, and a summary; exit code 1 if there was a fault. A sequence ends at its first fault.
"""

import argparse
import collections
import functools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from walk_changes import ODD, Changes  # noqa: E402
from walk_check import Fault  # noqa: E402
from walk_runs import Flags  # noqa: E402

IN_A_PROCESS = 50  # sequences; compiled programs take memory maps, of which a process may have 65,530
RUNS = ("runs/a", "runs/b")


class Walk(Changes):
    """One sequence: draws its commands, and has each checked."""

    def commands(self, count: int, ignored: Sequence[str] = ()) -> None:
        """So many commands, with changes between them. Raises the first fault that is not of an ignored kind."""
        kinds: dict[Callable[[], None], int] = {
            **{self._train: 10, self._go_on: 2, self._evaluate: 3, self._predict: 3, self._export: 3},
            **{self._sweep: 2, self._report: 2, self._cache: 2},
        }
        changes = (
            *(self._rows_change, self._weights_change, self._tokenizer_changes, self._restore, self._touch),
            *(self._plant, self._plant, self._plant, self._move, self._link),
        )
        self._train()
        for _ in range(count - 1):
            for _ in range(self.dice.choice((0, 0, 1, 1, 1, 2))):
                self.dice.choice(changes)()
            try:
                self.dice.choices(list(kinds), list(kinds.values()))[0]()
            except Fault as fault:
                if fault.kind not in ignored:
                    raise

    def _flags(self) -> Flags:
        dice = self.dice
        return Flags(
            dice.choice(("0", "1", "1", "all")),
            dice.choice((1, 2, 2)),
            dice.choice((1, 1, 1, 2)),
            dice.choice(((), (), (), ("neg", "pos"), ("pos", "neg"))),
        )

    def _neutral(self) -> list[str]:
        """Flags that change no result."""
        return self.dice.choice(([], [], ["--cache", "off"], ["--cache", "disk", "--cache_budget", "0.000005"]))

    def _folder(self) -> Path:
        known = [str(path) for path in self.world.runs]
        return Path(self.dice.choice((*RUNS, *RUNS, *RUNS, *known, self.dice.choice(ODD))))

    def _train(self) -> None:
        folder = self._folder()
        known = self.world.runs.get(folder)
        again = known is not None and self.dice.random() < 0.7  # the same command as before
        flags = known.flags if known is not None and again else self._flags()
        more = self._neutral()
        if self.dice.random() < 0.3:
            more += ["--overwrite"]
        stop = 1 if flags.max_steps > 1 and self.dice.random() < 0.25 else None
        if self.dice.random() < 0.05:  # rows that lie in the folder that would be deleted
            inside = folder / "rows.csv"
            if (self.world.root / folder).is_dir() and not (self.world.root / inside).exists():
                self.world.plant(inside, (self.world.root / "data/train.csv").read_bytes())
            more += ["--train_file", str(inside)]
        self.world.train(folder, flags, more, stop)

    def _go_on(self) -> None:
        """As the line about a stopped run says."""
        self.world.go_on(self._known())

    def _evaluate(self) -> None:
        self.world.evaluate(self._known())

    def _predict(self) -> None:
        run = self._known()
        over = ("data/test.csv", "data/train.csv", "model/config.json", f"{run}/metrics.json", f"{run}/config.yaml")
        odd = self.dice.random() < 0.15
        self.world.predict(run, Path(self.dice.choice(over)) if odd else self._new("predictions"))

    def _export(self) -> None:
        run = self._known()
        output = self.dice.choice((self._new("exported"), self._new("exported"), run / "exported", Path("project")))
        if self.dice.random() < 0.1:
            output = self.dice.choice((run, Path("model"), Path("cache"), Path()))
        self.world.export(run, output, self.dice.random() < 0.4)

    def _sweep(self) -> None:
        layers = self.dice.choice((["0", "1"], ["1"], ["1", "all"], ["0"]))
        seeds = self.dice.choice((["1", "2"], ["1"], ["2"]))
        folder = Path(self.dice.choice(("sweep", "sweep", "sweep", "sweep2", *ODD)))
        self.world.sweep(folder, layers, seeds, self.dice.choice((1, 1, 2)))

    def _report(self) -> None:
        places = [Path("sweep"), *self.world.runs]
        folders = self.dice.sample(places, self.dice.randint(1, min(2, len(places))))
        outputs = (Path("report"), Path("report"), folders[0] / "report", Path("project"), self.dice.choice(folders))
        self.world.report(folders, self.dice.choice(outputs))

    def _cache(self) -> None:
        self.world.cache(self.dice.choice(("list", "clear")))


def sequence(seed: int, commands: int, work: Path, ignored: Sequence[str], verbose: bool) -> dict[str, Any]:
    """One sequence in an empty folder -> its fault, if it has one, and how many commands there were."""
    root = work / f"walk-{os.getpid()}"  # the same one for each sequence of a process: what is compiled is found again
    shutil.rmtree(root, ignore_errors=True)
    walk = Walk(root, work / "pristine", seed, verbose)
    found: dict[str, Any] = {"seed": seed}
    try:
        walk.commands(commands, ignored)
    except Fault as fault:
        found |= {"fault": fault.kind, "what": str(fault), "command": walk.world.history[-1]}
        found["before"] = walk.world.history[-9:-1]
    return found | {"commands": dict(walk.world.outcomes)}


def prepare(work: Path) -> None:
    """In every process: the folders that all sequences share, and programs compiled once."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAXFREEZE_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # much is compiled, little computed
    import jax

    from jaxfreeze import devices

    configure = devices.configure

    def with_our_programs(dtype: str) -> None:
        configure(dtype)
        jax.config.update("jax_compilation_cache_dir", str(work / "programs"))

    devices.configure = with_our_programs  # what a cache holds is cleared again and again


def main() -> int:
    """Walk -> the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence; the next one has the next number")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--commands", type=int, default=12, help="in a sequence")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--ignored", nargs="*", default=[], help="kinds of faults after which a sequence goes on")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    began, faults = time.perf_counter(), collections.Counter[str]()
    outcomes = collections.Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["JAXFREEZE_CACHE"] = str(work)  # tests/folders.py looks for it
        from tests.folders import make_folder

        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        make_folder(work / "pristine", "bert", **sizes)
        context = multiprocessing.get_context("spawn")
        how = {name: getattr(options, name) for name in ("commands", "ignored", "verbose")}
        walk = functools.partial(sequence, work=work, **how)
        with context.Pool(options.workers, prepare, (work,), maxtasksperchild=IN_A_PROCESS) as pool:
            for found in pool.imap(walk, range(options.seed, options.seed + options.sequences)):
                outcomes.update(found.pop("commands"))
                if "fault" in found:
                    faults[found["fault"]] += 1
                    print(json.dumps(found), flush=True)
    seconds = time.perf_counter() - began
    summary = {"sequences": options.sequences, "commands": sum(outcomes.values()), "outcomes": dict(outcomes)}
    print(json.dumps(summary | {"faults": dict(faults), "seconds": round(seconds, 1)}))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
