"""The process and its machine: files, disks, memory, progress, and environment flags."""
