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
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from walk_model import Fault, Flags, Walked  # noqa: E402

IN_A_PROCESS = 50  # sequences; compiled programs take memory maps, of which a process may have 65,530
NAMES = (  # of a person's files: those of our own too
    *("notes.md", "config.yaml", "metrics.json", "log.jsonl", "results.jsonl", "report.md", "freeze.json", "rows.csv"),
    *("checkpoints/mine.txt", "checkpoints/7/weights.bin", "checkpoints/12.removed/x", "events/mine.txt"),
    *("figures/plot.png", "figures/cost.svg", "tokens/x.txt", "trunk/x.txt", "xla/dump.hlo", ".hidden"),
    *("top.safetensors", "model.safetensors", "data/rows.csv", "done.json", "results.1-of-2.jsonl"),
)
CONTENTS = (
    b"mine\n",
    b"",
    b"db: postgres\n",
    b"task: rte\n",
    b'{"kind": "train", "step": 1}\n',
    b"# Report\n",
    b"\x00\xff",
)
RUNS, ODD = ("runs/a", "runs/b"), ("project", "runs", ".", "model", "data", "link", "sweep", "exported", "cache", "new")
CHANGED = (  # of config.json, each with the same tensors
    {"hidden_act": "relu"},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "gelu"},
)


class Walk:
    """One sequence: draws what happens, and has it checked."""

    def __init__(self, root: Path, pristine: Path, seed: int, verbose: bool = False) -> None:
        self.dice = random.Random(seed)  # of a walk, not of secrets
        self.world = Walked(root, pristine, verbose)
        self.count = 0
        for name in ("project/src/main.py", "project/config.yaml", "precious/years.csv", "runs/keep.txt"):
            self.world.plant(Path(name), b"years of work\n" if name != "project/config.yaml" else b"db: postgres\n")
        self._rows("train"), self._rows("validation"), self._rows("test")

    def commands(self, count: int) -> None:
        """So many commands, with changes between them."""
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
            self.dice.choices(list(kinds), list(kinds.values()))[0]()

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

    def _known(self) -> Path:
        return Path(self.dice.choice([str(path) for path in self.world.runs] or ["runs/a"]))

    def _new(self, stem: str) -> Path:
        self.count += 1
        return Path(f"{stem}-{self.count}")

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

    def _rows(self, name: str) -> None:
        self.world.write_rows(name, [(self._text(), ("neg", "pos")[i % 2]) for i in range(8)])

    def _text(self) -> str:
        """Always as long, so that programs are found again."""
        return " ".join(self.dice.sample(self.world.words, 3))

    def _rows_change(self) -> None:
        """Few names of classes, so that programs are found again; `aaa` comes before the others."""
        name = self.dice.choice(("train", "train", "validation", "test"))
        rows = self.world.rows(name)
        at = self.dice.randrange(len(rows))
        kind = self.dice.choice(("text", "label", "swap", "rename", "more"))
        if kind == "text":
            rows[at] = (self._text(), rows[at][1])
        elif kind == "label":
            rows[at] = (rows[at][0], self.dice.choice(("neg", "pos", "aaa")))
        elif kind == "swap":
            rows[0], rows[at] = rows[at], rows[0]
        elif kind == "rename":
            old, new = self.dice.choice((("neg", "aaa"), ("aaa", "neg")))
            for split in ("train", "validation"):
                renamed = [(text, new if label == old else label) for text, label in self.world.rows(split)]
                self.world.write_rows(split, renamed)
            return
        else:
            rows.append((self._text(), self.dice.choice(("neg", "pos", "aaa"))))
        self.world.write_rows(name, rows)

    def _weights_change(self) -> None:
        if self.dice.random() < 0.25:
            self.world.change_config(self.dice.choice(CHANGED))
            return
        part = self.dice.choice(("embeddings.word", "layer.0.attention.self.query", "layer.1.output.dense"))
        self.world.change_weights(part, self.dice.choice((1.5, 0.5, -1.0)))

    def _tokenizer_changes(self) -> None:
        one, other = self.dice.sample(self.world.words, 2)
        self.world.swap_words(one, other)

    def _restore(self) -> None:
        self.world.restore_model()

    def _touch(self) -> None:
        self.world.touch(self.dice.choice(("data/train.csv", "data/validation.csv", "model/model.safetensors")))

    def _plant(self) -> None:
        places = ["project", "cache", "report", "sweep", "exported", "runs/new", "runs/a", "runs/b", *ODD]
        places += [str(path) for path in self.world.runs]
        places += [str(path) for path in self.world.folders_inside("cache", "runs")]
        path = Path(self.dice.choice(places)) / self.dice.choice(NAMES)
        self.world.plant(path, self.dice.choice(CONTENTS))

    def _move(self) -> None:
        self.world.move(self._known(), self._new("runs/moved"), copied=self.dice.random() < 0.4)

    def _link(self) -> None:
        link = self.dice.choice(("link", "runs/a/data", "runs/b", "runs/a/checkpoints/mine", "cache/tokens", "report"))
        self.world.link(Path(link), Path(self.dice.choice(("precious", "project", "runs/a", "nowhere"))))


def sequence(seed: int, commands: int, work: Path, verbose: bool = False) -> dict[str, Any]:
    """One sequence in an empty folder -> its fault, if it has one, and how many commands there were."""
    root = work / f"walk-{os.getpid()}"  # the same one for each sequence of a process: what is compiled is found again
    shutil.rmtree(root, ignore_errors=True)
    walk = Walk(root, work / "pristine", seed, verbose)
    found: dict[str, Any] = {"seed": seed}
    try:
        walk.commands(commands)
    except Fault as fault:
        found |= {"fault": fault.kind, "what": str(fault), "command": walk.world.history[-1]}
        found["before"] = walk.world.history[-9:-1]
    return found | {"commands": dict(walk.world.outcomes)}


def prepare(work: Path) -> None:
    """In every process: the folders that all sequences share, and programs compiled once."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAXFREEZE_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    import jax

    from jaxfreeze import devices

    configure = devices.configure

    def with_our_programs(dtype: str) -> None:
        configure(dtype)
        jax.config.update("jax_compilation_cache_dir", str(work / "programs"))

    devices.configure = with_our_programs  # what a cache holds is cleared again and again
    devices.CPU_COMPILER_OPTIONS["xla_backend_optimization_level"] = "0"


def main() -> int:
    """Walk -> the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence; the next one has the next number")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--commands", type=int, default=12, help="in a sequence")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
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
        walk = functools.partial(sequence, commands=options.commands, work=work, verbose=options.verbose)
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
