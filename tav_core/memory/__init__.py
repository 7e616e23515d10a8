"""The memory of a step: estimated before it runs, and compared with the device's memory."""
