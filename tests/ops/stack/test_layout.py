import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from ops.stack.layout import SOCKET_PATH_LIMIT, Layout


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, in place of /tmp."""
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        yield Path(folder)


def test_secrets_are_generated_once_and_only_the_user_reads_them(tmp_path):
    """The same secrets come back on every start, from a file of mode 0600."""
    layout = Layout(tmp_path)
    first, again = layout.load_credentials(), layout.load_credentials()
    assert first == again
    assert stat.S_IMODE(layout.credentials.stat().st_mode) == 0o600
    assert len({first.postgres_password, first.airflow_password, first.jwt_secret, first.api_secret_key}) == 4


def test_damaged_secrets_are_not_replaced(tmp_path):
    """New secrets would lock the databases out, so a damaged file is an error that names it."""
    layout = Layout(tmp_path)
    layout.credentials.write_text("{")
    with pytest.raises(ContractError, match=r"credentials\.json is damaged"):
        layout.load_credentials()


def test_what_users_wrote_is_private(tmp_path):
    """Logs and artifacts, which hold prompts, are closed to others, even where the home itself has to be open."""
    layout = Layout(tmp_path)
    layout.create()
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("logs", "artifacts")] == [0o700, 0o700]


def test_settings_come_back_as_they_were_saved(tmp_path):
    """Quotes, hashes, blanks and equal signs survive the settings file, for us and for pydantic-settings."""
    from dotenv import dotenv_values

    layout = Layout(tmp_path)
    values = {"DRIFTLOOP_A": 'a "b" #c=d', "DRIFTLOOP_B": "ü ", "DRIFTLOOP_C": "postgresql://u:p%40@h/d"}
    layout.save_settings(values)
    assert layout.load_settings() == values
    assert dict(dotenv_values(layout.settings)) == values
    assert stat.S_IMODE(layout.settings.stat().st_mode) == 0o600


def test_the_control_socket_fits_even_for_a_deep_home(short, tmp_path, monkeypatch):
    """A home whose path is too long for a Unix socket gets a private folder elsewhere."""
    monkeypatch.setattr("ops.stack.layout.SHORT", short)
    shallow, deep = Layout(Path("/srv/driftloop")), Layout(tmp_path / ("d" * 120))
    assert shallow.supervisor_socket == Path("/srv/driftloop/supervisord.sock")
    deep.create()
    assert len(os.fsencode(deep.supervisor_socket)) + 8 <= SOCKET_PATH_LIMIT
    assert stat.S_IMODE(deep.supervisor_socket.parent.stat().st_mode) == 0o700


def test_a_socket_folder_that_others_may_enter_is_refused(short, tmp_path, monkeypatch):
    """Somebody who prepared the folder could talk to the supervisor."""
    monkeypatch.setattr("ops.stack.layout.SHORT", short)
    layout = Layout(tmp_path / ("d" * 120))
    layout.supervisor_socket.parent.mkdir()
    layout.supervisor_socket.parent.chmod(0o777)
    with pytest.raises(ContractError, match="is open to others"):
        layout.create()
