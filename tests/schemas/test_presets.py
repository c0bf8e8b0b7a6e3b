import json
from pathlib import Path

import pytest

from schemas.check.input_file import check_text
from schemas.input.new_input import FITTING_NET, SIZES, descriptor

EXAMPLES = Path(__file__).parents[2] / "examples" / "water"
FILES = {"small": "input.json", "medium": "input_medium.json", "large": "input_large.json"}


@pytest.mark.parametrize("preset", SIZES)
def test_a_preset_has_the_network_of_the_example_of_its_name(preset):
    model = json.loads((EXAMPLES / FILES[preset]).read_text())["model"]
    assert descriptor(preset, 120, 48) == model["descriptor"]
    assert model["fitting_net"] == {"precision": "float64", **FITTING_NET}


@pytest.mark.parametrize("preset", SIZES)
@pytest.mark.parametrize("neighbors", [(0, 0), (4, 4), (8, 12), (400, 120)])
def test_a_preset_is_valid_whatever_the_numbers_of_neighbors(preset, neighbors):
    document = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": descriptor(preset, *neighbors),
            "fitting_net": FITTING_NET,
        }
    }
    report = check_text(json.dumps(document))
    wrong = [item for item in report.diagnostics if item.path[:1] == ("model",)]
    assert [item.message for item in wrong if item.severity == "error"] == []
