"""The worker: consumer loop, lease, render engine, sandbox."""
