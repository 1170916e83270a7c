"""The dual-annotated database: WebDataset tar shards with a Parquet label index, written, read and
streamed.
"""
