"""The memory of a step: estimated before it runs, and compared with what the device has."""
