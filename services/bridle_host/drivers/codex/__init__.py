"""The driver `codex`: OpenAI's Codex, spoken to by its app server.

`dialect` is the conversation, on `rpc` (its lines), `items` (what it does in a turn), `asks` (what
it wants leave for), `notices` (what it tells beside), `standing` (what is kept) and `launch` (how
it is started). Nothing here knows a process: `bridle_host.drivers.lines` lives through one.
"""
