"""Write a model in the formats of deepmd-kit's JAX backend; needs the extras only when called."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpa2.jax.folder import replaced_folder
from dpa2.jax.requirements import need_to_write
from dpa2.jax.tensorflow_import import import_tensorflow
from dpa2.model.energy import EnergyModel

Report = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def write_savedmodel(
    model: EnergyModel,
    model_params: Mapping[str, Any],
    folder: Path | str,
    report: Report = _silent,
) -> None:
    """Write a TensorFlow SavedModel for deepmd-kit's JAX `DeepPot`, its C++ and LAMMPS.

    LAMMPS runs it on one rank and needs `atom_modify map yes`.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
        folder: To write; a SavedModel of that name is replaced. deepmd-kit knows the format by the
            suffix `.savedmodel`.
        report: Told what is being done; tracing takes half a minute or more.

    Raises:
        ConversionError: If JAX or TensorFlow is not installed, or the model is in half precision.
        WriteError: If the folder cannot be written, or something else has its name.
    """
    need_to_write("tensorflow")
    report("starting JAX and TensorFlow")
    import_tensorflow()
    import jax

    from dpa2.jax import savedmodel
    from dpa2.jax.facts import facts_of
    from dpa2.jax.from_torch import weights_of

    weights = weights_of(model)
    with replaced_folder(Path(folder)) as fresh, jax.enable_x64(True):
        savedmodel.save(model.config, weights, facts_of(model, model_params), fresh, report)


def write_hlo(
    model: EnergyModel,
    model_params: Mapping[str, Any],
    path: Path | str,
    report: Report = _silent,
) -> None:
    """Write a `.hlo` file for deepmd-kit's JAX `DeepPot`: StableHLO programs and the weights.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
        path: File to write.
        report: Told what is being done; tracing takes some seconds.

    Raises:
        ConversionError: If JAX is not installed, or the model is in half precision.
        WriteError: If the file cannot be written.
    """
    need_to_write("jax")
    report("starting JAX")
    import jax

    from dpa2.convert.dictionary import to_dictionary
    from dpa2.convert.hdf5_file import write_hdf5
    from dpa2.jax import hlo
    from dpa2.jax.facts import facts_of
    from dpa2.jax.from_torch import weights_of

    weights = weights_of(model)
    facts = facts_of(model, model_params)
    plain = to_dictionary(model, model_params)
    with jax.enable_x64(True):
        dictionary = hlo.with_programs(model.config, weights, facts, plain, report)
    report("writing the file")
    write_hdf5(Path(path), dictionary)
