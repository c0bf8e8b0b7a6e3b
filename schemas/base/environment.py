"""Environment variables and folders of this program; no other module reads them."""

import os
from pathlib import Path

from schemas.base.errors import TransferError

_TRUE = frozenset({"1", "true", "yes", "on"})


def cache_folder() -> Path:
    """Return where downloads and other things that can be made again are kept: `ZOO_CACHE`."""
    return _own_folder("ZOO_CACHE", "user_cache_path")


def config_folder() -> Path:
    """Return where the user's own settings are kept: `ZOO_CONFIG`."""
    return _own_folder("ZOO_CONFIG", "user_config_path")


def _own_folder(variable: str, usual: str) -> Path:
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(getattr(platformdirs, usual)("dpa-zoo"))


def is_offline() -> bool:
    """Return whether the network must stay unused: `ZOO_OFFLINE`, or `HF_HUB_OFFLINE`."""
    return bool(_offline_variables())


def demand_network(what: str, *, offline: bool = False) -> None:
    """Refuse what needs the network where it must stay unused.

    Args:
        what: What cannot be done, the beginning of the message.
        offline: Whether the option `--offline` is given.

    Raises:
        TransferError: `what` cannot be done; names the option or variable that says so.
    """
    ways = ["leave out --offline"] if offline else []
    ways += [f"unset {name}" for name in _offline_variables()]
    if ways:
        raise TransferError(
            f"{what} without the network, which is not to be used",
            hint=f"{', '.join(ways)}; `zoo list` shows what is on this machine",
        )


def _offline_variables() -> list[str]:
    return [
        name
        for name in ("ZOO_OFFLINE", "HF_HUB_OFFLINE")
        if os.environ.get(name, "").strip().lower() in _TRUE
    ]


def modelscope_endpoint() -> str:
    """Return the address of ModelScope: `MODELSCOPE_ENDPOINT`, or its usual one."""
    chosen = os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or "https://modelscope.cn"
    return (chosen if "://" in chosen else f"https://{chosen}").rstrip("/")


def aissquare_endpoint() -> str:
    """Return the address of the catalogue of AIS Square: `AISSQUARE_ENDPOINT`, or its usual one."""
    return (os.environ.get("AISSQUARE_ENDPOINT") or "https://backend.aissquare.com").rstrip("/")


def certificate_authorities() -> tuple[str, Path] | None:
    """Return the variable that names trusted certificates and the file or folder it names.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` are OpenSSL's, `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` what
    other tools of the same clusters read; None: the system's own.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        value = os.environ.get(name)
        if value:
            return name, Path(value).expanduser()
    return None


def huggingface_cache() -> Path:
    """Return where huggingface_hub keeps files: `HF_HUB_CACHE`, or below `HF_HOME`."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if chosen := os.environ.get(name):
            return Path(os.path.expandvars(chosen)).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")  # noqa: PTH118
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def modelscope_cache() -> Path:
    """Return where the client of ModelScope keeps files: `MODELSCOPE_CACHE`, or below the home."""
    return Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()


def quiet_tensorflow() -> None:
    """Let TensorFlow print errors only, unless its variable says otherwise; call before import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def modest_jax() -> None:
    """Let JAX take GPU memory as it needs it, not most of it at once; call before import."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def default_precision() -> str:
    """Return the type that `precision: default` stands for: `DP_INTERFACE_PREC`, high or low."""
    low = os.environ.get("DP_INTERFACE_PREC", "high").lower() == "low"
    return "float32" if low else "float64"
