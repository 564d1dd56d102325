"""The processes that train together: one per GPU under torchrun, else this one alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    rank: int
    n: int
    device: torch.device

    @classmethod
    def join(cls) -> "Workers":
        """Join the group torchrun describes, if it started this process."""
        n = int(os.environ.get("WORLD_SIZE", "1"))
        has_gpu = torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
        if has_gpu:
            torch.cuda.set_device(device)
        if n > 1:
            dist.init_process_group("nccl" if has_gpu else "gloo")
        return cls(int(os.environ.get("RANK", "0")), n, device)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all workers, in one exchange."""
        if self.n == 1:
            return
        kept = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in kept])
        dist.all_reduce(flat)
        flat /= self.n
        parts = flat.split([tensor.numel() for tensor in kept])
        for tensor, part in zip(kept, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def from_first(self, values: list[float]) -> list[float]:
        """What the first worker says."""
        if self.n == 1:
            return values
        tensor = torch.tensor(values, device=self.device, dtype=torch.float64)
        dist.broadcast(tensor, 0)
        return tensor.tolist()

    def sum_(self, tensor: Tensor) -> Tensor:
        if self.n > 1:
            dist.all_reduce(tensor)
        return tensor

    def leave(self) -> None:
        if self.n > 1:
            dist.destroy_process_group()
