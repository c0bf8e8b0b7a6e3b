"""`zoo list`, `zoo search`, `zoo show`, `zoo registry`, and names that a shell completes."""

import pytest

from cli.options import complete_model, complete_registry
from cli.output import shown_size
from schemas.base.errors import RegistryError, TransferError
from schemas.registry import Registry
from tests.commands import document
from tests.commands import zoo as run
from zoo.known_models import KnownModel, search

pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def mine(add_registry):
    """Adds a registry with models of these names."""
    return lambda *names: add_registry(*({"name": name} for name in names))


def test_the_list_says_what_is_here_and_what_is_trained_here():
    text = run("list").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("DPA2_water_tiny")]
    assert line.split()[-6:] == ["DPA-2", "yes", "2", "3.2", "MB", "bundled"]
    (line,) = [line for line in text.splitlines() if line.startswith("DPA-2.3.1")]
    assert "DPA2_medium" in line
    assert line.split()[-4:] == ["yes", "28", "?", "remote"]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_list_is_of_one_family_if_asked():
    families = {model["family"] for model in document("list", "--family", "dpa3")["models"]}
    assert families == {"DPA-3"}
    with pytest.raises(RegistryError) as caught:
        run("list", "--family", "DPA-33")
    assert "DPA-3" in caught.value.hint


def test_the_list_says_which_model_a_name_no_longer_means(mine):
    mine("DPA2_water_tiny", "own")
    text = run("list").stdout
    assert "built-in (shadowed by mine)" in text
    shadowed = [m["registry"] for m in document("list")["models"] if m["shadowed_by"]]
    assert shadowed == ["built-in"]
    assert document("show", "dpa2_water_tiny")["registry"] == "mine"


def test_a_registry_says_what_it_hides_when_it_is_added(mine):
    result = mine("DPA-2.4-7M")
    assert "`DPA-2.4-7M` now means the model of mine" in result.stderr
    (own, built_in) = document("registry", "list")["registries"]
    assert (own["name"], own["models"], built_in["shadowed"]) == ("mine", 1, ["DPA-2.4-7M"])
    assert "as before" not in run("registry", "update").stdout
    run("registry", "remove", "mine")
    assert [r["name"] for r in document("registry", "list")["registries"]] == ["built-in"]
    with pytest.raises(RegistryError, match="no registry `mine`"):
        run("registry", "remove", "mine")
    with pytest.raises(RegistryError, match="comes with the program"):
        run("registry", "remove", "built-in")


def test_a_broken_registry_is_a_warning(mine, tmp_path):
    mine("own")
    (tmp_path / "mine" / "registry.yaml").write_text("models: [")
    for command in (["list"], ["search", "water"], ["show", "water_tiny"], ["registry", "list"]):
        assert "warning: the registry" in run(*command).stderr


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("water_tiny", "DPA2_water_tiny"),
        ("medium", "DPA-2.3.1-v3.0.0rc0"),
        ("SCAN water", "DPA-2.3.1-v3.0.0rc0"),
        ("perovskite", "DPA-2.3.1-v3.0.0rc0"),
        ("h2o_h2o_pd", "DPA-2.3.1-v3.0.0rc0"),
        ("omol", "DPA3-Omol-Large"),
        ("dpa4 nano", "DPA4-Nano-OMat24@v20260805"),
        ("H", "DPA2_water_tiny"),
        ("GFN2-xTB", "DPA2_water_tiny"),
    ],
)
def test_words_find_the_model(text, first):
    assert document("search", *text.split())["models"][0]["reference"] == first


def test_all_words_must_fit_and_nothing_is_an_answer_too():
    assert document("search", "water", "perovskite", "xyzzy")["models"] == []
    assert "no model fits" in run("search", "xyzzy").stdout


def test_better_places_come_first():
    def model(name, **facts):
        return {
            "name": name,
            "description": ".",
            "family": "F",
            "trainable": False,
            "file": {"name": "m", "sources": [{"kind": "https", "url": "https://example.org/m"}]},
        } | facts

    models = [
        model("a", description="Nickel oxide and cobalt."),
        model("b", branches=[{"name": "cobalt_oxide", "domain": "oxides"}]),
        model("cobalt"),
        model("cobaltite"),
        model("e", elements=["Co"]),
    ]
    registry = Registry.model_validate({"version": 1, "models": models})
    known = [KnownModel(entry, "r", "") for entry in registry.models]
    assert [hit.known.model.name for hit in search(known, "Cobalt")] == [
        "cobalt",
        "b",
        "cobaltite",
        "a",
    ]
    assert next(hit.known.model.name for hit in search(known, "Co")) == "e"
    assert [hit.known.model.name for hit in search(known, "ni")] == ["a"]
    assert search(known, "") == []


def test_the_catalogues_are_not_asked_without_the_network(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(TransferError, match="catalogues"):
        run("search", "water", "--online")


def test_what_the_catalogues_have_stands_below(monkeypatch):
    from zoo.hubs import catalogue
    from zoo.hubs.catalogue import ListedFile

    file = ListedFile("w.pt", "hf://owner/water/w.pt", 5_000_000)
    found = catalogue.Found(
        "Hugging Face", "owner/water", "https://x/owner/water", (file,), 5_000_000, None, "mit"
    )
    failure = {"AIS Square": TransferError("it does not answer")}
    monkeypatch.setattr(catalogue, "search_online", lambda _: catalogue.Search([found], failure))
    result = run("search", "water", "--online")
    assert "hf://owner/water/w.pt  5.0 MB  mit" in result.stdout
    assert "AIS Square: it does not answer" in result.stderr
    online = document("search", "water", "--online")["online"]
    assert online[0]["files"][0]["url"] == "hf://owner/water/w.pt"


def test_the_card_has_all_that_is_known():
    text = run("show", "dpa-2.4-7m").stdout
    assert "7a5ca2b01579d9617502b4203af839107fdcf1ec7e3ae1d66a5b14811bc5b741" in text
    assert "#5444" in text
    assert "hf://deepmodelingcommunity/DPA-2.4-7M/DPA-2.4-7M-patched-mt.pt" in text
    assert "(through https://hf-mirror.com)" in text
    assert "CC-BY-4.0" in text
    assert "10.1038/s41524-024-01493-2" in text
    card = document("show", "DPA4-Air-OMat24")
    assert card["known_bad"] == [{"deepmd_kit": "<3.2", "reason": "it does not know DPA-4"}]
    assert card["file"] is None


def test_the_card_of_a_file_that_is_here_says_what_the_file_says():
    card = document("show", "water_tiny")
    assert card["file"]["branches"][0]["type_map"] == ["O", "H"]
    text = run("show", "water_tiny").stdout
    assert "771,500" in text
    assert "GFN2-xTB" in text
    from_path = document("show", card["path"])
    assert from_path["file"] == card["file"]
    assert "family" not in from_path


def test_an_unknown_model_says_which_is_near():
    with pytest.raises(RegistryError) as caught:
        run("show", "DPA2_mediun")
    assert "DPA2_medium" in caught.value.hint


def test_a_shell_completes_names_in_any_case_and_revisions_behind_the_at_sign(mine):
    mine("Own_model")
    names = [name for name, _ in complete_model("dpa2_")]
    assert names == ["DPA2_water_tiny", "DPA2_medium", "DPA2_medium_28_10M_rc0"]
    assert [name for name, _ in complete_model("own")] == ["Own_model"]
    assert [name for name, _ in complete_model("DPA4-Air-OMat24@")] == [
        "DPA4-Air-OMat24@v20260805",
        "DPA4-Air-OMat24@v20260704",
    ]
    assert list(complete_registry("m")) == ["mine"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3165455, "3.2 MB"),
        (1_500_000_000, "1.50 GB"),
    ],
)
def test_sizes_are_written_as_people_read_them(size, text):
    assert shown_size(size) == text
