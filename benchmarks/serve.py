"""How many requests the server answers: 32 clients at once on a real server, right requests and wrong ones mixed.

    python benchmarks/serve.py                                  # some two minutes on two cores
    python benchmarks/serve.py --run runs/rte --run runs/mrpc   # finished runs on one pretrained model

Without --run, three runs on the demo are trained for one step: what they answer does not matter here. Each of the 5,000
right requests (--requests) has one to eight of the demo's texts, every second one pairs, for all runs or for one; the
500 wrong ones (--wrong) are broken JSON, empty, of a wrong type, over a limit or of an unknown task. The clients are
threads of this process with a connection each, kept alive, which send the next request once the answer is there. Every
answer is compared: its status, and its logits with those of the runs without a server, to 1e-5. A JSON object is
printed; the latency is that of the right requests, seen by the client.
"""

import argparse
import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
JSON = {"Content-Type": "application/json"}
TOLERANCE = 1e-5
POOL = 512  # pairs, and as many single texts, from which requests are drawn
WRONG = (
    (b'{"texts": ["a"', JSON, 400),
    (b'{"texts": []}', JSON, 400),
    (b'{"texts": [7]}', JSON, 400),
    (b'{"texts": ["a\\u0000"]}', JSON, 400),
    (b'{"texts": "a", "tasks": "no such task"}', JSON, 400),
    (b'{"texts": ["\xff"]}', JSON, 400),
    (b'{"texts": ' + b"[" * 100_000, JSON, 400),
    (b'{"texts": "a"}', {"Content-Type": "text/plain"}, 415),
    (json.dumps({"texts": ["a"] * 1025}).encode(), JSON, 413),
    (b" " * 1_000_001, JSON, 413),
)
"""(body, headers, status) of wrong requests."""


class Asked(NamedTuple):
    """A request, and what it should be answered with."""

    body: bytes
    headers: dict[str, str]
    status: int
    logits: dict[str, np.ndarray]


class Answered(NamedTuple):
    """What a client saw."""

    seconds: float
    status: int
    right: bool


def main() -> None:
    """Start the server, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--wrong", type=int, default=500)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    from versus_pytorch import commit, machine, now

    with tempfile.TemporaryDirectory() as folder:
        paths = options.run or train(Path(folder))
        requests = draw(paths, options.requests, options.wrong)
        with server(paths) as port:
            began = time.perf_counter()
            answers = ask_all(port, requests, options.clients)
            seconds = time.perf_counter() - began
            health = exchange(HTTPConnection("127.0.0.1", port), "GET", "/health")[1]
    result = {"date": now(), "commit": commit(), "machine": machine(), "clients": options.clients}
    print(json.dumps(result | summary(requests, answers, seconds, health), indent=2))


def train(folder: Path) -> list[Path]:
    """Three runs on the demo, one step each."""
    os.environ["JAXFREEZE_CACHE"] = f"{folder}/cache"
    from jaxfreeze import console, finetune

    flags: dict[str, Any] = {"model": "demo", "trainable_layers": 2, "max_steps": 1, "cache": "off"}
    with console.on_stderr():
        return [finetune("demo", seed=seed, output_dir=folder / f"seed{seed}", **flags).path for seed in range(3)]


def draw(paths: Sequence[Path], right: int, wrong: int) -> list[Asked]:
    """The requests in the order in which they are sent."""
    from jaxfreeze.data.demo import demo_split
    from jaxfreeze.data.split import Split
    from jaxfreeze.inference.shared_trunk import SharedTrunk

    columns = tuple(column[:POOL] for column in demo_split("validation").texts)
    trunk = SharedTrunk(paths)
    pools = [
        (list(zip(*texts, strict=True)), trunk.logits(Split("test", texts, None))) for texts in (columns, columns[:1])
    ]
    random = np.random.default_rng(0)
    requests = []
    for number in range(right):
        rows, logits = pools[number % 2]
        places = random.integers(0, len(rows), random.integers(1, 9))
        tasks = list(trunk.tasks) if number % 3 else [list(trunk.tasks)[number % len(trunk.tasks)]]
        texts = [rows[place] if len(rows[place]) == 2 else rows[place][0] for place in places]
        body = json.dumps({"texts": texts, "tasks": tasks}).encode()
        requests.append(Asked(body, JSON, 200, {task: logits[task][places] for task in tasks}))
    requests += [Asked(*WRONG[number % len(WRONG)], {}) for number in range(wrong)]
    return [requests[place] for place in random.permutation(len(requests))]


@contextlib.contextmanager
def server(paths: Sequence[Path]) -> Iterator[int]:
    """A server of these runs in a process of its own -> its port. It has to end cleanly."""
    flags = [text for path in paths for text in ("--run", str(path))]
    command = [sys.executable, str(ROOT / "run.py"), "serve", *flags, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        while not (lines and "answers for" in lines[-1]):
            lines.append(process.stderr.readline())
            if not lines[-1]:
                sys.exit("".join(lines))
        try:
            yield int(lines[-1].split(" ")[0].rpartition(":")[2])
        finally:
            process.terminate()
            said = process.stderr.read()
    if process.returncode or said:
        sys.exit(f"the server ended with {process.returncode} and said: {said}")


def exchange(connection: HTTPConnection, method: str, path: str, *request: Any) -> tuple[int, dict[str, Any]]:
    """Status and content of an answer."""
    connection.request(method, path, *request)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def ask_all(port: int, requests: Sequence[Asked], clients: int) -> list[Answered]:
    """Every request once, by as many clients; a request without an answer is missing in the result."""
    answers: list[Answered] = []
    left = iter(requests)
    lock = threading.Lock()

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                asked = next(left, None)
            if asked is None:
                return
            began = time.perf_counter()
            status, fields = exchange(connection, "POST", "/predict", asked.body, asked.headers)
            answers.append(Answered(time.perf_counter() - began, status, is_right(asked, status, fields)))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def is_right(asked: Asked, status: int, fields: dict[str, Any]) -> bool:
    """Whether status, tasks and logits are those expected, and an error is one line."""
    if status != asked.status:
        return False
    if status != 200:
        return list(fields) == ["error"] and "\n" not in fields["error"]
    found = {task: np.array([one["logits"] for one in all_]) for task, all_ in fields["predictions"].items()}
    return found.keys() == asked.logits.keys() and all(
        found[task].shape == logits.shape and np.abs(found[task] - logits).max() <= TOLERANCE
        for task, logits in asked.logits.items()
    )


def summary(
    requests: Sequence[Asked], answers: Sequence[Answered], seconds: float, health: dict[str, Any]
) -> dict[str, Any]:
    """Counts, rates and latency."""
    milliseconds = np.array([answer.seconds for answer in answers if answer.status == 200]) * 1e3
    latency = {f"p{share}": round(float(np.percentile(milliseconds, share)), 1) for share in (50, 90, 99)}
    statuses = collections.Counter(str(answer.status) for answer in answers)
    return {
        "requests": len(requests),
        "lost": len(requests) - len(answers),
        "wrong_answers": sum(not answer.right for answer in answers),
        "statuses": dict(sorted(statuses.items())),
        "seconds": round(seconds, 2),
        "requests_per_second": round(len(answers) / seconds, 1),
        "texts_per_second": round(health["texts"] / seconds, 1),
        "texts_per_pass": round(health["texts"] / health["passes"], 1),
        "latency_ms": latency | {"max": round(float(milliseconds.max()), 1)},
    }


if __name__ == "__main__":
    main()
