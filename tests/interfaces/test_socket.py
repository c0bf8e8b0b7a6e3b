"""i-PI's protocol, through ASE: the recipe of docs/simulations.md."""

import threading

import numpy as np
from ase.calculators.socketio import SocketClient, SocketIOCalculator

from dpa2.ase import Calculator


def test_a_server_of_the_i_pi_protocol_gets_our_forces(atoms, water_model, tmp_path):
    name = tmp_path.name
    twin = atoms.copy()
    with SocketIOCalculator(unixsocket=name, timeout=60) as server:
        twin.calc = server

        def client():
            ours = atoms.copy()
            ours.calc = Calculator(water_model)
            SocketClient(unixsocket=name, timeout=60).run(ours, use_stress=True)

        thread = threading.Thread(target=client)
        thread.start()
        for step in range(3):
            np.testing.assert_allclose(twin.get_forces(), atoms.get_forces(), atol=1e-9)
            difference = twin.get_potential_energy() - atoms.get_potential_energy()
            assert abs(difference) < 1e-9
            np.testing.assert_allclose(twin.get_stress(), atoms.get_stress(), atol=1e-11)
            for structure in (twin, atoms):
                structure.rattle(0.02, seed=step)
    thread.join(timeout=60)
    assert not thread.is_alive()
