import threading

from engine.cancel import CancelToken


def test_callbacks_run_once_and_at_once_when_late():
    token, calls = CancelToken(), []
    token.on_cancel(lambda: calls.append("early"))
    assert not token.is_cancelled
    assert calls == []
    token.cancel()
    token.cancel()
    assert token.is_cancelled
    assert calls == ["early"]
    token.on_cancel(lambda: calls.append("late"))
    assert calls == ["early", "late"]


def test_a_callback_sees_the_token_cancelled_and_may_use_it():
    token, seen = CancelToken(), []

    def callback() -> None:
        seen.append(token.is_cancelled)
        token.cancel()
        token.on_cancel(lambda: seen.append("nested"))

    token.on_cancel(callback)
    token.cancel()
    assert seen == [True, "nested"]


def test_every_callback_runs_exactly_once_when_registered_and_cancelled_from_many_threads():
    for _ in range(50):
        token, calls, start = CancelToken(), [], threading.Barrier(4)

        def register(token=token, calls=calls, start=start) -> None:
            start.wait()
            for i in range(20):
                token.on_cancel(lambda i=i: calls.append(i))

        def cancel(token=token, start=start) -> None:
            start.wait()
            token.cancel()

        threads = [threading.Thread(target=t) for t in (register, register, cancel, cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(calls) == sorted([*range(20), *range(20)])


def test_a_forgotten_callback_never_runs():
    token, calls = CancelToken(), []
    forget = token.on_cancel(lambda: calls.append("forgotten"))
    token.on_cancel(lambda: calls.append("kept"))
    forget()
    forget()
    token.cancel()
    assert calls == ["kept"]


def test_forgetting_waits_for_a_callback_that_is_running():
    token, entered, leave, log = CancelToken(), threading.Event(), threading.Event(), []

    def callback() -> None:
        entered.set()
        leave.wait(5)
        log.append("ran")

    forget = token.on_cancel(callback)
    canceller = threading.Thread(target=token.cancel)
    canceller.start()
    entered.wait(5)
    threading.Timer(0.1, leave.set).start()
    forget()
    log.append("forgotten")
    canceller.join()
    assert log == ["ran", "forgotten"]
