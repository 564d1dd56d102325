"""Weights as a backend takes them: the file's own bytes, or Q8_0 where the type is not native."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from engine.errors import UnsupportedModelError
from engine.gguf.reader import GgufFile, TensorInfo
from engine.ops import Weight

_Q8_BLOCK = 32


@dataclass
class Weights:
    """The tensors' shapes by name, and their bytes once `load` was asked for them.

    `notices` says in words what had to be converted.
    """

    infos: Mapping[str, Weight]
    notices: list[str] = field(default_factory=list[str])


def describe(gguf_file: GgufFile, is_native: Callable[[int], bool]) -> Weights:
    """Shapes and the types that `load` will deliver; reads no weight.

    Vectors have n_out 1; tensors of more than two dimensions fold the rest into n_out.
    """
    infos: dict[str, Weight] = {}
    converted: dict[str, int] = {}
    for name, tensor in gguf_file.tensors.items():
        n_cols = tensor.shape[0]
        n_out = int(np.prod(tensor.shape[1:], dtype=np.int64)) if len(tensor.shape) > 1 else 1
        target = tensor.ggml_type
        if not is_native(int(target)):
            target = _substitute(tensor)
            converted[tensor.ggml_type.name] = converted.get(tensor.ggml_type.name, 0) + 1
        infos[name] = Weight(name, n_out, n_cols, int(target))
    notices = [
        f"{n} tensors of type {name} are converted to Q8_0 at load: they take more memory"
        for name, n in converted.items()
    ]
    return Weights(infos, notices)


def load(gguf_file: GgufFile, weight: Weight) -> NDArray[np.uint8]:
    """The bytes of one tensor in the type `describe` promised: a view of the map where it can be.

    Raises UnsupportedModelError if gguf cannot dequantize the file's type.
    """
    tensor = gguf_file.tensors[weight.name]
    raw = gguf_file.data(weight.name)
    if int(tensor.ggml_type) == weight.type_id:
        return raw
    try:
        values = gguf.dequantize(raw.reshape(weight.n_out, -1), tensor.ggml_type)
    except NotImplementedError as error:
        raise UnsupportedModelError("weight type", tensor.ggml_type.name, _readable()) from error
    values = np.ascontiguousarray(values, dtype=np.float32)
    packed = gguf.quantize(values, GGMLQuantizationType(weight.type_id))
    return np.ascontiguousarray(packed).reshape(-1).view(np.uint8)


def row_bytes(weight: Weight) -> int:
    """Bytes of one row in the weight's (not the file's) type."""
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(weight.type_id)]
    return weight.n_cols // block_elements * block_bytes


def _substitute(tensor: TensorInfo) -> GGMLQuantizationType:
    is_blockwise = tensor.shape[0] % _Q8_BLOCK == 0 and len(tensor.shape) > 1
    return GGMLQuantizationType.Q8_0 if is_blockwise else GGMLQuantizationType.F32


def _readable() -> list[str]:
    return ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K..Q6_K", "IQ*"]
