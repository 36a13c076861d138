"""localstripe on a free port of this machine alone (its own command listens on every interface)."""

import asyncio
import sys

from aiohttp import web
from localstripe.server import app


async def main():
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("PORT", runner.addresses[0][1], flush=True)
    # Ends when whoever started it does.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
