"""Models carried to where no network is: files, cards, a registry, the same bytes every time."""

import hashlib
import tarfile
from pathlib import Path

import pytest
import yaml

from schemas.base.errors import CheckpointError, RegistryError, WriteError
from schemas.checkpoint.header import read_header
from tests.commands import document, zoo
from zoo.branches import summarize
from zoo.bundle import BundledModel, bundle, model_to_bundle
from zoo.known_models import Located, known_models
from zoo.model_card import CardFacts, model_card
from zoo.registry import add, read_registry
from zoo.resolve import fetch, model_file

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
    bundle([named(known.known, "carried")], tmp_path / "b")
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
    assert fetch(Located(model.file, tmp_path / "b"), offline=True).sha256 == SHA256


def test_models_are_added_to_a_bundle_and_replaced_by_name(known, tmp_path):
    bundle([known], tmp_path / "b")
    bundle([named(known.known, "other")], tmp_path / "b")
    changed = known.known.model_copy(update={"description": "Changed."})
    made = bundle([BundledModel(FILE, changed)], tmp_path / "b")
    models = read_registry(tmp_path / "b" / "registry.yaml").models
    assert [(model.name, model.description) for model in models] == [
        ("other", known.known.description),
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
    assert fetch(Located(model.file, tmp_path / "b")).sha256 == SHA256


def test_one_branch_is_bundled_as_a_model_of_its_own(tmp_path):
    branch = model_to_bundle("DPA2_water_tiny", "h2o_gfn2-xtb", tmp_path)
    bundle([branch], tmp_path / "b")
    (model,) = read_registry(tmp_path / "b" / "registry.yaml").models
    assert model.name == "DPA2_water_tiny-H2O_GFN2-xTB"
    assert model.description.startswith("The branch H2O_GFN2-xTB: liquid water.")
    file = tmp_path / "b" / model.file.sources[0].path
    assert [one.name for one in summarize(read_header(file))] == ["Default"]


def test_the_command_fetches_of_a_branch_only_what_it_needs(server, tmp_path):
    content = FILE.read_bytes()
    (tmp_path / "m.pt").write_bytes(content)
    url = server.serve("/m.pt", content).url
    words = ["bundle", url, "--branch", "H2O_GFN2-xTB", "-o"]
    assert zoo(*words, tmp_path / "b").exit_code == 0
    assert server.sent("/m.pt") < len(content)
    words[1] = str(tmp_path / "m.pt")
    assert zoo(*words, tmp_path / "c").exit_code == 0
    place = Path("m-H2O_GFN2-xTB") / "m-H2O_GFN2-xTB.pt"
    assert (tmp_path / "b" / place).read_bytes() == (tmp_path / "c" / place).read_bytes()
    for name, origin in (("b", url), ("c", "m.pt")):
        (model,) = read_registry(tmp_path / name / "registry.yaml").models
        assert model.description == f"Bundled from {origin}, branch H2O_GFN2-xTB."


def named(known, name, **changes):
    return BundledModel(FILE, known.model_copy(update={"name": name, "aliases": []} | changes))


@pytest.mark.parametrize(
    ("models", "output", "error", "says"),
    [
        (lambda k: [k, k], "b", RegistryError, "two models are called"),
        (
            lambda k: [named(k.known, "a-v1"), named(k.known, "a", revision="v1")],
            "b",
            RegistryError,
            r"two models would both be a-v1/dpa2_water_tiny\.pt",
        ),
        (
            lambda k: [
                named(k.known, "a", file=k.known.file.model_copy(update={"sha256": "0" * 64}))
            ],
            "b",
            RegistryError,
            "not the file that the registry names",
        ),
        (lambda _: [BundledModel(Path(__file__))], "b", CheckpointError, "test_bundle.py"),
        (lambda k: [k], "full", RegistryError, "holds other things"),
        (lambda k: [k], "nothing/b.tar", WriteError, "cannot be written"),
    ],
)
def test_what_cannot_be_bundled_is_refused_and_changes_nothing(
    known, tmp_path, models, output, error, says
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(error, match=says):
        bundle(models(known), tmp_path / output)
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(found) == ["full", "full/thesis.tex"]


def test_the_command_bundles_by_name_and_by_path(tmp_path):
    (tmp_path / "own.pt").write_bytes(FILE.read_bytes())
    models = ["DPA2_water_tiny", str(tmp_path / "own.pt")]
    told = document("bundle", *models, "-o", tmp_path / "b.tar")
    assert [model["name"] for model in told["models"]] == ["DPA2_water_tiny", "own"]
    assert {m["file"]["sha256"] for m in told["models"]} == {SHA256}


def test_text_of_a_registry_cannot_break_out_of_a_card():
    facts = CardFacts.of(FILE, licence="MIT | <script>\n# heading")
    card = model_card(facts)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit | <script>\n# heading"
    assert "| licence | MIT \\| &lt;script> # heading |" in body
    assert "\n# heading" not in body
