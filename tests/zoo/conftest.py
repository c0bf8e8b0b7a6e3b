"""Folders of its own for every test: no cache and no registry of the person who runs it."""

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("ZOO_CACHE", str(home / "cache"))
    monkeypatch.setenv("ZOO_CONFIG", str(home / "config"))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "huggingface"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(home / "modelscope"))
    for name in ("ZOO_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
