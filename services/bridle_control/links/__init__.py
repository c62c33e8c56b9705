"""Control's side of the host link: streams of hosts, and the registry of those that are up."""
