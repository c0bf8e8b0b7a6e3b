"""An ASE script for a structure and a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpa2.interfaces.simulation import MdSettings

_INTEGRATORS = {
    "nve": ("from ase.md.verlet import VelocityVerlet", "VelocityVerlet", ""),
    "nvt": (
        "from ase.md.nose_hoover_chain import NoseHooverChainNVT",
        "NoseHooverChainNVT",
        "    temperature_K={temperature},\n    tdamp=100 * timestep,\n",
    ),
    "npt": (
        "from ase.md.nose_hoover_chain import IsotropicMTKNPT",
        "IsotropicMTKNPT",
        (
            "    temperature_K={temperature},\n    pressure_au={pressure} * units.bar,\n"
            "    tdamp=100 * timestep,\n    pdamp=1000 * timestep,\n"
        ),
    ),
}

_SCRIPT = """\
\"\"\"{ensemble} with {model}; start with: python {script}\"\"\"

import numpy as np
from ase import units
from ase.io import read
{imports}

from dpa2.ase import Calculator

atoms = read("{structure}")
atoms.calc = Calculator({arguments})
if not atoms.get_momenta().any():
    rng = np.random.default_rng({seed})
    masses = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * {temperature})
    # The centre of mass stays where it is.
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())

timestep = {timestep} * units.fs
dynamics = {integrator}(
    atoms,
    timestep=timestep,
{options}    trajectory="trajectory.traj",
    logfile="md.log",
    loginterval={dump_every},
)
dynamics.run({steps})
"""


def ase_script(
    settings: "MdSettings", files: Sequence[str], *, branch: str | None, device: str
) -> str:
    """Return the script.

    Args:
        settings: What to simulate.
        files: Names of script, structure and model.
        branch: Branch of a multi-task checkpoint.
        device: Where to compute.
    """
    script, structure, model = files
    an_import, integrator, options = _INTEGRATORS[settings.ensemble]
    arguments = repr(model)
    arguments += "" if branch is None else f", branch={branch!r}"
    arguments += "" if device == "cpu" else f", device={device!r}"
    return _SCRIPT.format(
        ensemble=settings.ensemble.upper(),
        model=model,
        script=script,
        imports=an_import,
        structure=structure,
        arguments=arguments.replace("'", '"'),
        seed=settings.seed,
        temperature=settings.temperature,
        timestep=settings.timestep,
        integrator=integrator,
        options=options.format(temperature=settings.temperature, pressure=settings.pressure),
        dump_every=settings.dump_every,
        steps=settings.steps,
    )
