"""The protections that users rely on, each with an edit that takes it away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Protection:
    """What protects, the edit that takes it away, and the test that notices.

    `before` stands exactly once in `file`, and becomes `after`. `test`: a pytest id, perhaps with
    " -k WORDS" behind it.
    """

    name: str
    file: str
    before: str
    after: str
    test: str


PROTECTIONS: tuple[Protection, ...] = (
    Protection(
        name="dedupe: a request that comes again has one effect",
        file="services/bridle_control/receipts.py",
        before="    row = tx.command_by_request(key.scope, key.principal_key, key.request_id)\n",
        after="    row = None\n",
        test=(
            "tests/bridle_control/test_receipts.py::test_the_same_request_five_times_has_one_row"
        ),
    ),
    Protection(
        name="dedupe: an entry of a journal is stored once",
        file="services/bridle_control/links/records.py",
        before=(
            "            if sequence <= batch.last:\n"
            "                continue\n"
            "            if sequence != batch.last + 1:\n"
        ),
        after="            if False:\n",
        test=(
            "tests/bridle_control/test_links.py"
            "::test_entries_that_come_again_after_a_lost_acknowledgement_are_stored_once"
        ),
    ),
    Protection(
        name="dedupe: a host runs no command twice",
        file="services/bridle_host/sessions.py",
        before="        known = self._journal.answers(command.command_id)\n",
        after="        known: list[host_pb.CommandEntry] = []\n",
        test=("tests/bridle_host/test_sessions.py::test_a_repeat_is_answered_and_not_run_again"),
    ),
    Protection(
        name="epoch: a connection that is over writes nothing",
        file="services/bridle_control/links/welcome.py",
        before=("    if current != epoch:\n        host ="),
        after=("    if current < 0:\n        host ="),
        test=(
            "tests/bridle_control/test_fencing.py"
            "::test_nothing_of_an_epoch_that_is_over_is_stored_or_handed_over"
        ),
    ),
    Protection(
        name="fence: a host writes of its own runs alone",
        file="services/bridle_control/links/records.py",
        before="row is None or row.host_id != host_id or row.run != segment.run:",
        after="row is None:",
        test=(
            "tests/robustness/test_security_hosts.py"
            "::test_what_a_host_publishes_for_a_session_of_another_is_not_stored"
        ),
    ),
    Protection(
        name="fsync: control's store",
        file="services/bridle_control/store/sqlite_open.py",
        before="PRAGMA synchronous = FULL",
        after="PRAGMA synchronous = OFF",
        test=("tests/robustness/test_power_loss.py::test_every_connection_that_writes_syncs_fully"),
    ),
    Protection(
        name="fsync: the host's journal",
        file="services/bridle_host/journal_file.py",
        before='self._db.execute("PRAGMA synchronous=FULL")',
        after='self._db.execute("PRAGMA synchronous=OFF")',
        test=("tests/bridle_host/test_journal.py::test_commits_are_synced_to_the_disk"),
    ),
    Protection(
        name="checksum: no damaged event is served",
        file="services/bridle_control/store/sqlite_log.py",
        before="            if not _intact(data, seeds, sums) or not _in_order(",
        after="            if not _in_order(",
        test=("tests/robustness/test_corruption.py::test_a_byte_flipped_anywhere_is_never_served"),
    ),
    Protection(
        name="containment: a kill reaches all that the session started",
        file="services/bridle_host/shim.py",
        before="        while empty < 2 and time.monotonic() < begun + KILL_LIMIT:\n",
        after="        while False:\n",
        test=(
            "tests/bridle_host/test_process_stop.py"
            "::test_an_agent_that_will_not_die_is_killed_with_all_that_it_made"
        ),
    ),
    Protection(
        name="stale pid: a file of another boot gets nobody signalled",
        file="services/bridle_host/sweep.py",
        before='    if state["boot_id"] != shim.boot_id() or not state["in_place"]:\n',
        after='    if not state["in_place"]:\n',
        test=(
            "tests/bridle_host/test_process_adopt.py"
            "::test_a_stale_file_gets_nobody_adopted_and_nobody_signalled"
        ),
    ),
    Protection(
        name="escape filter: nothing that is shown has power over the terminal",
        file="clients/python/bridle/terminal.py",
        before=("        else:\n            out.append(self._shown(char))\n\n    def _enter"),
        after=("        else:\n            out.append(char)\n\n    def _enter"),
        test=(
            "tests/client/test_hostile_control.py"
            "::test_nothing_that_control_says_has_power_over_the_terminal"
        ),
    ),
    Protection(
        name="default deny: a method without a right is refused",
        file="services/bridle_core/rights.py",
        before=("    if row is None:\n        return False\n    return row.right"),
        after=("    if row is None:\n        return True\n    return row.right"),
        test=(
            "tests/contract/test_every_method.py"
            "::test_a_method_that_somebody_adds_without_a_row_is_refused"
        ),
    ),
    Protection(
        name="rights: each method needs its own",
        file="services/bridle_core/rights.py",
        before="    return row.right is None or holds(rights, row.right)\n",
        after="    return True\n",
        test=(
            "tests/contract/test_every_method.py"
            "::test_a_token_without_any_right_may_only_ask_who_it_is"
        ),
    ),
    Protection(
        name="floor: what retention took is told, never skipped",
        file="services/bridle_control/watch/channel.py",
        before="        if bounds.floor > cursor + 1:\n",
        after="        if False:\n",
        test=(
            "tests/robustness/test_retention.py"
            "::test_a_floor_that_rises_past_a_slow_reader_is_told_and_never_a_silent_gap"
        ),
    ),
    Protection(
        name="tokens: the store holds hashes",
        file="services/bridle_control/tokens.py",
        before="    return hashlib.sha256(secret.encode()).digest()\n",
        after="    return secret.encode()\n",
        test=("tests/bridle_control/test_auth.py::test_the_store_holds_no_secret"),
    ),
    Protection(
        name="revocation: open streams end with their token",
        file="services/bridle_control/streams.py",
        before="                call.end(wrong)\n",
        after="                pass\n",
        test=(
            "tests/robustness/test_security_pair.py"
            "::test_streams_end_within_five_seconds_of_their_tokens_end_and_say_no_more"
        ),
    ),
    Protection(
        name="join tokens: each is good once",
        file="services/bridle_control/store/sqlite_identity.py",
        before='" WHERE join_token_id = ? AND use_time = 0",',
        after='" WHERE join_token_id = ?",',
        test=(
            "tests/robustness/test_security_pair.py"
            "::test_of_fifty_that_race_for_a_join_token_exactly_one_becomes_a_host"
        ),
    ),
    Protection(
        name="workspaces: nothing crosses",
        file="services/bridle_control/caller.py",
        before="    if row is None or row.workspace != workspace or",
        after="    if row is None or",
        test=(
            "tests/contract/test_matrix.py"
            "::test_in_thousands_of_random_calls_nothing_crosses_between_workspaces"
        ),
    ),
    Protection(
        name="certificates: a host shows its own",
        file="services/bridle_control/links/service.py",
        before="        if name not in shown:\n",
        after="        if False:\n",
        test=(
            "tests/robustness/test_tls.py"
            "::test_a_host_gets_in_with_its_own_certificate_and_by_no_other_way"
        ),
    ),
    Protection(
        name="floods: one connection's calls are counted",
        file="services/bridle_control/interceptor.py",
        before="        if self._of_connection[peer] >= self._connection_limit:\n",
        after="        if False:\n",
        test=(
            "tests/bridle_control/test_interceptor.py"
            "::test_one_connection_can_not_take_all_the_calls"
        ),
    ),
)
