import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from engine.cancel import CancelToken
from engine.errors import EngineBusyError, EngineError
from engine.request import BACKGROUND
from engine.scheduler import Scheduler


@dataclass
class Item:
    id: int
    document: str | None = None
    priority: int = 0
    cancel: CancelToken = field(default_factory=CancelToken)


def ids(items: list[Item]) -> list[int]:
    return [item.id for item in items]


def drain(scheduler: Scheduler[Item]) -> list[int]:
    order: list[int] = []
    while (item := scheduler.next(timeout_s=0)) is not None:
        order.append(item.id)
    return order


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ([0, 0, 0], [0, 1, 2]),
        ([2, 1, 0], [2, 1, 0]),
        ([1, 0, 1, 0], [1, 3, 0, 2]),
        ([0, -5, 0], [1, 0, 2]),
    ],
)
def test_lower_priority_numbers_run_first_and_equals_in_order(priorities, order):
    scheduler: Scheduler[Item] = Scheduler()
    for id, priority in enumerate(priorities):
        assert scheduler.submit(Item(id, priority=priority)) == []
    assert drain(scheduler) == order


def test_a_newer_request_supersedes_the_waiting_one_of_its_document():
    scheduler: Scheduler[Item] = Scheduler()
    old, other, new = Item(1, "a"), Item(2, "b"), Item(3, "a", priority=9)
    scheduler.submit(old)
    scheduler.submit(other)
    assert scheduler.submit(new) == [old]
    assert old.cancel.is_cancelled
    assert not other.cancel.is_cancelled
    assert drain(scheduler) == [2, 3]


def test_a_newer_request_cancels_the_running_one_which_answers_for_itself():
    scheduler: Scheduler[Item] = Scheduler()
    running = Item(1, "a")
    scheduler.submit(running)
    assert scheduler.next() is running
    assert scheduler.running is running
    assert scheduler.submit(Item(2, "b")) == []
    assert not running.cancel.is_cancelled
    assert scheduler.submit(Item(3, "a")) == []
    assert running.cancel.is_cancelled


def test_a_finished_request_is_not_superseded():
    scheduler: Scheduler[Item] = Scheduler()
    finished = Item(1, "a")
    scheduler.submit(finished)
    scheduler.next()
    assert scheduler.next(timeout_s=0) is None
    assert scheduler.running is None
    scheduler.submit(Item(2, "a"))
    assert not finished.cancel.is_cancelled


def test_requests_without_a_document_never_supersede():
    scheduler: Scheduler[Item] = Scheduler()
    assert scheduler.submit(Item(1)) == scheduler.submit(Item(2)) == []
    assert drain(scheduler) == [1, 2]


def test_a_full_queue_refuses_and_changes_nothing():
    scheduler: Scheduler[Item] = Scheduler(max_waiting=2)
    running = Item(0, "r")
    scheduler.submit(running)
    scheduler.next()
    scheduler.submit(Item(1, "a"))
    scheduler.submit(Item(2, "b"))
    with pytest.raises(EngineBusyError) as caught:
        scheduler.submit(Item(3, "r"))
    assert caught.value.n_waiting == 2
    assert not running.cancel.is_cancelled
    assert ids(scheduler.submit(Item(4, "a"))) == [1], "superseding makes its own room"
    assert drain(scheduler) == [2, 4]


def test_cancel_removes_a_waiting_request_and_only_flags_a_running_one():
    scheduler: Scheduler[Item] = Scheduler()
    running, waiting = Item(1), Item(2)
    scheduler.submit(running)
    scheduler.submit(waiting)
    scheduler.next()
    assert scheduler.cancel(1) is None
    assert running.cancel.is_cancelled
    assert scheduler.cancel(2) is waiting
    assert waiting.cancel.is_cancelled
    assert scheduler.cancel(2) is scheduler.cancel(77) is None
    assert scheduler.n_waiting == 0


def test_close_cancels_everything_and_wakes_the_consumer():
    scheduler: Scheduler[Item] = Scheduler()
    running, waiting = Item(1), Item(2)
    scheduler.submit(running)
    scheduler.next()
    scheduler.submit(waiting)
    assert scheduler.close() == [waiting]
    assert running.cancel.is_cancelled
    assert waiting.cancel.is_cancelled
    assert scheduler.next() is None
    with pytest.raises(EngineError, match="closing"):
        scheduler.submit(Item(3))


def test_next_sleeps_until_something_arrives():
    scheduler: Scheduler[Item] = Scheduler()
    received: list[Item | None] = []
    consumer = threading.Thread(target=lambda: received.append(scheduler.next()))
    cpu_s = time.process_time()
    consumer.start()
    time.sleep(0.3)
    assert received == []
    assert time.process_time() - cpu_s < 0.05
    scheduler.submit(Item(5))
    consumer.join(timeout=5)
    assert [item.id for item in received if item] == [5]


def test_next_gives_up_when_the_time_is_up():
    scheduler: Scheduler[Item] = Scheduler()
    start_s = time.monotonic()
    assert scheduler.next(timeout_s=0.05) is None
    assert 0.04 <= time.monotonic() - start_s < 2


def test_a_callback_of_a_superseded_request_may_call_the_scheduler():
    scheduler: Scheduler[Item] = Scheduler()
    old = Item(1, "a")
    old.cancel.on_cancel(lambda: scheduler.cancel(99))
    scheduler.submit(old)
    assert scheduler.submit(Item(2, "a")) == [old]


class NaiveScheduler:
    """The rules, written down without any cleverness."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.waiting: list[Item] = []  # in order of arrival
        self.running: Item | None = None
        self.cancelled: set[int] = set()

    def submit(self, item: Item) -> list[int] | None:
        older = [o for o in self.waiting if item.document and o.document == item.document]
        if len(self.waiting) - len(older) >= self.max_waiting:
            return None
        self.cancelled.update(o.id for o in older)
        if self.running and item.document and self.running.document == item.document:
            self.cancelled.add(self.running.id)
        self.waiting = [o for o in self.waiting if o not in older] + [item]
        return [o.id for o in older]

    def next(self) -> int | None:
        best = min((o.priority for o in self.waiting), default=None)
        self.running = next((o for o in self.waiting if o.priority == best), None)
        if self.running:
            self.waiting.remove(self.running)
        return self.running.id if self.running else None

    def cancel(self, id: int) -> None:
        known = [*self.waiting, *([self.running] if self.running else [])]
        self.cancelled.update(o.id for o in known if o.id == id)
        self.waiting = [o for o in self.waiting if o.id != id]


@pytest.mark.parametrize("seed", range(30))
def test_any_sequence_of_calls_behaves_like_the_naive_scheduler(seed):
    rng = random.Random(seed)
    max_waiting = rng.randint(1, 6)
    scheduler: Scheduler[Item] = Scheduler(max_waiting)
    naive = NaiveScheduler(max_waiting)
    items: list[Item] = []
    for id in range(300):
        match rng.choice(["submit", "submit", "next", "cancel"]):
            case "submit":
                item = Item(id, rng.choice([None, "a", "b", "c"]), rng.randint(0, 2))
                items.append(item)
                try:
                    superseded = sorted(ids(scheduler.submit(item)))
                except EngineBusyError:
                    superseded = None
                assert superseded == naive.submit(item)
            case "next":
                item = scheduler.next(timeout_s=0)
                assert (item.id if item else None) == naive.next()
            case _:
                target = rng.randint(0, id)
                scheduler.cancel(target)
                naive.cancel(target)
        assert scheduler.n_waiting == len(naive.waiting) <= max_waiting
        assert {item.id for item in items if item.cancel.is_cancelled} == naive.cancelled


def test_every_item_submitted_by_many_threads_comes_out_exactly_once():
    scheduler: Scheduler[Item] = Scheduler(max_waiting=10_000)
    superseded: list[int] = []

    def produce(first: int) -> None:
        for i in range(200):
            item = Item(first + i, document=str(i % 7), priority=i % 3)
            superseded.extend(ids(scheduler.submit(item)))

    producers = [threading.Thread(target=produce, args=(n * 1000,)) for n in range(4)]
    for thread in producers:
        thread.start()
    ran: list[int] = []
    while any(thread.is_alive() for thread in producers) or scheduler.n_waiting:
        item = scheduler.next(timeout_s=0.01)
        if item is not None:
            ran.append(item.id)
    expected = [n * 1000 + i for n in range(4) for i in range(200)]
    assert sorted(ran + superseded) == expected


def running_in_background() -> tuple[Scheduler[Item], Item]:
    scheduler: Scheduler[Item] = Scheduler()
    item = Item(1, "block of a", priority=BACKGROUND)
    scheduler.submit(item)
    assert scheduler.next() is item
    return scheduler, item


def test_work_in_the_background_makes_room_and_goes_on_afterwards():
    scheduler, running = running_in_background()
    scheduler.submit(Item(2, "a"))
    assert running.cancel.is_cancelled
    assert scheduler.put_back(Item(1, "block of a", priority=BACKGROUND))
    assert not scheduler.put_back(Item(1, "block of a", priority=BACKGROUND))
    assert drain(scheduler) == [2, 1]


def test_work_in_the_background_does_not_interrupt_its_own_kind():
    scheduler, running = running_in_background()
    scheduler.submit(Item(2, "a", priority=BACKGROUND))
    assert not running.cancel.is_cancelled
    assert not scheduler.put_back(running)


def test_requests_do_not_interrupt_each_other():
    scheduler: Scheduler[Item] = Scheduler()
    running = Item(1, "a", priority=5)
    scheduler.submit(running)
    scheduler.next()
    scheduler.submit(Item(2, "b", priority=0))
    assert not running.cancel.is_cancelled


@pytest.mark.parametrize("end", ["cancelled", "superseded", "closed"])
def test_what_nobody_wants_any_more_is_not_put_back(end: str):
    scheduler, running = running_in_background()
    scheduler.submit(Item(2, "a"))
    match end:
        case "cancelled":
            scheduler.cancel(1)
        case "superseded":
            scheduler.submit(Item(3, "block of a", priority=BACKGROUND))
        case "closed":
            scheduler.close()
    assert not scheduler.put_back(running)


def test_a_scheduler_is_idle_until_something_waits_and_never_once_closed():
    scheduler: Scheduler[Item] = Scheduler()
    assert scheduler.is_idle
    scheduler.submit(Item(1))
    assert not scheduler.is_idle
    scheduler.next()
    assert scheduler.is_idle
    scheduler.close()
    assert not scheduler.is_idle
