import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lsp_server.jobs import Jobs, SupersededError, TooManyJobsError

DOCUMENT = "file:///a.py"


class Work:
    """A job that runs until it is let go, and remembers what became of it."""

    def __init__(self) -> None:
        self.began, self.let_go, self.was_cancelled = asyncio.Event(), asyncio.Event(), False

    async def __call__(self) -> str:
        self.began.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return "done"


def instantly(value: str) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        return value

    return work


async def test_a_job_returns_what_its_work_returns() -> None:
    jobs: Jobs[str] = Jobs()
    assert await jobs.run(DOCUMENT, instantly("text")) == "text"
    assert len(jobs) == 0


async def test_a_newer_job_of_the_document_supersedes_a_running_one() -> None:
    jobs: Jobs[str] = Jobs()
    work = Work()
    older = asyncio.create_task(jobs.run(DOCUMENT, work))
    await work.began.wait()
    assert await jobs.run(DOCUMENT, instantly("newer")) == "newer"
    with pytest.raises(SupersededError):
        await older
    assert work.was_cancelled
    assert len(jobs) == 0


async def test_jobs_of_other_documents_go_on() -> None:
    jobs: Jobs[str] = Jobs()
    work = Work()
    other = asyncio.create_task(jobs.run("file:///b.py", work))
    await work.began.wait()
    await jobs.run(DOCUMENT, instantly("text"))
    work.let_go.set()
    assert await other == "done"


async def test_of_a_burst_only_the_last_job_begins() -> None:
    jobs: Jobs[str] = Jobs()
    begun: list[int] = []

    def work(number: int) -> Callable[[], Awaitable[str]]:
        async def begin() -> str:
            begun.append(number)
            return str(number)

        return begin

    burst = [asyncio.create_task(jobs.run(DOCUMENT, work(n), debounce_s=0.02)) for n in range(20)]
    results = await asyncio.gather(*burst, return_exceptions=True)
    assert begun == [19]
    assert results[-1] == "19"
    assert all(isinstance(result, SupersededError) for result in results[:-1])


async def test_cancelling_the_caller_cancels_the_work() -> None:
    jobs: Jobs[str] = Jobs()
    work = Work()
    caller = asyncio.create_task(jobs.run(DOCUMENT, work))
    await work.began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.was_cancelled
    assert len(jobs) == 0


async def test_a_caller_cancelled_while_superseded_is_cancelled() -> None:
    jobs: Jobs[str] = Jobs()
    work = Work()
    caller = asyncio.create_task(jobs.run(DOCUMENT, work))
    await work.began.wait()
    jobs.drop(DOCUMENT)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_dropped_document_supersedes_its_job() -> None:
    jobs: Jobs[str] = Jobs()
    work = Work()
    caller = asyncio.create_task(jobs.run(DOCUMENT, work))
    await work.began.wait()
    jobs.drop(DOCUMENT)
    with pytest.raises(SupersededError):
        await caller


async def test_a_failing_job_fails_its_caller_and_leaves_nothing_behind() -> None:
    async def fail() -> str:
        raise ValueError("no")

    jobs: Jobs[str] = Jobs()
    with pytest.raises(ValueError, match="no"):
        await jobs.run(DOCUMENT, fail)
    assert len(jobs) == 0


async def test_too_many_documents_are_refused_but_a_known_one_may_ask_again() -> None:
    jobs: Jobs[str] = Jobs(max_jobs=2)
    works = [Work(), Work()]
    callers = [asyncio.create_task(jobs.run(f"file:///{i}", w)) for i, w in enumerate(works)]
    await asyncio.gather(*(work.began.wait() for work in works))
    with pytest.raises(TooManyJobsError, match="2"):
        await jobs.run(DOCUMENT, instantly("text"))
    assert await jobs.run("file:///0", instantly("text")) == "text"
    works[1].let_go.set()
    assert await callers[1] == "done"
    with pytest.raises(SupersededError):
        await callers[0]
