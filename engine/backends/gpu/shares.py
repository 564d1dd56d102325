"""What the queries of a text's end attend to among stored keys (native/gpu/shares.h)."""

from collections.abc import Callable, Sequence

import numpy as np

from engine.backends.backend import Floats, Halves
from engine.backends.gpu.args import SharesArgs
from engine.backends.gpu.device_weights import DeviceWeights
from engine.backends.gpu.driver import Driver, Function
from engine.backends.gpu.launch import THREADS
from engine.errors import NativeError

_KEY_THREADS, _WARP = 128, 32
_DIMS = (32, 64, 128)


class AttentionShares:
    """Implements `Backend.attention_shares`. Keys come from the host, who keeps those of many
    texts: a layer's are uploaded when they are asked for."""

    def __init__(
        self, driver: Driver, functions: Callable[[str], Function], device: DeviceWeights
    ) -> None:
        self._driver, self._functions, self._device = driver, functions, device

    def __call__(self, queries: Floats, keys: Sequence[Halves], layer: int, scale: float) -> Floats:
        q = np.ascontiguousarray(queries[:, layer])  # (T, H, D)
        n_rows, n_head, dims = q.shape
        if dims not in _DIMS:
            raise NativeError("shares", f"heads of {dims}, expected one of {_DIMS}")
        of_layer = [array[:, layer].transpose(1, 0, 2) for array in keys]
        k = np.ascontiguousarray(np.concatenate(of_layer, axis=1))  # (K, N, D)
        n_kv, n_keys, _ = k.shape
        out = np.empty(n_keys, np.float32)
        if n_keys == 0:
            return out
        n_queries = n_rows * n_head
        sizes = (q.nbytes, k.nbytes, 8 * n_queries * -(-n_keys // _WARP), 8 * n_queries, out.nbytes)
        starts = np.cumsum([0, *(-(-size // 256) * 256 for size in sizes)]).tolist()
        # A power of two, so that growing texts seldom take a new place.
        room = self._device.scratch(1 << (starts[-1] - 1).bit_length())
        places = [room + start for start in starts[:-1]]
        args = SharesArgs(*places, n_rows, n_head, n_kv, n_keys, scale, 0)
        self._driver.upload(places[0], q)
        self._driver.upload(places[1], k)
        n_x = -(-n_keys // _KEY_THREADS)
        launch, functions = self._driver.launch, self._functions
        launch(functions(f"shares_parts_{dims}"), (n_x, n_kv, 1), _KEY_THREADS, args)
        n_totals = -(-n_queries // (THREADS // _WARP))
        launch(functions("shares_totals"), (n_totals, 1, 1), THREADS, args)
        launch(functions(f"shares_{dims}"), (n_x, 1, 1), _KEY_THREADS, args)
        self._driver.download(out, places[-1])
        self._driver.synchronize()
        return out
