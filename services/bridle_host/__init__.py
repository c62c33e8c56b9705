"""The agent host service: runs agents on this machine and reports to control."""
