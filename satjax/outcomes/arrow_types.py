"""What an Arrow column holds, however it is stored: writers of Parquet differ in that."""

import pyarrow as pa


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, also where they stand in a dictionary (pandas' and Polars' categories)."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text: in 32 or 64 bits, as views or in a dictionary."""
    kind = value_type(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
