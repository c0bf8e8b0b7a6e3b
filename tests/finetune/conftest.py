import json

import pytest

from tests.finetune.cases import case_input, write_data


@pytest.fixture
def case_folder(tmp_path, monkeypatch):
    """Return a function that goes to a folder with the input and the data of a case."""
    monkeypatch.chdir(tmp_path)

    def prepare(name, **settings):
        write_data(name, tmp_path)
        document = case_input(name)
        document["training"].update(settings)
        (tmp_path / "input.json").write_text(json.dumps(document))
        return document

    return prepare
