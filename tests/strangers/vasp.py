"""Output of VASP, as tests write it: two hydrogens and an oxygen in a cell."""

import numpy as np

CELL = [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 0.0, 6.0]]
COORD = [[0.1, 0.2, 0.3], [1.0, 0.2, 0.3], [0.1, 1.2, 0.3]]
FORCE = [[0.5, 0.0, -0.25], [-0.25, 0.0, 0.25], [-0.25, 0.0, 0.0]]


def outcar_head(names=("O", "H"), counts=(1, 2), title="water"):
    potcars = "".join(f"   TITEL  = PAW_PBE {name} 08Apr2002\n" for name in names)
    return (
        f" vasp.6.3.0\n POTCAR:    PAW_PBE {names[0]} 08Apr2002\n{potcars} POSCAR = {title}\n"
        f"   ions per type =  {'  '.join(map(str, counts))}\n"
        "   NELM   =      5;   NELMIN=  2\n   NWRITE =      2    write-flag\n"
    )


def outcar_step(energy, scf=3, force=FORCE, cell=CELL, pressure=(1, 2, 3, 4, 5, 6)):
    lines = [f"----- Iteration {1:6}({i + 1:4})  ----" for i in range(scf)]
    lines += ["------ aborting loop because EDIFF is reached ------"] if scf < 5 else []
    lines += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):", *["  Alpha Z  1 1 1"] * 13]
    lines += [f"  in kB  {'  '.join(f'{p:.5f}' for p in pressure)}"]
    lines += [" VOLUME and BASIS-vectors are now :", "", "", "", "      direct lattice vectors"]
    lines += ["  ".join(f"{x:.9f}" for x in row + [0.0] * 3) for row in cell]
    lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ----"]
    lines += ["  ".join(f"{x:.6f}" for x in [*p, *f]) for p, f in zip(COORD, force, strict=True)]
    lines += [" ----", f"  free  energy   TOTEN  =       {energy:.6f} eV", ""]
    lines += [f"  energy  without entropy=  {energy + 1}  energy(sigma->0) = {energy + 0.5}"]
    return "\n".join(lines) + "\n"


END = " General timing and accounting informations for this job:\n  Total CPU time used (sec): 1\n"


def vasprun(steps, names=("O", "H", "H"), close=True):
    rows = "".join(f"<rc><c>{n}</c><c>{1 + (n != 'O')}</c></rc>" for n in names)

    def vectors(name, values):
        body = "".join(f"<v>{' '.join(map(str, v))}</v>" for v in values)
        return f'<varray name="{name}">{body}</varray>'

    fractions = np.linalg.solve(np.array(CELL).T, np.array(COORD).T).T.tolist()
    text = (
        '<?xml version="1.0"?>\n<modeling><parameters><i name="NELM">     5</i></parameters>'
        f'<atominfo><array name="atoms"><set>{rows}</set></array></atominfo>'
    )
    for energy, scf in steps:
        text += "<calculation>" + "<scstep></scstep>" * scf
        text += f"<structure><crystal>{vectors('basis', CELL)}</crystal>"
        text += f"{vectors('positions', fractions)}</structure>{vectors('forces', FORCE)}"
        text += vectors("stress", [[1, 4, 6], [4, 2, 5], [6, 5, 3]])
        text += f'<energy><i name="e_fr_energy">{energy}</i></energy></calculation>\n'
    return text + ("</modeling>" if close else "")
