"""`--fix` moves keys of YAML with their lines and comments, or says that it cannot."""

import pytest

from schemas.check.input_file import check_text, fix_text

OLD = """# of long ago
model:
  type_map: [O, H]
  descriptor:
    type: dpa2
    repinit_rcut: 6.0   # far
    repinit_rcut_smth: 0.5
    repinit_nsel: 120
    tebd_dim: 8
    repformer_rcut: 4.0
    repformer_rcut_smth: 3.5
    repformer_nsel: 40
  fitting_net:
    neuron: [24, 24]
learning_rate:
  start_lr: 0.001
  stop_lr: 1.0e-6
loss:
  start_pref_e: 1
  limit_pref_e: 1

# how
training:
  systems:
  - data/water
  # a comment
  - data/ice
  batch_size: auto
  set_prefix: set
  opt_type: Adam
  adam_beta1: 0.9
  numb_steps: 1000
"""
NEW = """# of long ago
model:
  type_map: [O, H]
  descriptor:
    type: dpa2
    repinit:
      rcut: 6.0   # far
      rcut_smth: 0.5
      nsel: 120
      tebd_dim: 8
    repformer:
      rcut: 4.0
      rcut_smth: 3.5
      nsel: 40
      use_sqrt_nnei: false
      g1_out_conv: false
      g1_out_mlp: false
  fitting_net:
    neuron: [24, 24]
learning_rate:
  start_lr: 0.001
  stop_lr: 1.0e-6
loss:
  start_pref_e: 1
  limit_pref_e: 1

# how
training:
  numb_steps: 1000
  training_data:
    systems:
    - data/water
    # a comment
    - data/ice
    batch_size: auto
optimizer:
  type: Adam
  adam_beta1: 0.9
"""


def test_old_layouts_in_yaml_become_those_of_today():
    assert fix_text(OLD, "input.yaml").text == NEW


def test_line_ends_of_windows_stay():
    fixed = fix_text(OLD.replace("\n", "\r\n"), "input.yaml").text
    assert fixed == NEW.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "training: {numb_steps: 9, systems: [a], batch_size: 1}\n",
        "training:\n  numb_steps: 9\n  systems: &here [a]\n  batch_size: 1\n",
        "training:\n  opt_type: Adam\noptimizer: {adam_beta1: 0.9}\n",
    ],
)
def test_what_cannot_be_moved_line_by_line_stays_and_is_explained(text):
    assert fix_text(text, "input.yaml").text == text
    (item,) = [item for item in check_text(text, "input.yaml").diagnostics if item.code == "ZOO110"]
    assert item.fix is None
    assert item.hint is not None
    assert "write it there" in item.hint
    assert "--fix cannot do this in YAML" in item.hint
