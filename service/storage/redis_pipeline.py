"""One connection to Redis that short commands share.

Those sent in the same turn of the event loop, or while others are under way, are sent together. A
pooled connection for each costs three times the processor time, most of it in the pool.
"""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import ResponseError

Command = tuple[bytes | str | int, ...]


class PipelinedConnection:
    """Answers are results of futures, and so are errors: an error that is never awaited is not
    reported.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        # One timeout, around all of an exchange.
        options = pool.connection_kwargs | {"socket_timeout": None}
        self._connection = pool.connection_class(**options)
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    def send(self, command: Command, seconds: float) -> asyncio.Future[Any]:
        """The answer of a command, or its exception. It has `seconds` from when it is sent.

        Cancelling the future disturbs no other command.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_waiting(seconds))
        return answer

    async def close(self) -> None:
        """Wait for pending commands, and disconnect."""
        if self._sender is not None:
            await self._sender
        await self._connection.disconnect()

    async def _send_waiting(self, seconds: float) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(seconds):
                    await self._exchange(batch)
            except Exception as error:  # the commands behind it would time out as well
                await self._connection.disconnect(nowait=True)
                for _, answer in [*batch, *self._waiting]:
                    _resolve(answer, error)
                self._waiting = []
        self._sender = None

    async def _exchange(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        connection = self._connection
        # Nothing is expected: if there is something to read, it was closed or is out of step.
        if connection.is_connected and await connection.can_read():
            await connection.disconnect(nowait=True)
        packed = connection.pack_commands([command for command, _ in batch])
        await connection.send_packed_command(packed, check_health=False)
        for _, answer in batch:
            try:
                _resolve(answer, await connection.read_response())
            except ResponseError as refusal:  # of this command only
                _resolve(answer, refusal)


def _resolve(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)
