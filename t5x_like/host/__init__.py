"""The process and its machine: files, disks, memory, and flags of the process."""
