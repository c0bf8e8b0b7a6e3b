"""The random models leave no option of the architecture out."""

from functools import reduce
from operator import getitem

from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.model import EnergyFitting
from tests.physics.conftest import OPTIONS, sections_drawn

# What is not a matter of architecture, or has tests of its own (tests/model/test_golden.py).
FIXED = {
    "descriptor": {"type", "precision", "seed", "trainable", "repinit", "repformer"},
    "descriptor.repinit": {"rcut", "rcut_smth", "nsel"},
    "descriptor.repformer": {"rcut", "rcut_smth", "nsel"},
    "fitting_net": {
        *("type", "precision", "seed", "trainable", "rcond", "layer_name"),
        "default_fparam",
    },
}
SECTIONS = {
    "descriptor": Descriptor,
    "descriptor.repinit": Repinit,
    "descriptor.repformer": Repformer,
    "fitting_net": EnergyFitting,
}


def test_every_option_of_the_schema_is_drawn():
    for folder, schema in SECTIONS.items():
        drawn = {path.rsplit(".", 1)[1] for path in OPTIONS if path.rpartition(".")[0] == folder}
        assert drawn | FIXED[folder] == set(schema.model_fields)


def test_every_value_of_every_option_is_drawn_and_no_two_models_are_alike():
    sections = sections_drawn()
    for path, values in OPTIONS.items():
        drawn = [reduce(getitem, path.split("."), section) for section in sections]
        assert [v for v in values if v not in drawn] == [], path
    assert all(a != b for k, a in enumerate(sections) for b in sections[:k])
