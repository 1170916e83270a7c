"""One connection to Redis that short questions share: those asked in the same turn of the event loop, or while others are under way,
go together. A pool's connection for each costs three times the processor time, most of it the pool's.
"""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import ResponseError

Command = tuple[bytes | str | int, ...]


class PipelinedConnection:
    """Answers come as results of futures, faults too: an exception that nobody fetches is no news."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._connection = pool.connection_class(
            **(pool.connection_kwargs | {"socket_timeout": None})
        )  # one timeout, around all of it
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._carrying: asyncio.Task[None] | None = None

    def ask(self, command: Command, seconds: float) -> asyncio.Future[Any]:
        """The answer, or the exception, of a command. `seconds` is what it has from when it is sent; whoever leaves disturbs nobody."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._carrying is None:
            self._carrying = asyncio.create_task(self._carry(seconds))
        return answer

    async def close(self) -> None:
        """Wait for what is under way, and disconnect."""
        if self._carrying is not None:
            await self._carrying
        await self._connection.disconnect()

    async def _carry(self, seconds: float) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(seconds):
                    await self._exchange(batch)
            except Exception as error:  # whoever asked will say what it means; what is left would wait as long for nothing
                await self._connection.disconnect(nowait=True)
                for _, answer in [*batch, *self._waiting]:
                    _tell(answer, error)
                self._waiting = []
        self._carrying = None

    async def _exchange(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        connection = self._connection
        if (
            connection.is_connected and await connection.can_read()
        ):  # nothing was asked: it was closed meanwhile, or is out of step
            await connection.disconnect(nowait=True)
        await connection.send_packed_command(
            connection.pack_commands([command for command, _ in batch]), check_health=False
        )
        for _, answer in batch:
            try:
                _tell(answer, await connection.read_response())
            except ResponseError as refusal:  # of this one; the next answer is the next command's
                _tell(answer, refusal)


def _tell(answer: asyncio.Future[Any], told: Any) -> None:
    if not answer.done():
        answer.set_result(told)
