"""The kernels' arguments, as native/gpu declares them. Addresses are 64-bit numbers; structures
have the same members in the same order there, and an emulated launch compares their sizes.
"""

from ctypes import Structure, c_float, c_int, c_int64, c_uint32, c_uint64

_address = c_uint64


class StepHead(Structure):
    """step.h's Step."""

    _fields_ = [
        ("n_rows", c_int),
        ("n_past", c_int),
        ("n_out_rows", c_int),
        ("is_chain", c_int),
        ("tokens", _address),
        ("positions", _address),
        ("depth", _address),
        ("out_rows", _address),
        ("blocks", _address),
        ("path", _address),
        ("told", _address),
    ]


class LinearPart(Structure):
    _fields_ = [
        ("quants", _address),
        ("scales", _address),
        ("bias", _address),
        ("residual", _address),
        ("out", _address),
        ("format", c_int),
        ("n_out", c_int),
        ("first_tile", c_int),
        ("target", c_int),
    ]


MOST_PARTS = 8  # linear.h: kMostParts


class Ahead(Structure):
    _fields_ = [("at", _address), ("n_bytes", c_int64)]


class EmbedArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("quants", _address),
        ("scales", _address),
        ("out", _address),
        ("format", c_int),
        ("n_cols", c_int),
    ]


class AdvanceArgs(Structure):
    _fields_ = [
        ("embed", EmbedArgs),
        ("step", _address),
        ("chosen", _address),
        ("told", _address),
    ]


class NormArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("x", _address),
        ("weight", _address),
        ("out", _address),
        ("width", c_int),
        ("group", c_int),
        ("is_selected", c_int),
        ("eps", c_float),
    ]


class Rounding(Structure):
    """rounding.h's: what is rounded, and how."""

    _fields_ = [
        ("x", _address),
        ("other", _address),
        ("width", c_int),
        ("source", c_int),
        ("is_super", c_int),
        ("eps", c_float),
    ]


class QuantizeArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("rounding", Rounding),
        ("out", _address),
        ("scales", _address),
        ("is_selected", c_int),
        ("pad", c_int),
    ]


class SiluMulArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("gate", _address),
        ("up", _address),
        ("out", _address),
        ("width", c_int),
        ("is_selected", c_int),
    ]


class CopyPart(Structure):
    _fields_ = [("x", _address), ("width", c_int), ("first", c_int)]


MOST_COPIES = 8  # rows.h: kMostCopies


class CopyArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("out", _address),
        ("n_parts", c_int),
        ("out_width", c_int),
        ("is_selected", c_int),
        ("takes_selected", c_int),
        ("parts", CopyPart * MOST_COPIES),
    ]


class KvPlace(Structure):
    _fields_ = [
        ("memory", _address),
        ("block_stride", c_int64),
        ("layer_offset", c_int64),
        ("n_kv", c_int),
        ("head_dim", c_int),
    ]


class RopeWriteArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("kv", KvPlace),
        ("q", _address),
        ("k", _address),
        ("v", _address),
        ("table", _address),
        ("n_head", c_int),
        ("n_pairs", c_int),
        ("is_neox", c_int),
        ("is_q_selected", c_int),
    ]


class HeadsArgs(Structure):
    _fields_ = [
        ("turning", RopeWriteArgs),
        ("q_from", _address),
        ("k_from", _address),
        ("q_weight", _address),
        ("k_weight", _address),
        ("eps", c_float),
        ("pad", c_int),
    ]


class KvStoreArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("kv", KvPlace),
        ("q", _address),
        ("k", _address),
        ("v", _address),
        ("n_head", c_int),
        ("is_q_selected", c_int),
    ]


MOST_MOVES = 64  # kv.h: kMostMoves


class KvMoveArgs(Structure):
    _fields_ = [
        ("memory", _address),
        ("layers", _address),
        ("block_stride", c_int64),
        ("n_moves", c_int),
        ("moves", c_int * 2 * MOST_MOVES),
        ("pad", c_int),
    ]


class FollowArgs(Structure):
    _fields_ = [
        ("tree", _address),
        ("chosen", _address),
        ("next", _address),
        ("memory", _address),
        ("layers", _address),
        ("block_stride", c_int64),
    ]


class AttentionArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("kv", KvPlace),
        ("q", _address),
        ("out", _address),
        ("partial", _address),
        ("n_head", c_int),
        ("window", c_int),
        ("is_block", c_int),
        ("is_selected", c_int),
        ("n_splits", c_int),
        ("scale", c_float),
        ("group", c_int),
        ("group_share", c_uint32),
        ("tiles_shift", c_int),
        ("pad", c_int),
    ]


class Turning(Structure):
    _fields_ = [
        ("kv", KvPlace),
        ("table", _address),
        ("is_neox", c_int),
        ("head_shift", c_int),
    ]


class LinearArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("x", _address),
        ("x_scales", _address),
        ("n_parts", c_int),
        ("n_blocks", c_int),
        ("is_selected", c_int),
        ("n_ahead", c_int),
        ("n_tiles", c_int),
        ("tiles_of_block", c_int),
        ("staged_bytes", c_int),
        ("pad", c_int),
        ("rounding", Rounding),
        ("attention", AttentionArgs),
        ("turning", Turning),
        ("best", _address),
        ("parts", LinearPart * MOST_PARTS),
        ("ahead", Ahead * (2 * MOST_PARTS)),
    ]


class SparseArgs(Structure):
    _fields_ = [
        ("attention", AttentionArgs),
        ("means", _address),
        ("shares", _address),
        ("splits", _address),
        ("block", c_int),
        ("n_sink", c_int),
        ("n_window", c_int),
        ("most_blocks", c_int),
        ("alpha", c_float),
        ("pad", c_int),
    ]


class SharesArgs(Structure):
    _fields_ = [
        ("q", _address),
        ("keys", _address),
        ("parts", _address),
        ("totals", _address),
        ("out", _address),
        ("n_rows", c_int),
        ("n_head", c_int),
        ("n_kv", c_int),
        ("n_keys", c_int),
        ("scale", c_float),
        ("pad", c_int),
    ]


class MergeArgs(Structure):
    _fields_ = [
        ("attention", AttentionArgs),
        ("rounded", _address),
        ("scales", _address),
        ("is_super", c_int),
        ("pad", c_int),
    ]


class ChooseArgs(Structure):
    _fields_ = [
        ("step", _address),
        ("x", _address),
        ("keys", _address),
        ("sums", _address),
        ("ids", _address),
        ("values", _address),
        ("width", c_int),
        ("n_chunks", c_int),
        ("k", c_int),
        ("is_log_softmax", c_int),
        ("is_told", c_int),
        ("pad", c_int),
    ]
