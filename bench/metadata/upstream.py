"""Stands in for neutron-metadata-agent: answers on a Unix socket after some milliseconds, so many at a time."""

from __future__ import annotations

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\nConnection: close\r\n\r\n00000000-0000-0000-0000-000000000000"


async def serve(path: str, seconds: float, workers: int) -> None:
    """:param workers: requests that are worked on at a time; the others wait"""
    free = asyncio.Semaphore(workers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            async with free:
                await asyncio.sleep(seconds)
            writer.write(ANSWER)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, path, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
