"""Where the configuration is found."""

from __future__ import annotations

from pathlib import Path

import pytest

import genfam
from genfam import build
from genfam.build import configuration_folder


def test_configuration_comes_from_the_checkout_or_else_from_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Path(genfam.__file__).resolve().parents[2] / "conf" == configuration_folder()
    package = tmp_path / "lib/site-packages/genfam"
    monkeypatch.setattr(build, "__file__", str(package / "build.py"))
    with pytest.raises(FileNotFoundError, match="reinstall genfam"):
        configuration_folder()
    (package / "conf").mkdir(parents=True)
    (package / "conf/config.yaml").touch()
    assert configuration_folder() == package / "conf"
