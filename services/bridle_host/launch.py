"""What a run is made from: admitted, with its directories, its environment and its driver.

`Launcher.prepare` turns StartRun into a `Prepared` run, or raises the BridleError with which the
start is refused; then the actor removes what was made. `Launcher.restore` does the same for a run
that an earlier process of the host began. Called by the session actor, first of all.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.commands import RunSpec
from bridle_core.errors import BridleError, Reason
from bridle_core.transcript import Transcript
from bridle_host import git_report
from bridle_host.admission import Admission
from bridle_host.containment import Containment
from bridle_host.drivers.base import (
    Driver,
    DriverContext,
    DriverFactory,
    ResumeFrom,
)
from bridle_host.identity import (
    SessionIdentity,
    command_directory,
    session_environment,
    write_token,
)
from bridle_host.keeper import Keeper
from bridle_host.run_files import RunFiles
from bridle_host.run_processes import RunProcesses
from bridle_host.run_state import RunState
from bridle_host.translate import policy_of, principal_of, queue_state_of, resume_of

log = logging.getLogger("bridle.host.launch")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that may start."""

    spec: RunSpec
    driver: Driver
    processes: RunProcesses
    resume: ResumeFrom | None
    keeper: Keeper
    #: Of a run that an earlier process of the host began.
    left: RunState | None = None
    #: That process never came to start the agent, or nothing is left of it: it starts now.
    unborn: bool = False


class Launcher:
    """See the module. `address` is control's HOST:PORT, for the agents themselves; `connection`
    are variables that tell them how to speak to it."""

    def __init__(
        self,
        admission: Admission,
        *,
        containment: Containment,
        runs: Path,
        host_id: str,
        address: str,
        environment: Mapping[str, str] | None = None,
        connection: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = dict(connection or {})
        self._admission = admission
        self._containment = containment
        self._runs = runs
        self._host_id = host_id
        self._address = address
        self._inherited = dict(os.environ if environment is None else environment)
        self._command_directory = command_directory()

    def files(self, session_id: str, run: int) -> RunFiles:
        """Where the files of a run are."""
        return RunFiles(self._runs, session_id, run)

    async def prepare(self, command: host_pb.Command, *, live: int) -> Prepared:
        """`live` is how many other runs are on this host. Raises BridleError."""
        start = command.start
        self._admission.room(live)
        factory, installation = await self._admission.agent(start)
        directory = await self._admission.directory(start)
        files = self.files(command.session_id, command.run)
        try:
            await asyncio.to_thread(_make, files, command, str(directory))
        except OSError as error:
            log.exception("the files of a run can't be made")
            metadata = {"agent": start.agent}
            message = f"the host can't make the run's files: {error.strerror}"
            raise BridleError(Reason.START_FAILED, message, metadata=metadata) from None
        try:
            return self._prepared(command, factory, installation.version, directory, files)
        except ValueError as error:
            # By the driver's contract the text is a line for people.
            metadata = {"agent": start.agent}
            raise BridleError(Reason.START_FAILED, str(error), metadata=metadata) from None

    def restore(self, command: host_pb.Command, left: RunState, *, unborn: bool) -> Prepared:
        """A run that an earlier process began by this command. Raises ValueError.

        It was admitted then; nothing is looked at again.
        """
        factory = self._admission.factory(command.start.agent)
        if factory is None:
            raise ValueError(f"this host knows no agent {command.start.agent} any more")
        files = self.files(command.session_id, command.run)
        directory = Path(command.start.directory)
        made = self._prepared(command, factory, "", directory, files, left.acknowledge)
        return replace(made, spec=left.completed(made.spec), left=left, unborn=unborn)

    def _prepared(
        self,
        command: host_pb.Command,
        factory: DriverFactory,
        version: str,
        directory: Path,
        files: RunFiles,
        acknowledged: int = 0,
    ) -> Prepared:
        start = command.start
        identity = SessionIdentity(
            address=self._address,
            workspace=start.workspace,
            slug=start.slug,
            session_id=command.session_id,
            token_file=files.token,
            artifacts=files.artifacts,
            connection=self._connection,
        )
        environment = session_environment(
            self._inherited, start.environment, identity, self._command_directory
        )
        processes = RunProcesses(
            command.session_id,
            command.run,
            files.process,
            environment,
            self._containment,
            acknowledged,
            # Admission has looked; a link may be swapped before the agent's process is there.
            (str(directory), os.path.realpath(start.within)) if start.within else None,
        )
        before = Transcript(start.resume.transcript, tuple(start.resume.left_out))
        keeper = Keeper(before)
        context = DriverContext(
            session_id=command.session_id,
            run=command.run,
            directory=str(directory),
            agent_command=start.agent_command,
            environment=environment,
            state_directory=files.driver,
            spawn=processes.spawn,
            adopt=processes.adopt,
            locks=self._runs.parent / "conversations" / start.agent,
            transcript=keeper.transcript,
        )
        mode = resume_of(start)
        resume = None
        if mode is not None:
            kept = start.resume
            resume = ResumeFrom(
                mode,
                kept.driver_state,
                kept.same_host,
                before.text,
                before.left_out,
            )
        spec = RunSpec(
            start_command=command.command_id,
            agent=start.agent,
            agent_version=version,
            host_id=self._host_id,
            directory=str(directory),
            containment=self._containment.name,
            capabilities=factory.capabilities,
            policy=policy_of(start.policy),
            last_turn=start.last_turn,
            queue_state=queue_state_of(start.queue_state),
            resume=mode,
            principal=principal_of(command.principal),
        )
        return Prepared(spec, factory.create(context), processes, resume, keeper)


def _make(files: RunFiles, command: host_pb.Command, directory: str) -> None:
    files.make()
    files.write_git_start(git_report.start_of(directory))
    files.write_start(command, directory)
    write_token(files.token, command.start.token.token)
