"""Settings of every test, and of every program a test starts."""

import os

# Tests run side by side, one a core: threads of one would only wait for cores that others hold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
