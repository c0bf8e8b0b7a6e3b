"""`.onnx` files: the program of a model (`dpa2.lower.export_program`) as an ONNX graph.

For runtimes without PyTorch. The caller searches the neighbours, as for `.pt2` files.
"""

import io
import json
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.conversion import PortableModel
from dpa2.formats.facts import OUTPUTS, facts_of
from dpa2.formats.table import Report
from dpa2.lower.export_program import export_model
from schemas.base.errors import ConversionError, first_line
from schemas.base.writing import atomic_write

INPUTS = ("coord", "atype", "nlist", "mapping")
_ATEN = torch.ops.aten
# ONNX takes means and variances in float32, and has no double-precision form, or none at all, of
# the others.
_TAKEN_APART = [
    _ATEN.native_layer_norm,
    _ATEN.gelu,
    _ATEN.gelu_backward,
    _ATEN.silu,
    _ATEN.silu_backward,
    _ATEN.softplus,
    _ATEN.softplus_backward,
    _ATEN.hardtanh_backward,
    _ATEN.threshold_backward,
]
_MISSING = "writing ONNX needs the packages onnx and onnxscript"


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a model as ONNX: arguments and results of `LowerModel`, sizes free.

    The file's metadata hold what `metadata.json` of a `.pt2` file does, and where it comes from.

    Args:
        portable: The model; its parameters lose their gradients.
        path: File to write.
        report: Told what is being done.

    Raises:
        ConversionError: If the packages are missing, or ONNX has no exact form of the model.
        WriteError: If the file cannot be written; an older one of that name is untouched.
    """
    try:
        import onnx
        from onnxscript import opset20 as op
    except ImportError as error:
        raise ConversionError(_MISSING, hint="pip install 'dpa-zoo[onnx]'") from error

    def scalar_tensor(s: float, dtype: int = 1, **_: Any) -> Any:
        # torch's own translation rounds every number to float32 first.
        return op.Constant(value=onnx.helper.make_tensor("number", int(dtype), [], [s]))

    model = portable.model
    names = list(INPUTS)
    names += ["fparam"] if model.fitting.num_fparam else []
    names += ["aparam"] if model.fitting.num_aparam else []
    with atomic_write(path) as stream, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        report("writing down the operators (1 of 2; up to a minute)")
        program = export_model(model, taken_apart=_TAKEN_APART)
        report("translating to ONNX (2 of 2; up to a minute)")
        try:
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=False,
                input_names=names,
                output_names=list(OUTPUTS),
                custom_translation_table={torch.ops.aten.scalar_tensor.default: scalar_tensor},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConversionError(
                f"ONNX cannot hold this model: {first_line(error.__cause__)[:200]}",
                hint="write a .pth, .pt2 or .savedmodel file instead",
            ) from error
        assert made is not None
        document = made.model_proto
        said = {
            "metadata": facts_of(
                model, portable.model_params, atomic_virial=False
            ).model_dump_json(),
            "model_def_script": json.dumps(portable.model_params),
            "history": json.dumps(portable.with_history()),
        }
        onnx.helper.set_model_props(document, said)
        stream.write(document.SerializeToString())
