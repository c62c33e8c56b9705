"""The control service: the contract, the durable log, the permissions and the links to hosts."""
