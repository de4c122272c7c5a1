"""What changes between the commands of benchmarks/walk.py, drawn at random."""

import random
from pathlib import Path

from walk_model import Walked

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
ODD = ("project", "runs", ".", "model", "data", "link", "sweep", "exported", "cache", "new")
CHANGED = (  # of config.json, each with the same tensors
    {"hidden_act": "relu"},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "gelu"},
)


class Changes:
    """Draws a sequence's changes."""

    def __init__(self, root: Path, pristine: Path, seed: int, verbose: bool = False) -> None:
        self.dice = random.Random(seed)  # of a walk, not of secrets
        self.world = Walked(root, pristine, verbose)
        self.count = 0
        for name in ("project/src/main.py", "project/config.yaml", "precious/years.csv", "runs/keep.txt"):
            self.world.plant(Path(name), b"years of work\n" if name != "project/config.yaml" else b"db: postgres\n")
        self._rows("train"), self._rows("validation"), self._rows("test")

    def _known(self) -> Path:
        return Path(self.dice.choice([str(path) for path in self.world.runs] or ["runs/a"]))

    def _new(self, stem: str) -> Path:
        self.count += 1
        return Path(f"{stem}-{self.count}")

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
