"""The worker: consumer loop, lease, render engine, sandbox. `python -m anb_worker` runs it."""
