"""The same model with every matrix as F32: the file on which two engines can be compared exactly.

With quantized weights llama.cpp rounds activations to 8 bits before each product, and that noise
alone flips the most likely token at 1 to 4 positions in 100. In F32 it is gone.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write_f32_copy(source: Path | str, target: Path | str) -> None:
    """Copy a GGUF with its matrices dequantized; the token embedding, only looked up in, stays.

    A tied embedding is a matrix as well, and is dequantized. Takes about 4 bytes per parameter.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(_contents(reader.fields["general.architecture"])))
    for field in reader.fields.values():
        _copy_field(writer, field)
    is_tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    for tensor in reader.tensors:
        shape, weight_type = tensor.shape[::-1].tolist(), tensor.tensor_type
        if tensor.name == "token_embd.weight" and not is_tied:
            n_bytes = int(tensor.n_bytes)
            writer.add_tensor_info(
                tensor.name, tensor.data.shape, tensor.data.dtype, n_bytes, raw_dtype=weight_type
            )
        else:
            dtype = np.dtype(np.float32)
            writer.add_tensor_info(tensor.name, shape, dtype, 4 * int(tensor.n_elements))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        if tensor.name == "token_embd.weight" and not is_tied:
            writer.write_tensor_data(np.asarray(tensor.data))
        else:
            writer.write_tensor_data(gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.close()


def _copy_field(writer: gguf.GGUFWriter, field: gguf.ReaderField) -> None:
    """The header's own counts and the architecture are the writer's; all else is copied."""
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
        return
    value_type = field.types[0]
    element_type = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, _contents(field), value_type, element_type)


def _contents(field: gguf.ReaderField) -> Any:
    return field.contents()
