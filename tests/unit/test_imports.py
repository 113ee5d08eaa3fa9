"""What may be loaded when: a shell and a console must start at once, and the console must never need Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("ray", "boto3", "textual", "pyarrow", "sqlalchemy")


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in ran.stdout.splitlines()}


def test_importing_rayfs_loads_no_heavy_library() -> None:
    assert loaded_by("import rayfs").isdisjoint(HEAVY)


def test_the_help_of_the_shell_loads_no_heavy_library() -> None:
    quiet = "contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit)"
    code = f"import contextlib, io, rayfs.cli\nwith {quiet}:\n    rayfs.cli.main(['--help'])"
    assert loaded_by(code).isdisjoint(HEAVY)


def test_importing_the_console_loads_no_ray() -> None:
    assert "ray" not in loaded_by("import rayfs.console")


def test_the_package_offers_what_it_documents() -> None:
    import rayfs

    assert {"connect", "arrow_filesystem", "RayFSError", "__version__"} <= set(dir(rayfs))
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        rayfs.conect  # noqa: B018  # the access is what is tested


def test_the_links_bring_the_console_and_the_defaults_into_the_package() -> None:
    package = Path(__file__).parents[2] / "rayfs"

    assert (package / "conf" / "rayfs.yaml").is_file()
    assert (package / "console" / "__init__.py").is_file()
