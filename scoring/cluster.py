"""The same chunks on a Ray cluster: tasks open shards, an actor pool of models reads chunks,
results come back in order.

Ray Data plans, moves, retries and restarts. A shard is opened wherever there is room, so its files
must be reachable from every node (object storage, or a shared disk). Each chunk comes back once,
and the driver alone writes the table: exactly one row a face, whichever node dies.
"""

import logging
import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scoring.chunks import Chunk, chunks
from scoring.sources import Position, Shard, SourceError
from scoring.workers import ChunkReader, Readings, ReadOptions

CONNECT_SECONDS = 5.0
OPENING_CPUS = 0.25  # of a core, for a task that opens shards: decoding beside the models that read
# Of a core, for a model. Ray spreads models over the nodes; half of what is left of a core lets the
# models of a node that died begin again on those that are left, where Ray would wait for a new one.
MODEL_CPUS = (1 - OPENING_CPUS) / 2
Row = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """Where to read, and with how many models."""

    address: str
    options: ReadOptions
    models: int


def read_on_ray(
    cluster: Cluster, all_shards: Sequence[Shard], every: int, first: int, position: Position | None
) -> Iterator[tuple[Chunk, Readings]]:
    """Chunks with their readings in order, from a position in the first shard on.

    Raises SourceError when there is no Ray, no cluster, or it is lost.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as error:
        raise SourceError("--ray needs Ray: pip install 'affectgan[ray]'") from error
    _connect(ray, cluster.address)
    rows = [
        {"number": number, "shard": pickle.dumps((shard, position if number == first else None))}
        for number, shard in enumerate(all_shards)
        if number >= first
    ]
    try:
        for row in _dataset(ray, cluster, rows, every).iter_rows():
            yield pickle.loads(row["read"])
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise SourceError(
            f"the Ray cluster gave up ({reason}); what was read is kept: go on with --resume"
        ) from error


def _connect(ray: Any, address: str) -> None:
    """Connect to the cluster at an address; "auto" is the one that runs here, or a new one on this
    machine.
    """
    if ray.is_initialized():
        return
    logging = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "auto":
        _check_listening(address)
    try:
        ray.init(address=address, **logging)
    except ConnectionError as error:
        if address != "auto":
            raise SourceError(f"no Ray cluster at {address}: {error}") from error
        ray.init(include_dashboard=False, **logging)


def _check_listening(address: str) -> None:
    """Check that the address listens, since Ray itself retries for minutes. Raises SourceError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise SourceError(f"no Ray cluster at {address} ({error}); give host:port") from error


def _dataset(ray: Any, cluster: Cluster, rows: Sequence[Row], every: int) -> Any:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is the command's own
    chunks = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _open, batch_size=1, fn_kwargs={"every": every}, num_cpus=OPENING_CPUS
    )
    return chunks.map_batches(
        _Actor,
        fn_constructor_args=(cluster.options,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=cluster.models),
        num_cpus=MODEL_CPUS,
        num_gpus=int(cluster.options.device.startswith("cuda")),
    )


def _open(batch: Row, every: int) -> Iterator[Row]:
    """One shard as its chunks, one after the other: a shard need not fit into memory."""
    shard, position = pickle.loads(batch["shard"][0])
    number = int(batch["number"][0])
    for chunk in chunks(number, shard, every=every, position=position):
        yield {"chunk": [pickle.dumps(chunk)]}


class _Actor:
    """A model on one core or one GPU."""

    def __init__(self, options: ReadOptions) -> None:
        self.read = ChunkReader(options)

    def __call__(self, batch: Row) -> Row:
        chunk: Chunk = pickle.loads(batch["chunk"][0])
        readings = self.read(chunk)
        # The pictures stay here: only readings are returned.
        return {"read": [pickle.dumps((chunk.without_pictures(), readings))]}
