"""Lets the target continue many prompts at once, and finds where a text begins to repeat itself."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.train.target import Target, finish_layer, project_qkv

_PREFILL_TOKENS = 1 << 17  # at a time, so that feed-forward activations stay small
_SEEN_STEP = 128  # keys a step reads: the next multiple of this
_MAX_PERIOD = 64
_MIN_REPEATED = 24  # tokens that repeat what stood one period before, for it to count as a loop


@dataclass(frozen=True)
class Texts:
    """Prompts with the target's continuations: row i is valid up to `ends[i]`, and the target's
    own from `starts[i]` on."""

    ids: Tensor  # (B, S) int32
    starts: Tensor  # (B,) int64
    ends: Tensor  # (B,) int64
    kinds: Tensor  # (B,) int64: whatever the caller calls them
    loops: Tensor  # (B,) bool: the continuation began to repeat itself

    def rows(self, keep: Tensor) -> "Texts":
        return Texts(*(getattr(self, f.name)[keep] for f in fields(self)))

    def joined(self, other: "Texts") -> "Texts":
        both = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Texts(*(torch.cat(pair) for pair in both))


class Generator:
    """Room for `n_rows` sequences of up to `n_positions` tokens.

    On a GPU each step is the replay of a graph, captured once for every number of keys it reads.
    """

    def __init__(self, target: Target, n_rows: int, n_positions: int) -> None:
        self.target = target
        h = target.h
        n_positions = -(-n_positions // _SEEN_STEP) * _SEEN_STEP
        shape = (h.n_layer, 2, n_rows, h.n_kv, n_positions, h.head_dim)
        self.cache = torch.zeros(shape, device=target.device, dtype=target.dtype)
        self._ids = torch.zeros(n_rows, device=target.device, dtype=torch.int64)
        self._position = torch.zeros(1, device=target.device, dtype=torch.int64)
        self._output = torch.zeros(n_rows, h.n_embd, device=target.device, dtype=target.dtype)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    @torch.no_grad()
    def generate(
        self,
        prompts: Tensor,
        lengths: Tensor,
        kinds: Tensor,
        n_positions: int,
        temperature: float = 0.0,
        draws: torch.Generator | None = None,
    ) -> Texts:
        """Continue each prompt until the whole row has `n_positions` tokens.

        prompts (B, P), row i valid up to lengths[i]. Greedy at temperature 0. Texts end after
        the first end token, or where they begin to loop.
        """
        target, n_rows = self.target, prompts.shape[0]
        ids = torch.zeros(n_rows, n_positions, device=target.device, dtype=torch.int64)
        ids[:, : prompts.shape[1]] = prompts
        n_common = int(lengths.min())
        last = self._prefill(ids[:, :n_common])
        for position in range(n_common, n_positions):
            drawn = _draw(target.head(last), temperature, draws)
            is_prompt = position < lengths
            ids[:, position] = torch.where(is_prompt, ids[:, position], drawn)
            if position + 1 < n_positions:
                last = self._step(ids[:, position], position)
        ends, loops = end_of_text(ids, lengths, target.end_ids), start_of_loop(ids, lengths)
        return Texts(ids.to(torch.int32), lengths, torch.minimum(ends, loops), kinds, loops < ends)

    def _prefill(self, ids: Tensor) -> Tensor:
        """Fill the cache; the last row's output of each sequence (B, E)."""
        target, n_tokens = self.target, ids.shape[1]
        cos, sin = target.rope(torch.arange(n_tokens, device=target.device))
        outputs: list[Tensor] = []
        first = 0
        for part in ids.split(max(1, _PREFILL_TOKENS // n_tokens)):
            rows = slice(first, first + len(part))
            x = target.token_embd[part]
            for index, weights in enumerate(target.layers):
                q, k, v = project_qkv(x, weights, cos, sin, target.h)
                self.cache[index, 0, rows, :, :n_tokens] = k
                self.cache[index, 1, rows, :, :n_tokens] = v
                attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                x = finish_layer(x, attended, weights, target.h)
            outputs.append(x[:, -1])
            first += len(part)
        return torch.cat(outputs)

    def _step(self, ids: Tensor, position: int) -> Tensor:
        """Feed one token to every sequence: ids (B,) -> (B, E)."""
        self._ids[: len(ids)] = ids
        self._position.fill_(position)
        n_seen = (position // _SEEN_STEP + 1) * _SEEN_STEP
        if self.target.device.type == "cuda":
            if n_seen not in self._graphs:
                self._graphs[n_seen] = self._capture(n_seen)
            self._graphs[n_seen].replay()
        else:
            self._decode(n_seen)
        return self._output[: len(ids)]

    def _capture(self, n_seen: int) -> torch.cuda.CUDAGraph:
        """Running it first writes this step's keys and values, as the replay will again."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._decode(n_seen)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._decode(n_seen)
        return graph

    def _decode(self, n_seen: int) -> None:
        """self._ids at self._position -> self._output, reading `n_seen` keys, the future masked."""
        target, h = self.target, self.target.h
        x = target.token_embd[self._ids][:, None]
        cos, sin = target.rope(self._position)
        future = torch.arange(n_seen, device=target.device) > self._position
        bias = torch.zeros(n_seen, device=target.device).masked_fill(future, float("-inf"))
        for index, weights in enumerate(target.layers):
            q, k, v = project_qkv(x, weights, cos, sin, h)  # (B, H, 1, D), (B, K, 1, D)
            keys, values = self.cache[index, 0], self.cache[index, 1]
            keys.index_copy_(2, self._position, k)
            values.index_copy_(2, self._position, v)
            grouped = q.reshape(len(x), h.n_kv, -1, h.head_dim)
            scores = (grouped @ keys[:, :, :n_seen].transpose(2, 3)).float()
            shares = (scores * h.head_dim**-0.5 + bias).softmax(-1).to(x.dtype)
            attended = (shares @ values[:, :, :n_seen]).reshape(len(x), h.n_head, 1, h.head_dim)
            x = finish_layer(x, attended, weights, h)
        self._output.copy_(x[:, 0])


def _draw(logits: Tensor, temperature: float, draws: torch.Generator | None) -> Tensor:
    """The likeliest token, or one drawn (Gumbel's way): logits (B, V) -> (B,)."""
    if temperature == 0:
        return logits.argmax(-1)
    noise = torch.empty_like(logits).exponential_(generator=draws)
    return logits.div_(temperature).sub_(noise.log_()).argmax(-1)


def end_of_text(ids: Tensor, starts: Tensor, end_ids: tuple[int, ...]) -> Tensor:
    """Just after the first end token at or after `starts`: ids (B, S), starts (B,) -> (B,)."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    is_end = torch.isin(ids, torch.tensor(end_ids, device=ids.device)) & (
        positions >= starts[:, None]
    )
    return torch.where(is_end, positions + 1, ids.shape[1]).amin(-1)


def start_of_loop(ids: Tensor, starts: Tensor) -> Tensor:
    """Where a row begins to repeat itself: ids (B, S), starts (B,) -> (B,), S where it does not.

    A loop is a run of at least _MIN_REPEATED tokens, at or after `starts`, each equal to the one a
    period before it; the first of them is where it begins.
    """
    n_positions = ids.shape[1]
    positions = torch.arange(n_positions, device=ids.device)
    found = torch.full((ids.shape[0],), n_positions, device=ids.device)
    for period in range(1, min(_MAX_PERIOD, n_positions - 1) + 1):
        is_same = F.pad(ids[:, period:] == ids[:, :-period], (period, 0))
        is_same &= positions >= starts[:, None]
        n_needed = max(_MIN_REPEATED, 2 * period)
        if n_needed > n_positions:
            break
        totals = F.pad(is_same.to(torch.int32).cumsum(-1), (1, 0))
        is_run = totals[:, n_needed:] - totals[:, :-n_needed] == n_needed  # begins here
        begins = torch.where(is_run, positions[: is_run.shape[1]], n_positions).amin(-1)
        found = torch.minimum(found, begins)
    return found
