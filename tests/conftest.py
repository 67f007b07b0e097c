"""What several tests need: no network, one thread, and the folder of real annotated text."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir(), "nerloop-hypothesis")))

ROOT = Path(__file__).resolve().parents[1]

# The same examples in each run, so that a failure is somebody's change; nothing is left in the working tree.
settings.register_profile("nerloop", derandomize=True, database=None, deadline=None)
settings.load_profile("nerloop")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real annotated text: NERLOOP_DATA, else shared/data beside the repository.

    Without it tests are skipped, or fail where NERLOOP_REQUIRE_DATA=1 says that it has to be there.
    """
    folder = Path(os.environ.get("NERLOOP_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"no folder {folder}: set NERLOOP_DATA to the one with wikigold and wnut17"
        if os.environ.get("NERLOOP_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder
