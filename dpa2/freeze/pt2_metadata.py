"""What a `.pt2` file says about itself, to deepmd-kit and to us (docs/deepmd-format.md, 9)."""

import json
import platform
import sys
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from dpa2.convert.portable import SOFTWARE, software_version
from dpa2.model.energy import EnergyModel

OUTPUTS = (
    "energy",
    "mask",
    "energy_redu",
    "energy_derv_r",
    "energy_derv_c",
    "energy_derv_c_redu",
)
"""What the program returns, in this order (docs/deepmd-format.md, 9)."""

# x86 processors that run the code of an earlier one in this list run that of a later one, too.
_X86 = ("DEFAULT", "AVX2", "AVX512")


class Metadata(BaseModel):
    """`metadata.json`, in deepmd-kit's words; the constants are what is true of every DPA-2 model.

    Attributes:
        type_map: Element of each type.
        rcut: Å.
        sel: Neighbour capacity, one entry for all types.
        nnei: The same, as a number.
        dim_fparam: Frame parameters that it takes.
        dim_aparam: Parameters per atom that it takes.
        has_default_fparam: Whether `default_fparam` has numbers.
        default_fparam: What callers pass on where they are given no frame parameters.
        fitting_output_defs: What the network predicts.
        sel_type: Types whose atoms have energies.
        has_comm_artifact: Whether there is a second program for several MPI ranks.
        lower_input_kind: `nlist`: the program takes atoms with ghosts and a neighbour list.
        pair_exclude_types: Pairs of types that the caller must leave out of the list. None: our
            programs do so themselves, after the list was cut to `nnei`, as in training.
        do_atomic_virial: Whether the virial is split among atoms.
        output_keys: What the program returns.
    """

    model_config = ConfigDict(extra="ignore")

    type_map: list[str]
    rcut: float
    sel: list[int]
    nnei: int
    dim_fparam: int
    dim_aparam: int
    dim_chg_spin: int = 0
    mixed_types: bool = True
    has_default_fparam: bool = False
    default_fparam: list[float] | None = None
    has_chg_spin_ebd: bool = False
    has_default_chg_spin: bool = False
    default_chg_spin: list[float] | None = None
    chg_spin_table_ranges: list[Any] | None = None
    fitting_output_defs: list[dict[str, Any]]
    sel_type: list[int]
    is_spin: bool = False
    has_comm_artifact: bool = False
    has_message_passing: bool = True
    lower_input_kind: str = "nlist"
    graph_edge_dtype: str = "float64"
    pair_exclude_types: list[list[int]] = []
    do_atomic_virial: bool = True
    output_keys: list[str]


class Build(BaseModel):
    """`dpa_zoo.json`: what made the program, and for which machines.

    Attributes:
        pytorch: Its version.
        device: `cpu` or `cuda`.
        machine: Kind of processor, such as `x86_64`.
        cpu: Instructions that the program uses, as PyTorch calls them.
        gpu: Compute capability, such as `9.0`; empty on a CPU.
        history: Where the weights come from (`PortableModel.with_history`).
    """

    model_config = ConfigDict(extra="ignore")

    software: str
    version: str
    pytorch: str
    python: str
    device: Literal["cpu", "cuda"]
    machine: str
    cpu: str
    gpu: str = ""
    history: list[dict[str, Any]] = []

    def foreign_to(self, device: torch.device) -> str | None:
        """Return why the program cannot run on a device of this machine; None if it can."""
        if self.device != device.type:
            return f"it was compiled for {self.device}, not for {device.type}"
        here = platform.machine()
        if self.machine != here:
            return f"it was compiled for {self.machine} processors, and this one is {here}"
        if self.device == "cuda":
            capability = _capability(device)
            if self.gpu != capability:
                return (
                    f"it was compiled for GPUs of compute capability {self.gpu}, not {capability}"
                )
            return None
        cpu = torch.backends.cpu.get_cpu_capability()
        both = (self.cpu, cpu)
        runs = cpu == self.cpu
        if all(name in _X86 for name in both):
            runs = _X86.index(self.cpu) <= _X86.index(cpu)
        if not runs:
            return f"it was compiled for processors with {self.cpu}, and this one has {cpu}"
        return None

    @property
    def is_of_this_torch(self) -> bool:
        """Whether this is the release of PyTorch that compiled the program."""
        return _release(self.pytorch) == _release(torch.__version__)


def metadata_of(model: EnergyModel, *, atomic_virial: bool) -> Metadata:
    """Return what a file must say about a model."""
    nsel = int(model.cutoffs().nsel)
    fitting = model.config.fitting_net
    default = fitting.default_fparam if model.fitting.has_default_fparam else None
    excluded = model.config.atom_exclude_types
    return Metadata(
        type_map=list(model.type_map),
        rcut=float(model.rcut),
        sel=[nsel],
        nnei=nsel,
        dim_fparam=model.fitting.num_fparam,
        dim_aparam=model.fitting.num_aparam,
        has_default_fparam=default is not None,
        default_fparam=None if default is None else [float(value) for value in default],
        fitting_output_defs=[_output("energy", physical=True), _output("mask", physical=False)],
        sel_type=[k for k in range(len(model.type_map)) if k not in excluded],
        do_atomic_virial=atomic_virial,
        output_keys=list(OUTPUTS),
    )


def build_of(device: torch.device, history: list[dict[str, Any]]) -> Build:
    """Return a description of this machine and these versions."""
    return Build(
        software=SOFTWARE,
        version=software_version(),
        pytorch=torch.__version__,
        python=".".join(map(str, sys.version_info[:3])),
        device="cuda" if device.type == "cuda" else "cpu",
        machine=platform.machine(),
        cpu=torch.backends.cpu.get_cpu_capability(),
        gpu=_capability(device) if device.type == "cuda" else "",
        history=history,
    )


def to_json(dictionary: Mapping[str, Any]) -> str:
    """Return a model's dictionary as JSON, arrays as deepmd-kit's readers expect them."""

    def array(value: Any) -> dict[str, Any]:
        return {
            "@class": "np.ndarray",
            "@is_variable": True,
            "dtype": value.dtype.name,
            "value": value.tolist(),
        }

    return json.dumps(dictionary, default=array, separators=(",", ":"))


def _output(name: str, *, physical: bool) -> dict[str, Any]:
    return {
        "name": name,
        "shape": [1],
        "reducible": physical,
        "r_differentiable": physical,
        "c_differentiable": physical,
        "atomic": True,
        "category": 0,
        "r_hessian": False,
        "magnetic": False,
        "intensive": False,
    }


def _capability(device: torch.device) -> str:
    return ".".join(map(str, torch.cuda.get_device_capability(device)))


def _release(version: str) -> list[str]:
    return version.split(".")[:2]
