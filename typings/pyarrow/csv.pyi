# What we use of PyArrow's reader of CSV; see lib.pyi.
from collections.abc import Mapping, Sequence

from pyarrow.lib import BufferReader, DataType, Table

class ReadOptions:
    def __init__(
        self, *, column_names: Sequence[str] | None = None, use_threads: bool = True, block_size: int | None = None
    ) -> None: ...

class ParseOptions:
    def __init__(self, *, delimiter: str = ",", quote_char: str | bool = '"', double_quote: bool = True) -> None: ...

class ConvertOptions:
    def __init__(
        self, *, column_types: Mapping[str, DataType] | None = None, strings_can_be_null: bool = False
    ) -> None: ...

def read_csv(
    input_file: BufferReader,
    read_options: ReadOptions | None = None,
    parse_options: ParseOptions | None = None,
    convert_options: ConvertOptions | None = None,
) -> Table: ...
