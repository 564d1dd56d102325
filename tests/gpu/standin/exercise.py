"""Uses one driver over its stand-in, in a process of its own: `exercise.py hip|cuda|emulated
SCENARIO [ARGUMENT]`. Prints "class: message" of the error a scenario ends with, or its result.
"""

import sys
from collections.abc import Callable
from ctypes import Structure, c_int, c_uint64

import numpy as np

from engine.backends.gpu.driver import Driver
from engine.backends.gpu.opening import open_driver
from engine.backends.gpu.source import kernel_source
from engine.cancel import CancelToken
from engine.config import EngineConfig, KvCacheType
from engine.engine import Engine
from engine.errors import EngineError
from engine.request import GenerateRequest, PromptPart

KV_TYPES: tuple[KvCacheType, ...] = ("f16", "q8_0")
GENERATION = GenerateRequest(prompt=(PromptPart("hello hello hello"),), max_tokens=12)

ADD = """
struct AddArgs { const float* x; float* out; int n; };
KERNEL(add_to, 64, AddArgs) {
    begin_after_others();
    const int i = block_x() * 64 + thread_index();
    if (i < a.n) a.out[i] += a.x[i];
}
"""


class AddArgs(Structure):
    _fields_ = [("x", c_uint64), ("out", c_uint64), ("n", c_int)]


def add_kernel() -> str:
    return kernel_source("platform.h") + ADD


def every_call(driver: Driver, _: str) -> object:
    """Launches alone and recorded; returns what the device says of itself."""
    n, free_before = 1000, driver.free_bytes()
    x = np.arange(n, dtype=np.float32)
    host = driver.allocate_host(4 * n).view(np.float32)
    addresses = [driver.allocate(4 * n) for _ in range(3)]
    on_device, out, copy = addresses
    function = driver.load(driver.compile(add_kernel()))("add_to")

    def add() -> None:
        args = AddArgs(on_device, out, n)
        driver.launch(function, (-(-n // 64), 1, 1), 64, args)
        args.n = 0  # the driver has read it by now

    host[:] = 1
    driver.upload(on_device, x)
    driver.upload(out, host)
    add()
    driver.copy(copy, out, 4 * n)
    found = np.empty(n, np.float32)
    driver.download(found, copy)
    driver.synchronize()
    np.testing.assert_array_equal(found, x + 1)

    graph = driver.record(lambda: (driver.upload(out, host), add(), driver.download(found, out)))
    np.testing.assert_array_equal(found, x + 1)  # recorded, not done
    for value in (5, 7):
        host[:] = value
        driver.run(graph)
        driver.synchronize()
        np.testing.assert_array_equal(found, x + value)
    for address in addresses:
        driver.free(address)
    assert driver.name == "emulated" or driver.free_bytes() == free_before
    return [driver.name, driver.device, driver.arch, driver.is_unified, driver.compiler()]


def too_much(driver: Driver, _: str) -> object:
    return driver.allocate(2**40)


def until_lost(driver: Driver, _: str) -> object:
    """Whatever fails first, everything after it fails the same way."""
    address = driver.allocate(4096)
    try:
        driver.upload(address, np.zeros(4096, np.uint8))
        driver.synchronize()
    except EngineError as first:
        try:
            driver.allocate(4096)
        except EngineError as second:
            assert type(second) is type(first)
            raise first from None
    return "nothing was lost"


def outside(driver: Driver, _: str) -> object:
    """Writes behind the end of an allocation."""
    address = driver.allocate(4096)
    driver.upload(address + 4096, np.zeros(1, np.uint8))
    return driver.synchronize()


def bad_source(driver: Driver, _: str) -> object:
    return driver.compile(add_kernel() + "int broken() { return unknown_name; }")


def bad_image(driver: Driver, _: str) -> object:
    return driver.load(b"no image" * 100)


def bad_name(driver: Driver, _: str) -> object:
    return driver.load(driver.compile(add_kernel()))("unknown_kernel")


def generate(driver: Driver, model: str) -> object:
    """Greedy tokens of a model, drafted and plain, over each type of KV cache; those of f16."""
    found: dict[tuple[KvCacheType, str], list[int]] = {}
    for kv_type in KV_TYPES:
        for speculation in ("off", "lookup"):
            config = EngineConfig(
                model=model,
                backend=driver.name,
                speculation=speculation,
                kv_type=kv_type,
                prefix_cache_bytes=2**16,
            )
            engine = Engine.load(config)
            found[kv_type, speculation] = engine.generate(GENERATION, CancelToken()).tokens
            assert engine.info.backend.startswith(driver.name), engine.info.backend
        assert found[kv_type, "off"] == found[kv_type, "lookup"], found
    return found["f16", "off"]


SCENARIOS: dict[str, Callable[[Driver, str], object]] = {
    "every-call": every_call,
    "too-much": too_much,
    "until-lost": until_lost,
    "outside": outside,
    "bad-source": bad_source,
    "bad-image": bad_image,
    "bad-name": bad_name,
    "generate": generate,
    "nothing": lambda driver, _: "opened",
}


def main() -> None:
    backend, scenario, *more = sys.argv[1:]
    try:
        print(SCENARIOS[scenario](open_driver(backend), more[0] if more else ""))
    except EngineError as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
