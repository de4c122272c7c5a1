"""Dynamic batching: one thread uses the devices, and joins waiting requests into one forward pass."""

import collections
import dataclasses
import sys
import threading
import traceback
from concurrent.futures import Future
from typing import NamedTuple

from jaxfreeze.inference.ensemble import Ensemble
from jaxfreeze.inference.outputs import Outputs, joined
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.inference.texts import Row, split_of

TEXTS_PER_PASS = 64  # enough to keep the devices busy; more would delay requests that arrive meanwhile

Answer = dict[str, Outputs]
"""By the runs' names."""


@dataclasses.dataclass(eq=False)
class _Waiting:
    """A request in the queue; a large one is answered in several passes."""

    rows: list[Row]
    answer: "Future[Answer]"
    found: list[Answer] = dataclasses.field(default_factory=list)
    begun: int = 0  # rows taken by a pass so far
    answered: int = 0  # rows whose logits are known


class _Share(NamedTuple):
    """The rows of a request that one pass takes."""

    request: _Waiting
    rows: list[Row]


class Batcher:
    """Answers requests in the order of their arrival, several at a time, until it is closed."""

    def __init__(self, trunk: SharedTrunk | Ensemble) -> None:
        self.trunk = trunk
        self.requests = self.texts = self.passes = 0
        """Requests and texts answered, and passes made for them."""
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of requests with rows that no pass has taken yet."""
        return len(self._queue)

    def submit(self, rows: list[Row]) -> "Future[Answer]":
        """Queue a request: examples of one or two texts each, as `checked_rows` returns them.

        Cancelling the future removes the request from the queue. The future raises what its pass raised.
        """
        request = _Waiting(rows, Future())
        with self._changed:
            self._queue.append(request)
            self._changed.notify()
        return request.answer

    def close(self) -> None:
        """Answer the waiting requests, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while shares := self._next_pass():
            self._answer(shares)

    def _next_pass(self) -> list[_Share]:
        """The oldest request and those behind it with as many text columns; nothing once the batcher is closed."""
        shares: list[_Share] = []
        others: list[_Waiting] = []
        room = TEXTS_PER_PASS
        with self._changed:
            while not shares:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return []
                while self._queue and room:
                    request = self._queue.popleft()
                    if shares and len(request.rows[0]) != len(shares[0].rows[0]):
                        others.append(request)
                    elif not request.answer.done():  # cancelled, or failed
                        rows = request.rows[request.begun : request.begun + room]
                        request.begun += len(rows)
                        room -= len(rows)
                        shares.append(_Share(request, rows))
                self._queue.extendleft(reversed(others))
            last = shares[-1].request
            if last.begun < len(last.rows):  # to the end of the queue: a large request does not block others
                self._queue.append(last)
        return shares

    def _answer(self, shares: list[_Share]) -> None:
        try:
            self._pass(shares)
            return
        except BaseException as error:  # noqa: BLE001  # panics of the tokenizer's library are no Exception
            reason = error
        if len(shares) > 1:  # one at a time: all but the request that caused it get their answers
            for share in shares:
                self._answer([share])
            return
        traceback.print_exception(reason, file=sys.stderr)
        request = shares[0].request
        if request.answer.set_running_or_notify_cancel():
            request.answer.set_exception(reason)

    def _pass(self, shares: list[_Share]) -> None:
        texts = [row for share in shares for row in share.rows]
        outputs = self.trunk.outputs(split_of(texts))
        self.passes += 1
        self.texts += len(texts)
        begin = 0
        for request, rows in shares:
            request.found.append({name: found.part(begin, begin + len(rows)) for name, found in outputs.items()})
            begin += len(rows)
            request.answered += len(rows)
            if request.answered == len(request.rows):
                self._finish(request)

    def _finish(self, request: _Waiting) -> None:
        self.requests += 1
        if request.answer.set_running_or_notify_cancel():
            names = request.found[0]
            request.answer.set_result({name: joined([one[name] for one in request.found]) for name in names})
