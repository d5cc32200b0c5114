"""The samples of the two documents that the project was created from, copied as they are written there."""

__all__ = ["AGENTOS", "AGENTOS_TOML", "ZEROCLAW"]

#: "Resource Limits for ZeroClaw", Config Schema.
ZEROCLAW = """\
[resources]
# Memory limits (in MB)
max_memory_mb = 512
max_memory_per_command_mb = 128

# CPU limits
max_cpu_percent = 50
max_cpu_time_seconds = 60

# Disk I/O limits
max_log_size_mb = 100
max_temp_storage_mb = 500

# Process limits
max_subprocesses = 10
max_open_files = 100
"""

#: agentOS, "Resource Limits", Setting limits: the `limits` of the object that is given to `agentOS(...)`.
AGENTOS = {
    "limits": {
        "resources": {
            "maxProcesses": 64,  # concurrent processes
            "maxOpenFds": 256,  # open file descriptors
            "maxSockets": 128,  # open sockets
            "maxFilesystemBytes": 256 * 1024 * 1024,  # VFS storage budget
            "maxWasmStackBytes": 4 * 1024 * 1024,  # WASM call-stack ceiling
        },
    },
}

#: The same in TOML, which has no products.
AGENTOS_TOML = """\
[limits.resources]
maxProcesses = 64 # concurrent processes
maxOpenFds = 256 # open file descriptors
maxSockets = 128 # open sockets
maxFilesystemBytes = 268435456 # VFS storage budget
maxWasmStackBytes = 4194304 # WASM call-stack ceiling
"""
