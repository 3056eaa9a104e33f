"""The least that the work takes: loops without format, protocol or crash safety, each run as a process of its own."""
