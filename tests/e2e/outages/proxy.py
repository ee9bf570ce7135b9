"""Forwards TCP connections on ANB_PORT to the same port of ANB_HOST. Runs in a pod with the API's image.

While no such pod runs, the clients of the proxy cannot reach the host.
"""

import asyncio
import os
from asyncio import StreamReader, StreamWriter

HOST, PORT = os.environ["ANB_HOST"], int(os.environ["ANB_PORT"])


async def main() -> None:
    async with await asyncio.start_server(serve, "0.0.0.0", PORT) as server:
        await server.serve_forever()


async def serve(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        server_reader, server_writer = await asyncio.open_connection(HOST, PORT)
    except OSError:
        writer.close()
        return
    await asyncio.gather(forward(reader, server_writer), forward(server_reader, writer))


async def forward(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main())
