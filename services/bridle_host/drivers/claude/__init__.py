"""The driver `claude`: Claude Code in its streaming JSON mode, one long-lived process per run.

What users see of it is written down in docs/agents.md. `launch` is the command line, `wire` the
language, `state` what one process's dialect knows, `turns` when a turn begins and ends, `messages`,
`tools` and `notes` what its stream means, `dialect` all of it together, `factory` what the host's
registry takes.
"""
