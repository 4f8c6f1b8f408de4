"""The one file that talks to supervisord: its configuration, its start and end, and its components' states."""

import contextlib
import getpass
import os
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable
from typing import Any, cast

import psutil

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.waiting import wait_until
from ops.stack import component
from ops.stack.layout import Layout, write_private

STOP_SECONDS = {"postgres": 60, "scheduler": 8}
"""Seconds between the request to end and SIGKILL; the scheduler would wait for running tasks, which resume anyway."""


def configuration(layout: Layout, names: Iterable[str]) -> str:
    """Give supervisord's configuration: every component restarts for ever, and ends with all its children."""
    owner = f"user={getpass.getuser()}\n" if os.geteuid() == 0 else ""  # root has to say so
    head = f"""\
[supervisord]
logfile={layout.logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={layout.supervisor_pid}
childlogdir={layout.logs}
umask=077
identifier=driftloop
{owner}
[unix_http_server]
file={layout.supervisor_socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    return head.replace("%", "%%") + "".join(_program(layout, name).replace("%", "%%") for name in names)


def _program(layout: Layout, name: str) -> str:
    postgres = name == "postgres"
    return f"""
[program:{name}]
command="{sys.executable}" -m ops.stack.component {name}
directory=/
environment=DRIFTLOOP_COMPONENT="{name}",DRIFTLOOP_HOME="{layout.home}"
autostart=false
autorestart=true
startretries=1000000000
startsecs=2
stopsignal={"INT" if postgres else "TERM"}
stopasgroup={"false" if postgres else "true"}
killasgroup=true
stopwaitsecs={STOP_SECONDS.get(name, 15)}
priority={1 if postgres else 100}
redirect_stderr=true
stdout_logfile={layout.log_of(name)}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=1
"""


class StoppingError(TransientError):
    """The supervisor is ending its components, and takes no other request until it has ended itself."""


class Supervisor:
    """The supervisor of one stack."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def is_running(self) -> bool:
        """Say whether the stack's supervisor answers; one that is stopping does."""
        try:
            self._call("getState")
        except StoppingError:
            return True
        except TransientError:
            return False
        return True

    def start(self, names: Iterable[str], environment: dict[str, str]) -> None:
        """Start supervisord in the background, apart from this terminal, with no component running yet.

        Raises:
            ContractError: it does not start; says what it said.
        """
        write_private(self.layout.supervisor_config, configuration(self.layout, names))
        self.layout.supervisor_socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.supervisor_config)]
        result = subprocess.run(
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise ContractError(f"supervisord did not start: {(result.stdout + result.stderr).strip()[-500:]}")
        problem = f"supervisord does not answer after 30 s; see {self.layout.logs}/supervisord.log"
        wait_until(self.is_running, seconds=30, complain=lambda _: ContractError(problem))

    def start_component(self, name: str) -> None:
        """Have a component started; already running is fine.

        The supervisor tries one that fails a second later each time, after a night minutes apart: it is tried now.
        """
        if self.states().get(name) == "BACKOFF":
            with contextlib.suppress(xmlrpc.client.Fault):  # NOT_RUNNING: it is being started this moment
                self._call("stopProcess", name, True)
        with contextlib.suppress(xmlrpc.client.Fault):  # ALREADY_STARTED
            self._call("startProcess", name, False)

    def stop_component(self, name: str) -> None:
        """Stop a component and wait until its group is gone; not running is fine."""
        with contextlib.suppress(xmlrpc.client.Fault):  # NOT_RUNNING
            self._call("stopProcess", name, True)
        component.end(self.layout.home, name)

    def states(self) -> dict[str, str]:
        """Read each component's state in the supervisor's words (RUNNING, BACKOFF, STOPPED …); empty: down.

        Raises:
            StoppingError: the stack is being stopped.
        """
        try:
            rows = cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))
        except StoppingError:
            raise
        except TransientError:
            return {}
        return {str(row["name"]): str(row["statename"]) for row in rows}

    def pids(self) -> dict[str, int]:
        """Read the process id of each running component."""
        rows = cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))
        return {str(row["name"]): int(row["pid"]) for row in rows if row["pid"]}

    def shutdown(self) -> None:
        """Stop every component in order (PostgreSQL last) and the supervisor, and wait for its end."""
        try:
            process = psutil.Process(self._pid())
            with contextlib.suppress(StoppingError):  # somebody else has asked: its end is waited for all the same
                self._call("shutdown")
            process.wait(timeout=120)
        except (TransientError, psutil.NoSuchProcess):
            pass  # it is not running: nothing to stop
        except psutil.TimeoutExpired:
            process.kill()
        for left in (self.layout.supervisor_pid, self.layout.supervisor_socket):
            left.unlink(missing_ok=True)

    def _pid(self) -> int:
        try:
            return int(self._call("getPID"))
        except StoppingError:
            return int(self.layout.supervisor_pid.read_text(encoding="utf-8"))

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import Faults, SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.layout.supervisor_socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise
            raise StoppingError("the stack is stopping; give the command again when it has stopped") from None
        except (OSError, xmlrpc.client.ProtocolError) as err:
            raise TransientError(f"the stack's supervisor does not answer ({err}); is the stack up?") from err
