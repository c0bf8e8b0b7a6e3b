"""Models carried to where no network is: files, cards, a registry, the same bytes every time."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from schemas.base.errors import CheckpointError, RegistryError, WriteError
from tests.zoo.transfer.faulty_server import FaultyServer
from zoo.branches import summarize
from zoo.bundle import BundledModel, branch_of_place, bundle
from zoo.cache import Store
from zoo.checkpoint_file import read_header
from zoo.hubs.fetch import fetch_file
from zoo.known_models import known_models
from zoo.model_card import CardFacts, model_card
from zoo.registry import add, read_registry
from zoo.resolve import located, model_file

FILE = Path(__file__).parents[2] / "zoo" / "models" / "DPA2_water_tiny.pt"
SHA256 = hashlib.sha256(FILE.read_bytes()).hexdigest()


@pytest.fixture
def known():
    return BundledModel(FILE, known_models().find("DPA2_water_tiny").model)


def test_a_bundle_holds_the_file_its_card_and_a_registry(known, tmp_path):
    made = bundle([known], tmp_path / "b")
    assert made.files == [
        "DPA2_water_tiny/DPA2_water_tiny.pt",
        "DPA2_water_tiny/README.md",
        "registry.yaml",
    ]
    assert made.size == sum((tmp_path / "b" / name).stat().st_size for name in made.files)
    (model,) = read_registry(tmp_path / "b" / "registry.yaml").models
    assert model.file.sha256 == SHA256
    assert [source.kind for source in model.file.sources] == ["file"]
    assert model.branches == known_models().find("DPA2_water_tiny").model.branches
    assert SHA256 in (tmp_path / "b" / "DPA2_water_tiny" / "README.md").read_text()


def test_an_added_bundle_serves_its_models_without_a_network(known, tmp_path):
    changed = known.known.model_copy(update={"name": "carried", "aliases": []})
    bundle([BundledModel(FILE, changed)], tmp_path / "b")
    add(str(tmp_path / "b"))
    assert model_file("carried", offline=True) == tmp_path / "b" / "carried" / "DPA2_water_tiny.pt"


def test_a_file_of_ones_own_is_described_by_what_it_says(tmp_path):
    own = tmp_path / "my model (1).pt"
    own.write_bytes(FILE.read_bytes())
    bundle([BundledModel(own)], tmp_path / "b")
    (model,) = read_registry(tmp_path / "b" / "registry.yaml").models
    assert model.name == "my-model--1-"
    assert (model.family, model.trainable) == ("DPA-2", True)
    assert model.elements == ["O", "H"]
    assert [branch.name for branch in model.branches] == ["H2O_GFN1-xTB", "H2O_GFN2-xTB"]
    found = fetch_file(model.file, base=tmp_path / "b", store=Store(), offline=True)
    assert found.sha256 == SHA256


def test_models_are_added_to_a_bundle_and_replaced_by_name(known, tmp_path):
    other = known.known.model_copy(update={"name": "other", "aliases": []})
    bundle([known], tmp_path / "b")
    bundle([BundledModel(FILE, other)], tmp_path / "b")
    changed = known.known.model_copy(update={"description": "Changed."})
    made = bundle([BundledModel(FILE, changed)], tmp_path / "b")
    models = read_registry(tmp_path / "b" / "registry.yaml").models
    assert [(model.name, model.description) for model in models] == [
        ("other", other.description),
        ("DPA2_water_tiny", "Changed."),
    ]
    assert made.models == models


def test_the_bytes_of_an_archive_depend_on_the_models_only(known, tmp_path):
    copy = tmp_path / "elsewhere" / "DPA2_water_tiny.pt"
    copy.parent.mkdir()
    copy.write_bytes(FILE.read_bytes())
    bundle([known], tmp_path / "one.tar")
    bundle([BundledModel(copy, known.known)], tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_an_unpacked_archive_is_a_bundle(known, tmp_path):
    made = bundle([known], tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        members = archive.getmembers()
        for member in members:  # extractall has no `filter` before Python 3.11.4
            file = tmp_path / "b" / member.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.extractfile(member).read())
    assert sorted(member.name for member in members) == made.files
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
    (model,) = read_registry(tmp_path / "b" / "registry.yaml").models
    assert fetch_file(model.file, base=tmp_path / "b", store=Store()).sha256 == SHA256


def test_one_branch_is_bundled_as_a_model_of_its_own(tmp_path):
    place = located("DPA2_water_tiny")
    branch = branch_of_place(place, "DPA2_water_tiny", "h2o_gfn2-xtb", tmp_path)
    bundle([branch], tmp_path / "b")
    (model,) = read_registry(tmp_path / "b" / "registry.yaml").models
    assert model.name == "DPA2_water_tiny-H2O_GFN2-xTB"
    assert model.description.startswith("The branch H2O_GFN2-xTB: liquid water.")
    file = tmp_path / "b" / model.file.sources[0].path
    assert [one.name for one in summarize(read_header(file))] == ["Default"]


def test_the_command_fetches_of_a_branch_only_what_it_needs(tmp_path):
    content = FILE.read_bytes()
    (tmp_path / "m.pt").write_bytes(content)
    with FaultyServer() as server:
        url = server.serve("/m.pt", content).url
        words = ["bundle", url, "--branch", "H2O_GFN2-xTB", "-o"]
        assert CliRunner().invoke(app, [*words, str(tmp_path / "b")]).exit_code == 0
        assert server.sent("/m.pt") < len(content)
    words[1] = str(tmp_path / "m.pt")
    assert CliRunner().invoke(app, [*words, str(tmp_path / "c")]).exit_code == 0
    place = Path("m-H2O_GFN2-xTB") / "m-H2O_GFN2-xTB.pt"
    assert (tmp_path / "b" / place).read_bytes() == (tmp_path / "c" / place).read_bytes()
    for name, origin in (("b", url), ("c", "m.pt")):
        (model,) = read_registry(tmp_path / name / "registry.yaml").models
        assert model.description == f"Bundled from {origin}, branch H2O_GFN2-xTB."


def test_a_file_that_is_not_the_registered_one_is_not_bundled(known, tmp_path):
    wrong = known.known.file.model_copy(update={"sha256": "0" * 64})
    model = known.known.model_copy(update={"file": wrong})
    with pytest.raises(RegistryError, match="not the file that the registry names"):
        bundle([BundledModel(FILE, model)], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_file_that_is_no_checkpoint_is_not_bundled(tmp_path):
    (tmp_path / "m.pt").write_text("<html>")
    with pytest.raises(CheckpointError):
        bundle([BundledModel(tmp_path / "m.pt")], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_folder_with_other_things_is_left_alone(known, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(RegistryError, match="holds other things"):
        bundle([known], tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.tex"]


def test_two_models_of_one_name_are_refused(known, tmp_path):
    with pytest.raises(RegistryError, match="two models are called"):
        bundle([known, known], tmp_path / "b")


def test_two_models_that_would_share_a_file_are_refused(known, tmp_path):
    one = known.known.model_copy(update={"name": "a-v1", "aliases": []})
    two = known.known.model_copy(update={"name": "a", "revision": "v1", "aliases": []})
    with pytest.raises(RegistryError, match=r"two models would both be a-v1/dpa2_water_tiny\.pt"):
        bundle([BundledModel(FILE, one), BundledModel(FILE, two)], tmp_path / "b")


def test_the_command_bundles_by_name_and_by_path(tmp_path):
    (tmp_path / "own.pt").write_bytes(FILE.read_bytes())
    models = ["DPA2_water_tiny", str(tmp_path / "own.pt")]
    output = str(tmp_path / "b.tar")
    result = CliRunner().invoke(app, ["bundle", *models, "-o", output, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [model["name"] for model in document["models"]] == ["DPA2_water_tiny", "own"]
    assert {m["file"]["sha256"] for m in document["models"]} == {SHA256}


def test_a_place_that_cannot_be_written_is_said_in_a_sentence(known, tmp_path):
    with pytest.raises(WriteError, match="cannot be written"):
        bundle([known], tmp_path / "nothing" / "b.tar")


def test_text_of_a_registry_cannot_break_out_of_a_card():
    header = read_header(FILE)
    facts = CardFacts(
        title="m",
        reference="m",
        file="m.pt",
        size=1,
        sha256="0" * 64,
        branches=summarize(header),
        multitask=True,
        licence="MIT | <script>\n# heading",
    )
    card = model_card(facts)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit | <script>\n# heading"
    assert "| licence | MIT \\| &lt;script> # heading |" in body
    assert "\n# heading" not in body
