"""What `affectgan serve` refuses before anything heavy starts."""

from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner

from service.commands import listen, serve


def test_a_port_in_use_is_said_with_a_remedy() -> None:
    taken = listen("127.0.0.1", 0)
    with pytest.raises(ClickException, match="in use; stop what uses it or give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_a_folder_without_archives_is_said_with_a_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(serve, ["--models", str(tmp_path), "--port", "0"])
    assert result.exit_code == 1 and "affectgan archive RUN" in result.output
