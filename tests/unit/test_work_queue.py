"""The job queue against a model that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dvr_agent.daemon.work_queue import Priority, QueuedJob, WorkQueue

KEYS = st.sampled_from("abcdef")


class QueueAgainstModel(RuleBasedStateMachine):
    """The model: a list of waiting jobs, searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[int] = WorkQueue()
        self.waiting: list[QueuedJob[int]] = []
        self.busy: set[str] = set()
        self.clock = 0

    @rule(key=KEYS, priority=st.sampled_from(Priority))
    def put(self, key: str, priority: Priority) -> None:
        self.clock += 1
        self.queue.put(key, self.clock, priority, float(self.clock))
        old = next((job for job in self.waiting if job.key == key), None)
        if old is not None and old.priority <= priority:
            self.waiting[self.waiting.index(old)] = QueuedJob(key, self.clock, old.priority, old.since)
            return
        if old is not None:
            self.waiting.remove(old)
        self.waiting.append(QueuedJob(key, self.clock, priority, float(self.clock)))

    @rule()
    def take(self) -> None:
        ready = [job for job in self.waiting if job.key not in self.busy]
        expected = min(ready, key=lambda job: job.priority, default=None)
        assert self.queue.take() == expected
        if expected is not None:
            self.waiting.remove(expected)
            self.busy.add(expected.key)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.busy)))
        self.queue.done(key)
        self.busy.discard(key)

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.queue.discard(key)
        self.waiting = [job for job in self.waiting if job.key != key]

    @invariant()
    def same_jobs_wait(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert sorted(self.queue, key=lambda job: job.key) == sorted(self.waiting, key=lambda job: job.key)
        assert self.queue.busy == self.busy
        assert all((key in self.queue) == any(job.key == key for job in self.waiting) for key in "abcdef")


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_change_overtakes_retries_syncs_and_audits() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number, priority in enumerate(reversed(Priority)):
        queue.put(priority.name, "work", priority, number)
    taken = []
    while (job := queue.take()) is not None:
        taken.append(job.priority)
    assert taken == [Priority.EVENT, Priority.RETRY, Priority.DRIFT, Priority.RESYNC, Priority.AUDIT]


def test_many_updates_of_one_router_become_one_job_with_the_newest_word_and_the_first_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number, word in enumerate(("change", "delete", "change again")):
        queue.put("r", word, Priority.EVENT, 10.0 + number)
    assert queue.take() == QueuedJob("r", "change again", Priority.EVENT, 10.0)
    queue.done("r")
    assert queue.take() is None


def test_a_router_is_never_worked_on_twice_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.put("r", "first", Priority.EVENT, 1)
    assert queue.take() is not None
    queue.put("r", "second", Priority.EVENT, 2)
    queue.put("other", "work", Priority.AUDIT, 3)
    other = queue.take()
    assert other is not None
    assert other.key == "other"
    assert queue.take() is None
    queue.done("r")
    assert queue.take() == QueuedJob("r", "second", Priority.EVENT, 2)


def test_a_change_that_joins_a_waiting_audit_counts_its_latency_from_the_change() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.put("r", "audit", Priority.AUDIT, 1)
    queue.put("r", "change", Priority.EVENT, 50)
    assert queue.take() == QueuedJob("r", "change", Priority.EVENT, 50)
